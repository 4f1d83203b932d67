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


_FEW = 6
"""So many names are quickly read beside the nearest one."""
_MANY = 40


def near_miss(value: str, allowed: Iterable[str], listed: str = "`--help` lists all.") -> str:
    """Ending of an error message for an unknown name: the closest allowed name, or all of them.

    Args:
        value: what the user wrote.
        allowed: the names that there are.
        listed: where all of them are listed; said in the place of a long list.

    >>> near_miss("dah", ["dha", "dpe"])
    "Did you mean 'dha'? Allowed: dha, dpe."
    >>> near_miss("sevn", ["one", "two", "three", "four", "five", "six", "seven"])
    "Did you mean 'seven'? `--help` lists all."
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    if close and len(names) > _FEW:
        return f"{hint}{listed}".rstrip()
    if len(names) > _MANY:
        return f"Allowed: {', '.join(names[:_FEW])}, … ({len(names)} names). {listed}".rstrip()
    return f"{hint}Allowed: {', '.join(names) or '(none)'}."
