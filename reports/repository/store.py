"""Reads a repository. Every file is held against its digest, every record against its kind; nothing is built."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from harness.clicking.records import BadRecord, read_as
from harness.errors import UserError
from harness.planning.identity import STATISTICS
from harness.results.csv_tables import TEXT, read_csv
from harness.results.parquet import read_parquet
from harness.scoring import metrics
from reports.repository import naming
from reports.repository.entry import FORM, ROW_COLUMNS, Entry, Verification, row_digest

R = TypeVar("R")

LARGEST_RECORD = 1 << 20
LARGEST_FILE = 4 << 20
COLUMNS = {
    "summary.csv": ("size_bin", "metric", "value", "low", "high", "samples"),
    "flops.csv": ("part", "kind", "size_bin", "gmacs"),
    "latency.csv": ("threads", "resolution", "kind", "size_bin", "median_ms", "low_ms", "high_ms", "contended"),
}
"""Columns that a file of an entry must have; those that are no text hold numbers."""
FILES = ("rows.parquet", *COLUMNS)


class Refused(Exception):
    """An entry is not what its record says; the message says why."""


@dataclass(frozen=True, eq=False)
class Stored:
    """An entry of a repository.

    Attributes:
        folder: where it lies.
        entry: its record.
        verification: of a maintainer's rerun, or None.
    """

    folder: Path
    entry: Entry
    verification: Verification | None = None

    @functools.cached_property
    def rows(self) -> pd.DataFrame:
        """One row per sample and click (`ROW_COLUMNS`).

        Raises:
            Refused: the file is not the one of the record.
        """
        self._bytes("rows.parquet")
        try:
            frame = read_parquet(self.folder / "rows.parquet")
        except Exception as error:  # pyarrow raises many types of its own
            raise Refused(f"rows.parquet cannot be read: {' '.join(str(error).split())}") from error
        if list(frame.columns) != list(ROW_COLUMNS):
            raise Refused("rows.parquet has other columns than rows of an entry")
        if row_digest(frame) != self.entry.rows:
            raise Refused("rows.parquet: its rows are not those of entry.json (wrong digest)")
        return frame

    @functools.cached_property
    def clicks(self) -> pd.DataFrame:
        """The rows as clicks.parquet has them, the system as the variant."""
        entry = self.entry
        return self.rows.assign(
            variant=entry.system,
            dataset=entry.data.name,
            dataset_note=entry.data.note,
            error="",
            protocol=entry.protocol,
            weights_status=entry.weights.status,
            weights_digest=entry.weights.digest,
            parameters=entry.weights.parameters,
            protocol_version=entry.protocol_version,
            metrics_version=entry.metrics_version,
        )

    @functools.cached_property
    def summary(self) -> pd.DataFrame:
        """Metrics with intervals, indexed by (size_bin, metric); made anew where the statistics have changed since."""
        if self.entry.statistics_version < STATISTICS:
            frame = metrics.summarise(self.clicks, self.entry.protocol_record)
        else:
            frame = self.table("summary.csv")
        return frame.set_index(["size_bin", "metric"])

    def value(self, metric: str, size: str = "all") -> tuple[float, float, float] | None:
        """A metric with its interval, NaN where there is none; None where it was not measured."""
        if (size, metric) not in self.summary.index:
            return None
        line = self.summary.loc[[(size, metric)]].iloc[0]
        return float(line["value"]), float(line["low"]), float(line["high"])

    def table(self, name: str) -> pd.DataFrame:
        """summary.csv, flops.csv or latency.csv; an empty frame where it was not measured."""
        if name not in self.entry.files:
            return pd.DataFrame()
        self._bytes(name)
        try:
            frame = read_csv(self.folder / name)
        except (OSError, ValueError) as error:
            raise Refused(f"{name} cannot be read: {' '.join(str(error).split())}") from error
        missing = [column for column in COLUMNS[name] if column not in frame]
        if missing:
            raise Refused(f"{name} lacks the column {missing[0]}")
        for column in COLUMNS[name]:
            if column not in TEXT and not pd.api.types.is_numeric_dtype(frame[column]):
                raise Refused(f"{name}: column {column} holds something else than numbers")
        return frame

    def _bytes(self, name: str) -> bytes:
        path = self.folder / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_FILE:
            raise Refused(f"{name} is no plain file of at most {LARGEST_FILE >> 20} MiB")
        content = path.read_bytes()
        if sha256(content).hexdigest() != self.entry.files.get(name):
            raise Refused(f"{name} was changed: its digest is not that of entry.json")
        return content


@dataclass(frozen=True)
class Repository:
    """What a repository holds, and what of it was refused.

    Attributes:
        stored: entries by path.
        refused: "path: why" for each that is left out.
    """

    path: Path
    stored: tuple[Stored, ...]
    refused: tuple[str, ...] = field(default=())


def read(path: str | Path, thorough: bool = True) -> Repository:
    """Every entry of a repository.

    Args:
        thorough: hold every file against its digest now; else when it is read.

    Raises:
        UserError: no such folder, or no entry in it.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"results={path}: no such folder. Give a repository of results (reports submit makes one).")
    stored, refused = [], []
    for place in _places(folder):
        where = str(place.relative_to(folder))
        try:
            one = open_entry(place, where)
            if thorough:
                _hold(one)
        except Refused as error:
            refused.append(f"{where}: {error}")
        else:
            stored.append(one)
    if not stored and not refused:
        raise UserError(f"results={path}: no entry lies there. python -m reports submit run=DIR to={path} puts one in.")
    return Repository(folder, tuple(stored), tuple(refused))


