"""What a weight file may be, checked before anything of it is decoded, and how its names appear in messages."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_ENTRIES = 65_536
"""Tensors of a file, and members of an archive; the largest system here has about 1,500."""
MOST_NAME = 512
"""Characters of a tensor's name."""
MOST_DIMENSIONS = 16
MOST_DIRECTORY = 16 << 20
"""Bytes of an archive's table of contents."""
MOST_PICKLE = 64 << 20
"""Bytes of the pickled part of a torch file, which holds names and shapes but no values."""
MOST_STEPS = 3_000_000
"""Instructions of the pickled part; a state of 1,000 tensors takes about 30,000."""
MOST_HEADER = 16 << 20
"""Bytes of a safetensors header."""
MOST_JSON = 1 << 20
"""Bytes of a configuration inside a file's metadata."""
MOST_DEPTH = 32
"""Nesting of a header and of a configuration."""
MOST_BASES = 4
"""Files that lean on one another."""

CONVERT = "`python -m harness.convert FILE` writes the tensors that it can find as .safetensors"


class WeightFileError(ValueError):
    """A file that is no weight file, damaged, or over a limit; the message is one line without the file's name."""


def damaged(cause: object) -> WeightFileError:
    """The error of a file whose bytes are not what they should be."""
    return WeightFileError(f"cannot be read: damaged, cut off or no weight file ({shown(cause, 200)})")


def refused(cause: str) -> WeightFileError:
    """The error of a file that could be read but shall not be."""
    return WeightFileError(f"cannot be read: {cause}")


def regular_file(path: Path) -> int:
    """Return the size in bytes of a plain file that is not empty; nothing is opened, so a FIFO cannot block.

    Raises:
        WeightFileError: nothing there, a folder, a FIFO, a device, an empty file, or no permission.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError:
        raise WeightFileError("does not exist; give a .pth or .safetensors file") from None
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long, a zero byte, no permission
        cause = getattr(error, "strerror", None) or error
        raise WeightFileError(f"cannot be opened ({shown(cause)}); give a .pth or .safetensors file") from error
    if stat.S_ISDIR(state.st_mode):
        raise WeightFileError("is a folder; give a .pth or .safetensors file")
    if not stat.S_ISREG(state.st_mode):
        raise WeightFileError("is a FIFO, socket or device, not a file; give a .pth or .safetensors file")
    if state.st_size == 0:
        raise damaged("the file is empty")
    if not os.access(path, os.R_OK):
        raise WeightFileError("cannot be opened (no permission to read it)")
    return state.st_size


def most_tensor_bytes() -> int:
    """Bytes of tensors that are taken into memory from one file: half of the machine's memory, at least 4 GiB."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        memory = 0
    return max(4 << 30, memory // 2)


def parse_json(text: str | bytes, what: str, most: int = MOST_JSON) -> Any:
    """Decode JSON of a limited length and nesting, in which no name comes twice.

    Raises:
        WeightFileError: it is longer, nested deeper, or no JSON.
    """
    if len(text) > most:
        raise refused(f"{what} is {len(text):,} bytes long; at most {most:,} are read")
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        if _depth(decoded) > MOST_DEPTH:
            raise refused(f"{what} is nested deeper than {MOST_DEPTH} levels")
        return json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant)
    except WeightFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise damaged(f"{what} is not JSON: {error}") from error


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside of strings."""
    depth = deepest = position = 0
    while position < len(text):
        character = text[position]
        if character == '"':
            position = _after_string(text, position + 1)
            continue
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MOST_DEPTH:
                break
        elif character in "]}":
            depth -= 1
        position += 1
    return deepest


def _after_string(text: str, position: int) -> int:
    while True:
        end = text.find('"', position)
        if end < 0:
            return len(text)
        backslashes = end - len(text[position:end].rstrip("\\")) - position
        if backslashes % 2 == 0:
            return end + 1
        position = end + 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name comes twice")
    return entries


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def shown(value: object, length: int = 80) -> str:
    """Text of a file as a message may hold it: one line, no control characters or lone surrogates, not too long."""
    text = " ".join(str(value).split())
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= length else f"{text[: length - 1]}…"


def some(names: Any, limit: int = 3) -> str:
    """The first few of some names, as a message shows them."""
    names = list(names)
    return ", ".join(shown(name) for name in names[:limit]) + (", …" if len(names) > limit else "")
