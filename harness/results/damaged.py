"""What cannot be read is set aside, named, and done again; it never ends a sweep, and nothing is thrown away."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.clicking.records import BadRecord

Tell = Callable[[str], None]
_NAMED = 5


@dataclass(frozen=True)
class BadLine:
    """A line of a file that is no record of it.

    Attributes:
        number: from 1.
        data: as it stands in the file, without its end.
        reason: what is wrong with it.
    """

    number: int
    data: bytes
    reason: str


def parse(data: bytes) -> Any:
    """The JSON value of a line or a file.

    Raises:
        BadRecord: it is none.
    """
    if not data.strip():
        raise BadRecord("an empty line")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"not JSON ({' '.join(str(error).split())[:80]})") from error


def keep_lines(path: Path, lines: Sequence[BadLine], tell: Tell) -> None:
    """Add lines to `PATH.damaged` and say so; taking them out of the file is the caller's part.

    Args:
        tell: called with one line of text.
    """
    if not lines:
        return
    aside = _aside(path)
    with open(aside, "ab") as file:
        file.write(b"".join(line.data + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    numbers = ", ".join(str(line.number) for line in lines[:_NAMED])
    more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    tell(
        f"{path.parent.name}/{path.name}, line{'s' * (len(lines) > 1)} {numbers}{more}: {lines[0].reason}; "
        f"set aside in {aside.name}, done again."
    )


def keep_file(path: Path, reason: str, tell: Tell) -> Path:
    """Rename a file to `PATH.damaged` (or `.damaged.2`, …), say so, and give its new path."""
    aside = _aside(path)
    number = 2
    while aside.exists():
        aside = path.with_name(f"{path.name}.damaged.{number}")
        number += 1
    os.replace(path, aside)
    tell(f"{path.parent.name}/{path.name}: {reason}; set aside as {aside.name}, done again.")
    return aside


def read_json(path: Path, check: Callable[[Any], Any], tell: Tell) -> dict[str, Any]:
    """A small JSON file as a mapping; {} where it is missing, or damaged and set aside.

    Args:
        check: raises BadRecord where the content is not what it should be; gets the parsed mapping.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        value = parse(data)
        if not isinstance(value, Mapping):
            raise BadRecord(f"line 1: not a mapping but {type(value).__name__}")
        check(value)
    except BadRecord as error:
        keep_file(path, str(error), tell)
        return {}
    return dict(value)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")
