"""The rows of a file of recorded clicks, this project's or RClicks' own (NeurIPS 2024).

RClicks has the columns `dataset, full_stem, image_stem, object_stem, click_type (first, fp, fn), model_type, device, x,
y, w, h`; x and y are pixels of an image shown at w x h.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.clicking.recorded import ACTIONS, COLUMNS, VERSION, RecordedClick, whole_length
from harness.errors import UserError
from harness.text import visible

_NEEDED = ("image", "click", "y", "x", "positive")
_RCLICKS = ("image_stem", "click_type", "x", "y", "w", "h")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True)
class Rows:
    """All rows of a file in its order; `left_out` as in `Recording`."""

    clicks: tuple[RecordedClick, ...]
    left_out: int = 0


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Every row of a file, undone and replaced clicks included; a last line that a kill cut off is left out.

    Raises:
        UserError: as `read`.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"recorded clicks {path}: {error.strerror or error}. Give a CSV file of clicks.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}. Save the CSV as UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text[: whole_length(text)], newline=""), strict=True)
    try:
        columns = tuple(reader.fieldnames or ())
        theirs = set(_RCLICKS) <= set(columns)
        missing = [] if theirs else [name for name in _NEEDED if name not in columns]
        if missing:
            raise UserError(
                f"{path}: no column {missing[0]!r}. Recorded clicks have {', '.join(COLUMNS[:9])} "
                f"(RClicks' own columns are read, too); this file has {', '.join(map(repr, columns[:12])) or 'none'}."
            )
        return _rclicks_rows(path, reader) if theirs else Rows(tuple(_own_rows(path, reader)))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}. The file is no whole CSV.") from error


def _own_rows(path: Path, reader: csv.DictReader[str]) -> Iterator[RecordedClick]:
    for row in reader:
        cell = _Cells(path, reader.line_num, row)
        version = cell.whole("version", default=VERSION, least=1)
        if version > VERSION:
            raise cell.error(f"version {version}, and this program reads version {VERSION}. Use a newer one")
        action = cell.text("action") or "click"
        if action not in ACTIONS:
            raise cell.error(f"action {action!r}; allowed: {', '.join(ACTIONS)}")
        seen = action == "click"
        yield RecordedClick(
            image=cell.needed("image"),
            object=cell.text("object"),
            click=cell.whole("click", least=0 if action == "show" else 1),
            y=cell.number("y") if seen else 0.0,
            x=cell.number("x") if seen else 0.0,
            positive=cell.truth("positive") if seen else False,
            user=cell.text("user"),
            device=cell.text("device"),
            time=cell.number("time", default=math.nan),
            height=cell.whole("height", default=0),
            width=cell.whole("width", default=0),
            dataset=cell.text("dataset"),
            action=action,
            version=version,
        )


def _rclicks_rows(path: Path, reader: csv.DictReader[str]) -> Rows:
    """RClicks' file names no users: the first clicks on an object are of users 1, 2, …"""
    clicks: list[RecordedClick] = []
    counts: dict[tuple[str, str, str], int] = {}
    left_out = 0
    for row in reader:
        cell = _Cells(path, reader.line_num, row)
        kind = cell.text("click_type")
        if kind not in ("first", "fp", "fn"):
            raise cell.error(f"click_type {kind!r}; allowed: first, fp, fn")
        if kind != "first":
            left_out += 1
            continue
        key = (cell.text("dataset"), cell.needed("image_stem"), cell.text("object_stem"))
        counts[key] = counts.get(key, 0) + 1
        clicks.append(
            RecordedClick(
                image=key[1],
                object=key[2],
                click=1,
                y=cell.number("y"),
                x=cell.number("x"),
                positive=True,
                user=str(counts[key]),
                device=cell.text("device"),
                height=cell.whole("h", least=1),
                width=cell.whole("w", least=1),
                dataset=key[0],
            )
        )
    return Rows(tuple(clicks), left_out)


@dataclass(frozen=True)
class _Cells:
    """One row's values as text; every error names file and line."""

    path: Path
    line: int
    row: Mapping[str, str | None]

    def error(self, text: str) -> UserError:
        return UserError(f"{self.path}, line {self.line}: {text}.")

    def text(self, name: str) -> str:
        if None in self.row or None in self.row.values():
            raise self.error(f"{'more' if None in self.row else 'fewer'} values than columns")
        return self.row.get(name) or ""

    def needed(self, name: str) -> str:
        return self.text(name) or self._refuse(name, "a name")

    def number(self, name: str, default: float | None = None) -> float:
        text = self.text(name)
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            return float(self._refuse(name, "a number"))
        return value if math.isfinite(value) or default is not None else float(self._refuse(name, "a finite number"))

    def whole(self, name: str, default: int | None = None, least: int = 0) -> int:
        text = self.text(name)
        if not text and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not value.is_integer() or value < least:
            self._refuse(name, f"a whole number from {least}")
        return int(value)

    def truth(self, name: str) -> bool:
        text = self.text(name).lower()
        return text in _TRUE if text in _TRUE + _FALSE else bool(self._refuse(name, "true or false"))

    def _refuse(self, name: str, kind: str) -> str:
        raise self.error(f"{name}={visible(self.text(name))[:40]!r} is not {kind}")
