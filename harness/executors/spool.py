"""Episodes of a job as they end: a file that the job appends to and the sweep reads, also after either was killed.

A line is `{"cell": key, "variant": name, "episode": {…}}`. The key makes a line fit only the cell that it was made for,
so that a later sweep in the same folder can take what an interrupted one left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Line = tuple[str, dict[str, Any]]


class Writer:
    """Appends the episodes of one job.

    Args:
        path: the job's own file.
        cells: variant -> key of its cell.
    """

    def __init__(self, path: Path, cells: Mapping[str, str]):
        self._cells = cells
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115  (a line is out when it is written)

    def add(self, variant: str, episode: Mapping[str, Any]) -> None:
        """Write one episode."""
        line = {"cell": self._cells.get(variant, ""), "variant": variant, "episode": episode}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Reader:
    """Gives the lines of a file that have come since it was last asked.

    Args:
        path: may not be there yet.
        cells: variant -> key of its cell; lines of other cells are left out.
    """

    def __init__(self, path: Path, cells: Mapping[str, str]):
        self.path, self._cells, self._place = path, cells, 0

    def new(self) -> Iterator[Line]:
        """(variant, episode) of every further whole line; half a line waits for its other half."""
        if not self.path.is_file():
            return
        with open(self.path, "rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._place += len(line)
                value = json.loads(line)
                if value["cell"] == self._cells.get(value["variant"], ""):
                    yield value["variant"], value["episode"]


def left_over(folder: Path, cells: Mapping[str, str]) -> Iterator[Line]:
    """Episodes of these cells in the files of jobs whose sweep did not live to read them; failed ones are left out."""
    for path in sorted(folder.glob("*.jsonl")):
        yield from ((v, episode) for v, episode in Reader(path, cells).new() if not episode.get("error"))


def clear(folder: Path) -> None:
    """Remove the files of all jobs."""
    for path in folder.glob("*.jsonl"):
        path.unlink(missing_ok=True)
