"""Episodes of a job as they end: the only way from a job to its sweep, readable also after either was killed.

One file a cell and job, `<cell>.<job>.jsonl`:

    {"schema": 1, "cell": …, "variant": …, "job": …, "node": …, "pid": …, "machine": {…}}
    {"underway": "sample"}                       begun; "" while the variant is being built
    {"episode": {…}, "weights": {…}}             ended
    {"end": true}                                the job has nothing more to say
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.clicking.records import Episode, Result, Weights
from harness.planning.identity import SPOOL
from harness.records import BadRecord, UnknownSchema, read_as, require_schema
from harness.results.damaged import BadLine, Tell, keep_file, keep_lines, parse


class Writer:
    """Appends the episodes of one job; also the `Watch` of its steps.

    Args:
        folder: of all jobs' files.
        job: unique name of the job.
        cells: variant -> key of its cell, for the variants of this job.
        machine: description of the machine that the job runs on.
    """

    def __init__(self, folder: Path, job: str, cells: Mapping[str, str], machine: Mapping[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {}
        for variant, cell in cells.items():
            file = open(folder / f"{cell}.{job}.jsonl", "a", buffering=1)  # noqa: SIM115 (a line is out when written)
            self._files[variant] = file
            header = {"schema": SPOOL, "cell": cell, "variant": variant, "job": job}
            self._add(variant, {**header, "node": platform.node(), "pid": os.getpid(), "machine": dict(machine)})

    def add(self, result: Result) -> None:
        """Write one episode."""
        self._add(result.variant, {"episode": result.episode.record(), "weights": asdict(result.weights)})

    def begin(self, variant: str, sample: str) -> None:
        """Write what begins."""
        self._add(variant, {"underway": sample})

    def end(self) -> None:
        """The episode that follows says it."""

    def close(self, whole: bool) -> None:
        """Close the files; `whole`: everything was done that the job was asked for."""
        for variant, file in self._files.items():
            if whole:
                self._add(variant, {"end": True})
            file.close()

    def _add(self, variant: str, value: Mapping[str, Any]) -> None:
        self._files[variant].write(json.dumps(value, separators=(",", ":")) + "\n")


class _Foreign(BadRecord):
    """The whole file is of another cell."""


class Reader:
    """What has come into one file since it was last asked.

    Args:
        path: may not be there yet.
        cell, variant: whose episodes the file has to hold.
        tell: called with one line of text about what had to be set aside.

    Attributes:
        header: first line, {} before it was seen.
        underway: sample that was begun and has not ended; None where nothing is.
        ended: whether the job said that it has nothing more to say.
        grown: whether the last look found anything.
    """

    def __init__(self, path: Path, cell: str, variant: str, tell: Tell):
        self.path, self.cell, self.variant, self._tell = path, cell, variant, tell
        self.header: dict[str, Any] = {}
        self.underway: str | None = None
        self.ended = self.grown = False
        self._place = self._number = 0

    def new(self) -> Iterator[Result]:
        """Every further episode; half a line waits for its other half, a line that is none is set aside."""
        self.grown = False
        if not self.path.is_file():
            return
        bad: list[BadLine] = []
        results: list[Result] = []
        with open(self.path, "rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.grown = True
                self._place += len(line)
                self._number += 1
                try:
                    results += self._read(parse(line))
                except (_Foreign, UnknownSchema) as error:
                    keep_file(self.path, f"line {self._number}: {error}", self._tell)
                    return
                except BadRecord as error:
                    bad.append(BadLine(self._number, line[:-1], str(error)))
        keep_lines(self.path, bad, self._tell)
        yield from results

    def _read(self, value: Any) -> list[Result]:
        if not isinstance(value, dict):
            raise BadRecord(f"not a record but {type(value).__name__}")
        if "schema" in value or "job" in value:
            require_schema(value, (SPOOL,))
            if (value.get("cell"), value.get("variant")) != (self.cell, self.variant):
                raise _Foreign(f"of variant {value.get('variant')!r}, not of {self.variant!r}")
            if not isinstance(value.get("machine"), dict):
                raise BadRecord("no 'machine'")
            self.header = value
        elif "underway" in value:
            self.underway = str(value["underway"])
        elif value == {"end": True}:
            self.ended, self.underway = True, None
        elif set(value) == {"episode", "weights"}:
            episode = Episode.read(value["episode"])
            self.underway = None
            machine = str(self.header.get("machine", {}).get("id", ""))
            return [Result(self.variant, episode, read_as(Weights, value["weights"]), machine)]
        else:
            raise BadRecord("neither a begin nor an episode nor an end")
        return []

    def remove(self) -> None:
        """Remove the file; what was set aside from it stays."""
        self.path.unlink(missing_ok=True)


def left_over(folder: Path, cells: Mapping[str, str], tell: Tell) -> Iterator[tuple[Result, dict[str, Any]]]:
    """Finished episodes of these cells in files of jobs whose sweep did not live to read them, with the machine.

    A file goes when it was read and its job can write no more; files of other cells are never touched.
    """
    for variant, cell in cells.items():
        for path in sorted(folder.glob(f"{cell}.*.jsonl")):
            reader = Reader(path, cell, variant, tell)
            results = list(reader.new())
            yield from ((r, reader.header.get("machine", {})) for r in results if not r.episode.error)
            if path.exists() and _over(reader):
                reader.remove()


def _over(reader: Reader) -> bool:
    """Whether the job has ended, or was a process of this machine that is gone."""
    if reader.ended:
        return True
    if reader.header.get("node") != platform.node():
        return False
    with contextlib.suppress(OSError, TypeError, ValueError):
        os.kill(int(reader.header["pid"]), 0)
        return False
    return True
