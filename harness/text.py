"""Text that can be shown, stored and encoded everywhere, made from names that came from a file system."""

from __future__ import annotations

import os
import unicodedata

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode's marks of writing direction."""


def printable(text: str | os.PathLike[str]) -> str:
    r"""The text on one line and free of what UTF-8 cannot encode.

    A file name is bytes; those that are not UTF-8 reach Python as lone surrogates, which no table, data base or
    terminal takes. They are written as `\xe9`, a newline as `\n`, and other control characters as `\x07`.

    >>> printable("caf\udce9") == "caf" + chr(92) + "xe9"
    True
    """
    plain = os.fspath(text)
    if plain.isprintable():
        return plain
    # Surrogates that stand for no byte (only text made by programs has them) keep their own escape.
    plain = "".join(ascii(c)[1:-1] if "\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" else c for c in plain)
    decoded = plain.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or not _control(c) else ascii(c)[1:-1] for c in decoded)


def visible(text: str | os.PathLike[str]) -> str:
    r"""The text as it may stand in a line that people read: printable, and in the order in which it was written.

    Marks that turn the direction of what follows are written out (`\u202e`): they make `gpj.exe` look like `exe.jpg`.

    >>> visible("a" + chr(0x202E) + "b") == "a" + chr(92) + "u202eb"
    True
    """
    return "".join(f"\\u{ord(c):04x}" if c in _TURNING else c for c in printable(text))


def sample_name(stem: str) -> str:
    """A stem as the name of a sample: printable, in Unicode's composed form (macOS stores the decomposed one)."""
    return unicodedata.normalize("NFC", printable(stem))


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(42.4), duration(1800), duration(7200)
    ('42 s', '30 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