def entries(path: Path) -> list[Entry]:
    """Records of a repository that can be read; an empty or missing folder has none."""
    several = []
    for place in _places(path) if path.is_dir() else ():
        try:
            several.append(open_entry(place, str(place.relative_to(path))).entry)
        except Refused:
            continue
    return several


def open_entry(folder: Path, where: str | None = None) -> Stored:
    """One entry.

    Raises:
        Refused: its record is none, or lies in another place than it says.
    """
    entry = _record(folder / "entry.json", Entry)
    if entry.form > FORM:
        raise Refused(f"form {entry.form} is newer than this version's {FORM}: update the project")
    names = (entry.system, entry.data.name, entry.protocol, entry.machine.kind, entry.id)
    if any(naming.segment(name) != name for name in names):
        raise Refused("entry.json: a name that is no name of a folder")
    if where is not None and where != entry.path:
        raise Refused(f"entry.json says that it belongs to {entry.path}")
    unknown = set(entry.files) - set(FILES)
    if unknown or not {"rows.parquet", "summary.csv"} <= set(entry.files):
        raise Refused("entry.json names other files than an entry has")
    verified = folder / "verified.json"
    return Stored(folder, entry, _record(verified, Verification) if verified.exists() else None)


def _record(path: Path, kind: type[R]) -> R:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_RECORD:
        raise Refused(f"{path.name} is no plain file of at most {LARGEST_RECORD >> 20} MiB")
    try:
        return read_as(kind, json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path.name}: {' '.join(str(error).split())}") from error
    except BadRecord as error:
        raise Refused(f"{path.name}: {error}") from error


def _places(folder: Path) -> Iterator[Path]:
    """Folders of entries, five levels down; links are not followed."""
    level: Sequence[Path] = [folder]
    for _ in range(5):
        level = [
            child
            for parent in level
            for child in sorted(parent.iterdir())
            if child.is_dir() and not child.is_symlink() and not child.name.startswith(".")
        ]
    yield from level


def _hold(one: Stored) -> None:
    """Everything that the record promises of the files."""
    samples = one.rows["sample"].nunique()
    if samples != one.entry.data.samples:
        raise Refused(f"rows.parquet has {samples} samples, entry.json says {one.entry.data.samples}")
    for name in COLUMNS:
        one.table(name)
    if not one.rows["iou"].dropna().between(0, 1).all() or not (one.rows["click"] >= 1).all():
        raise Refused("rows.parquet: an overlap outside of 0..1, or a click before the first")
    if one.entry.statistics_version == STATISTICS:
        _same_summary(one)


def _same_summary(one: Stored) -> None:
    """Every number of summary.csv, made anew from the rows."""
    computed = metrics.summarise(one.clicks, one.entry.protocol_record).set_index(["size_bin", "metric"])
    stored = one.summary
    if set(computed.index) != set(stored.index) or not stored.index.is_unique:
        raise Refused("summary.csv has other metrics than the rows give")
    for column in ("value", "low", "high"):
        wrong = ~np.isclose(
            stored.loc[computed.index, column], computed[column].astype(float), rtol=1e-9, equal_nan=True
        )
        if wrong.any():
            size, metric = computed.index[int(wrong.argmax())]
            raise Refused(f"summary.csv: {column} of {metric} ({size}) is not what the rows give")
