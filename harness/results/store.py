"""Results on disk first: append-only, one line per episode, resumable after any kill.

Layout under `out`:
    cells/<key>.jsonl   first line: what the cell is; then one line per episode (or its error)
    clicks.parquet, summary.csv, …   made from those lines, replaced atomically

A line is written with a single `write` to a file opened for appending. A process killed between two lines loses
nothing; one killed inside a line leaves a tail without a newline, which the next start cuts off.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from harness.errors import UserError
from harness.planning.identity import SCHEMA
from harness.results import files

_SYNC_EVERY_S = 1.0


class CellFile:
    """The rows of one cell (variant x data set), one line per episode.

    Args:
        path: file; created with its header if it is new.
        header: what identifies the cell; stored in the first line.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]):
        self.path = path
        self._last_sync = 0.0
        text = _cut_tail(path)
        if text:
            self.header: dict[str, Any] = json.loads(text[0])
        else:
            self.header = {**header, "schema": SCHEMA}
        self._episodes: dict[str, dict[str, Any]] = {}
        for line in text[1:]:
            episode = json.loads(line)
            self._episodes[episode["sample"]] = episode
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if not text:
            self._write(self.header)

    @property
    def done(self) -> set[str]:
        """Names of the samples whose episode is complete; failed ones are not, so they are tried again."""
        return {name for name, episode in self._episodes.items() if not episode.get("error")}

    def append(self, episode: Mapping[str, Any]) -> None:
        """Write one episode: {"sample", "clicks": [...], …} or {"sample", "error"}.

        Raises:
            UserError: the disk is full or the file cannot be written; what was written before is intact.
        """
        self._write(episode)
        self._episodes[episode["sample"]] = dict(episode)

    def episodes(self, names: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
        """Episodes (the last line of each sample) in the order of `names`, or as written."""
        for name in self._episodes if names is None else names:
            if name in self._episodes:
                yield self._episodes[name]

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._fd)
        os.close(self._fd)

    def _write(self, value: Mapping[str, Any]) -> None:
        data = (json.dumps(value, separators=(",", ":")) + "\n").encode()
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
                f"{len(self._episodes)} episodes of this cell are safe; "
                "free some space and repeat the command."
            ) from error


class Store:
    """The folder of one sweep.

    Args:
        out: folder; created if missing.

    Raises:
        UserError: the folder cannot be written, or another sweep writes there now.
    """

    def __init__(self, out: str | os.PathLike[str]):
        self.out = Path(out).expanduser().absolute()
        if any("\udc80" <= character <= "\udcff" for character in str(self.out)):
            raise UserError(
                f"out={self.out}: the folder's name has bytes that are not UTF-8, which Parquet and MLflow cannot "
                "open. Choose another folder with out=DIR."
            )
        try:
            (self.out / "cells").mkdir(parents=True, exist_ok=True)
            self._lock = files.Lock(self.out / ".lock")
        except OSError as error:
            raise UserError(
                f"cannot write to out={self.out}: {error.strerror}. Choose another folder with out=DIR."
            ) from error
        except files.Held as error:
            raise UserError(
                f"another sweep is writing to {self.out}. Wait for it, or choose another out=DIR."
            ) from error
        self._cells: dict[str, CellFile] = {}

    def cell(self, key: str, header: Mapping[str, Any]) -> CellFile:
        """The cell's file, opened once."""
        if key not in self._cells:
            self._cells[key] = CellFile(self.out / "cells" / f"{key}.jsonl", header)
        return self._cells[key]

    def write_table(self, name: str, frame: pd.DataFrame) -> Path:
        """Replace `name` (.csv or .parquet) atomically."""
        if name.endswith(".parquet"):
            return self._replace(name, lambda path: frame.to_parquet(path, index=False))
        return self._replace(name, lambda path: frame.to_csv(path, index=False))

    def write_json(self, name: str, value: Any) -> Path:
        """Replace a JSON file atomically."""
        return self._replace(name, lambda path: path.write_text(json.dumps(value, indent=1, default=str) + "\n"))

    def write_yaml(self, name: str, value: Any) -> Path:
        """Replace a YAML file atomically."""
        return self._replace(name, lambda path: path.write_text(yaml.safe_dump(value, sort_keys=False, width=110)))

    def close(self) -> None:
        """Close every cell and let others write here."""
        for cell in self._cells.values():
            cell.close()
        self._cells.clear()
        self._lock.close()

    def _replace(self, name: str, write: Any) -> Path:
        path = self.out / name
        try:
            return files.replace(path, write)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}. Free some space and repeat the command."
            ) from error


def _cut_tail(path: Path) -> list[str]:
    """Lines of the file; a last line without its newline (a killed process) is removed from the file."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with open(path, "r+b") as file:
            file.truncate(len(whole))
    return whole.decode().splitlines()


def click_rows(header: Mapping[str, Any], episodes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of clicks.parquet: the cell's columns, the episode's columns, then each click's."""
    rows = []
    shared = {k: header[k] for k in ("variant", "dataset", "dataset_note", "protocol", "cell")}
    for episode in episodes:
        of_episode = {k: v for k, v in episode.items() if k not in ("clicks", "traceback")}
        rows += [{**shared, **of_episode, **click} for click in episode.get("clicks", ())]
    return rows


CLICK_COLUMNS = [
    "variant", "dataset", "sample", "click", "y", "x", "positive", "iou", "biou", "encode_ms", "online_ms",
    "simulate_ms",
    "object_share", "size_bin", "height", "width", "error", "protocol", "weights_status", "dataset_note", "cell",
]  # fmt: skip
