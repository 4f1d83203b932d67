"""What the variants answered: answers.csv beside the recorded clicks, a row a click and variant."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from harness.errors import UserError
from harness.text import printable

VERSION = 1
"""Form of a row. Rows of a higher one are refused."""


@dataclass(frozen=True)
class AnswerRow:
    """One variant's answer to a click and all clicks before it.

    Attributes:
        image, object, click, y, x, positive, user: as in the recorded clicks.
        variant: its name, with the switches that were set on the page.
        iou, biou: 0..1; NaN where the object is not known or mask and truth are empty.
        encode_ms: time of the image's encoding, which variants with one encoder share.
        online_ms: time of this answer.
        mask: digest of the answer's mask, equal exactly for equal masks.
        dataset: its name.
        version: form of the row.
    """

    image: str
    object: str
    click: int
    y: int
    x: int
    positive: bool
    user: str
    variant: str
    iou: float
    biou: float
    encode_ms: float
    online_ms: float
    mask: str
    dataset: str = ""
    version: int = VERSION


COLUMNS = tuple(field.name for field in fields(AnswerRow))


class AnswerWriter:
    """Appends answers to a file; each has left this process when `add` returns.

    Args:
        path: file; created with its header if it is new. A last line that a kill cut off is taken away.

    Raises:
        UserError: it cannot be written, or is a file of another kind.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (open as long as the page)
            data = path.read_bytes()
            whole, header = data[: data.rfind(b"\n") + 1], (",".join(COLUMNS) + "\n").encode()
            if not header.startswith(data[: len(header)]):
                self._file.close()
                raise UserError(f"{path}: its first line is not that of answers.csv. Choose another out=DIR.")
            self._file.truncate(len(whole))
            if not whole:
                self._file.write(header)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}. Choose another out=DIR.") from error

    def add(self, row: AnswerRow) -> None:
        """Append a row with one write; OSError if the disk is full."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(_cells(row))
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: str | os.PathLike[str]) -> list[AnswerRow]:
    """The rows of a file in its order; a line that a kill cut off is left out.

    Raises:
        UserError: no such file, other columns, or a value of another kind; the message names file and line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Give the folder that harness.click wrote.") from error
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    heading = tuple(next(reader, ()))
    if heading != COLUMNS:
        raise UserError(f"{path}: its columns are {', '.join(heading[:9]) or 'none'}, not those of answers.csv.")
    return [_row(path, reader.line_num, line) for line in reader if len(line) == len(COLUMNS)]


def _row(path: Path, number: int, line: list[str]) -> AnswerRow:
    try:
        image, object_, click, y, x, positive, user, variant, iou, biou, encode, online, mask, dataset, version = line
        row = AnswerRow(
            image=image,
            object=object_,
            click=int(click),
            y=int(y),
            x=int(x),
            positive={"true": True, "false": False}[positive],
            user=user,
            variant=variant,
            iou=_number(iou),
            biou=_number(biou),
            encode_ms=float(encode),
            online_ms=float(online),
            mask=mask,
            dataset=dataset,
            version=int(version),
        )
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}, line {number}: {error} is no value of its column.") from error
    if row.version > VERSION:
        raise UserError(
            f"{path}, line {number}: version {row.version}, and this program reads version {VERSION}. Use a newer one."
        )
    if any(value < 0 or value > 1 for value in (row.iou, row.biou)):  # NaN passes
        raise UserError(f"{path}, line {number}: an overlap outside 0..1.")
    return row


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _cells(row: AnswerRow) -> Iterator[str]:
    for value in astuple(row):
        if isinstance(value, bool):
            yield "true" if value else "false"
        elif isinstance(value, float):
            yield "" if math.isnan(value) else repr(round(value, 6))
        else:
            yield printable(str(value))  # a row is a line
