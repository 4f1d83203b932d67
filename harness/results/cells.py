"""The file of one cell: append-only, one line per episode, resumable after any kill and any damage.

    {"cell": …, "variant": …, "schema": 2}     what the cell is (`CellHeader`)
    {"origin": {"code": …, "machine": …}}      what the episodes after it were made under (`Origin`)
    {"sample": …, "clicks": […]}               an episode, or its error (`Episode`)

A line is written with a single `write` to a file opened for appending. A process killed between two lines loses
nothing; one killed inside a line leaves a tail without a newline, which the next start cuts off. Any other line that
is no record goes to `*.damaged` when the file is opened for writing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.clicking.records import Episode
from harness.errors import UserError
from harness.records import BadRecord, UnknownSchema, read_as
from harness.results.damaged import BadLine, Tell, keep_file, keep_lines, parse
from harness.results.files import replace
from harness.results.schema import CellHeader, Origin

_SYNC_EVERY_S = 1.0


@dataclass
class Content:
    """What the bytes of a cell's file say.

    Attributes:
        header: None where no line of it is a header.
        episodes: sample -> its episode and origin; a finished one is never replaced by a failure.
        origins: every origin of a finished episode, in order of appearance.
        bad: lines that are no record.
        whole: bytes of the good lines.
        unknown: why the whole file cannot be read, or "".
    """

    header: CellHeader | None = None
    episodes: dict[str, tuple[Episode, Origin]] = field(default_factory=dict)
    origins: list[Origin] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    whole: bytes = b""
    unknown: str = ""

    def add(self, episode: Episode, origin: Origin) -> None:
        """The next episode of the file."""
        before = self.episodes.get(episode.sample)
        if before is None or before[0].error or not episode.error:
            self.episodes[episode.sample] = (episode, origin)
        if not episode.error and origin not in self.origins:
            self.origins.append(origin)


def read(data: bytes) -> Content:
    """Every whole line of a cell's file; the begin of a line that a kill cut off is left out."""
    content = Content()
    origin = Origin()
    good = []
    *lines, tail = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            value = parse(line)
            if number == 1 and isinstance(value, dict) and not {"sample", "origin"} & set(value):
                content.header = CellHeader.read(value)
                origin = Origin(commit=content.header.commit)
            elif isinstance(value, dict) and "origin" in value:
                origin = read_as(Origin, value["origin"])
            else:
                _episode(content, value, origin)
        except UnknownSchema as error:
            content.unknown = str(error)
            return content
        except BadRecord as error:
            content.bad.append(BadLine(number, line, str(error)))
        else:
            good.append(line + b"\n")
    if tail and (not tail.startswith(b"{") or b"\0" in tail):  # no line that a kill cut off
        content.bad.append(BadLine(len(lines) + 1, tail, "not JSON"))
    content.whole = b"".join(good)
    return content


def _episode(content: Content, value: Any, origin: Origin) -> None:
    if isinstance(value, dict) and "weights_status" in value:  # schema 1
        value = dict(value)
        origin = Origin.legacy(value, content.header.commit if content.header else "")
    content.add(Episode.read(value), origin)


class CellFile:
    """The rows of one cell (variant x data set).

    Args:
        path: file; created with its header if it is new.
        header: what identifies the cell; stored in the first line.
        tell: called with one line of text about what had to be set aside.

    Attributes:
        header: of the first run.
    """

    def __init__(self, path: Path, header: CellHeader, tell: Tell):
        self.path, self._tell, self._last_sync = path, tell, 0.0
        self._content = self._read_back(header)
        self.header = self._content.header or header
        self._origin: Origin | None = None
        self._open()
        if self._content.header is None and not self._content.whole:
            self._write([self.header.record()])

    @property
    def done(self) -> set[str]:
        """Names of the samples whose episode is complete; failed ones are not, so they are tried again."""
        return {name for name, (episode, _) in self._content.episodes.items() if not episode.error}

    @property
    def fatal(self) -> set[str]:
        """Names of the samples whose last try took its process along."""
        return {name for name, (episode, _) in self._content.episodes.items() if episode.fatal}

    @property
    def origins(self) -> list[Origin]:
        """What the finished episodes were made under, in order of appearance."""
        return list(self._content.origins)

    @property
    def codes(self) -> set[str]:
        """Digests of the code behind the finished episodes; "" where it was not recorded."""
        return {origin.code for origin in self._content.origins}

    def append(self, episode: Episode, origin: Origin) -> None:
        """Write one episode and, where it is another than before, what it was made under.

        Raises:
            UserError: the disk is full or the file cannot be written; what was written before is intact.
        """
        self._write([*([{"origin": origin.record()}] if origin != self._origin else []), episode.record()])
        self._origin = origin
        self._content.add(episode, origin)

    def episodes(self, names: Iterable[str] | None = None) -> Iterator[tuple[Episode, Origin]]:
        """The episode of each sample with its origin, in the order of `names`, or as written."""
        known = self._content.episodes
        yield from (known[name] for name in (known if names is None else names) if name in known)

    def restart(self, header: CellHeader) -> Path:
        """Rename the file to `*.older` (`.older.2`, …) and begin an empty one; gives the path of the old one."""
        self.close()
        number, older = 1, self.path.with_name(f"{self.path.name}.older")
        while older.exists():
            number += 1
            older = self.path.with_name(f"{self.path.name}.older.{number}")
        os.replace(self.path, older)
        self.header, self._content, self._origin = header, Content(), None
        self._open()
        self._write([header.record()])
        return older

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._fd)
        os.close(self._fd)

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _read_back(self, header: CellHeader) -> Content:
        if not self.path.exists():
            return Content()
        data = self.path.read_bytes()
        content = read(data)
        other = content.header.differs(header) if content.header else ""
        if content.unknown or other:
            stored = f"{getattr(content.header, other)!r}" if other else ""
            keep_file(self.path, content.unknown or f"line 1: its {other} is {stored}, not this cell's", self._tell)
            return Content()
        if content.bad or (content.header is None and content.whole):
            keep_lines(self.path, content.bad, self._tell)
            if content.header is None:
                content.header = header
                content.whole = _line(header.record()) + content.whole
            whole = content.whole
            replace(self.path, lambda beside: beside.write_bytes(whole))
        elif len(data) != len(content.whole):
            with open(self.path, "r+b") as file:
                file.truncate(len(content.whole))
        return content

    def _write(self, values: list[dict[str, Any]]) -> None:
        data = b"".join(map(_line, values))
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
            if time.monotonic() - self._last_sync > _SYNC_EVERY_S:
                os.fsync(self._fd)
                self._last_sync = time.monotonic()
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise UserError(
                f"cannot write {self.path}: {error.strerror or error}. "
                f"{len(self._content.episodes)} episodes of this cell are safe; "
                "free some space and repeat the command."
            ) from error


def _line(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, separators=(",", ":")) + "\n").encode()
