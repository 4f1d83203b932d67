"""The two kinds of trouble that are not bugs of the harness."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from harness.text import printable


class _Told(Exception):
    """Its message can be printed and stored, whatever file names it quotes."""

    def __init__(self, *arguments: object):
        super().__init__(*(printable(a) if isinstance(a, str) else a for a in arguments))


class UserError(_Told):
    """Something the user can fix: the message names the value, what is allowed, and the fix; exit code 2."""


class SampleError(_Told):
    """One sample cannot be used (unreadable image, mask of another size, …). It becomes a row of failures.csv."""


def near_miss(value: str, allowed: Iterable[str]) -> str:
    """Ending of an error message for an unknown name: the closest allowed names, then all of them.

    >>> near_miss("dah", ["dha", "dpe"])
    "Did you mean 'dha'? Allowed: dha, dpe."
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(names) or '(none)'}."
