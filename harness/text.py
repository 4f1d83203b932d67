"""Text that can be shown, stored and encoded everywhere, made from names that came from a file system."""

from __future__ import annotations

import os
import unicodedata


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
    decoded = plain.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or not _control(c) else ascii(c)[1:-1] for c in decoded)


def sample_name(stem: str) -> str:
    """A stem as the name of a sample: printable, in Unicode's composed form (macOS stores the decomposed one)."""
    return unicodedata.normalize("NFC", printable(stem))


def _control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
