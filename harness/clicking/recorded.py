"""Clicks of people: the CSV that holds them, and its writer. `recorded_rows` and `recording` read it.

One row a click, written as it comes, never changed afterwards (docs/protocols.md, "Recorded clicks"):

    image,object,click,y,x,positive,user,device,time,height,width,dataset,action,version

A click takes the place of every earlier click of the same number or a higher one by the same user on the same object,
so that a restart is simply click 1 again; the action `undo` takes click `click` and the higher ones away.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from harness.errors import UserError
from harness.sample import Sample
from harness.segmenter import Click
from harness.text import visible

VERSION = 1
"""Form of a row. Rows of a higher one are refused."""

ACTIONS = ("click", "undo", "show")


@dataclass(frozen=True)
class RecordedClick:
    """One row of the file.

    Attributes:
        image, object: of the sample; its name is `image`, or `image#object` where `object` is not "".
        click: number within the episode, from 1; 0 for `show`.
        y, x: pixel of the image as it was shown, row and column from 0; fractions lie inside that pixel.
        positive: whether it marks the object.
        user: who clicked.
        device: pc, mobile, … or "".
        time: seconds since 1970 (UTC); NaN where not known. Times between clicks are differences.
        height, width: size at which the image was shown; 0: its own size.
        dataset: its name, or "".
        action: `click`; `undo`: click `click` and the higher ones are taken back; `show`: the image appeared.
        version: form of the row.
    """

    image: str
    object: str
    click: int
    y: float
    x: float
    positive: bool
    user: str
    device: str = ""
    time: float = math.nan
    height: int = 0
    width: int = 0
    dataset: str = ""
    action: str = "click"
    version: int = VERSION

    @property
    def sample(self) -> str:
        """Name of the sample that was clicked."""
        return f"{self.image}#{self.object}" if self.object else self.image

    def on(self, shape: tuple[int, ...]) -> Click:
        """The click in pixels of an image of `shape` (height, width, …).

        Raises:
            UserError: it lies outside.
        """
        height, width = self.height or shape[0], self.width or shape[1]
        if not (0 <= self.y < height and 0 <= self.x < width):
            raise UserError(
                f"recorded click {self.click} of user {visible(self.user)!r} on {visible(self.sample)!r}: "
                f"(y, x) = ({self.y:g}, {self.x:g}) lies outside the image of {height} x {width} pixels (height x "
                "width). Correct the row, or give the size at which the image was shown in `height` and `width`."
            )
        y, x = int(self.y * shape[0] / height), int(self.x * shape[1] / width)
        return Click(min(y, shape[0] - 1), min(x, shape[1] - 1), self.positive)


COLUMNS = tuple(f.name for f in fields(RecordedClick))


def names_of(sample: Sample) -> tuple[str, str]:
    """Columns `image` and `object` for a sample: `name#1` of image `name` is its object 1."""
    source = sample.source
    if source and sample.name.startswith(f"{source}#"):
        return source, sample.name[len(source) + 1 :]
    return sample.name, ""


class Writer:
    """Appends clicks to a file, each safe on the disk before `add` returns.

    Several writers, in one process or in several, may share a file. A file that a kill left with half a line is put
    right when it is opened.

    Args:
        path: file; created with its header, and its folder, if it is new.

    Raises:
        UserError: it cannot be written, or is a file of another kind.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).expanduser().absolute()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._begin()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}. Choose another file.") from error

    def add(self, *clicks: RecordedClick) -> None:
        """Append rows with one write, and wait until the disk has them.

        Raises:
            UserError: the disk is full or the file cannot be written; earlier rows are intact.
        """
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(map(_cells, clicks))
        data = text.getvalue().encode("utf-8", "backslashreplace")
        try:
            with self._alone():
                self._mend()
                if os.write(self._fd, data) != len(data):
                    raise OSError("only a part of the row was written")
            os.fsync(self._fd)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}. Free some space.") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        header = ",".join(COLUMNS) + "\n"
        with self._alone():
            first = os.pread(self._fd, len(header) + 4, 0).decode("utf-8", "replace")
            if header.startswith(first) and first != header:  # new, or cut off inside its header
                os.ftruncate(self._fd, 0)
                os.write(self._fd, header.encode())
            elif not first.removeprefix("\ufeff").replace("\r\n", "\n").startswith(header):
                os.close(self._fd)
                raise UserError(
                    f"{self.path}: its first line is not that of recorded clicks ({','.join(COLUMNS)}), so nothing "
                    "is added to it. Choose another file."
                )
            self._mend()
        os.fsync(self._fd)

    def _mend(self) -> None:
        """Complete a last line that only lacks its end, and cut one off that a kill left half written."""
        size = os.fstat(self._fd).st_size
        if os.pread(self._fd, 1, size - 1) == b"\n":
            return
        text = os.pread(self._fd, size, 0).decode("utf-8", "surrogateescape")
        end = whole_length(text)
        if end == len(text):
            os.write(self._fd, b"\n")
        else:
            os.ftruncate(self._fd, len(text[:end].encode("utf-8", "surrogateescape")))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other writer of this file works in the block, where the file system can lock."""
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)


def whole_length(text: str) -> int:
    """Length of the text without a last row of `Writer`'s that was cut off: one with too few values, or no version."""
    start = text.rfind("\n") + 1
    tail = text[start:]
    if not tail or not text.removeprefix("\ufeff").startswith(",".join(COLUMNS)):
        return len(text)
    try:
        values = next(csv.reader([tail], strict=True))
    except csv.Error:
        return start
    return len(text) if len(values) == len(COLUMNS) and values[-1] else start


def _cells(click: RecordedClick) -> Iterable[str]:
    for value in astuple(click):
        if isinstance(value, bool):
            yield "true" if value else "false"
        elif isinstance(value, float):
            yield "" if math.isnan(value) else repr(value).removesuffix(".0")
        else:
            yield str(value)
