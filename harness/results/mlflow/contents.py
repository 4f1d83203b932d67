"""What a sweep's folder has to say to MLflow, read from disk: no request is sent here."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.clicking.records import BadRecord
from harness.errors import UserError
from harness.planning import user_yaml
from harness.planning.addresses import without_secrets
from harness.results import files
from harness.results.csv_tables import read_csv
from harness.results.damaged import parse
from harness.results.mlflow import names, note, times
from harness.results.mlflow.identity import STATE
from harness.results.mlflow.numbers import Numbers
from harness.results.mlflow.runs import DataSet, Point
from harness.results.mlflow.times import Span

LARGEST = 64 << 20
"""Bytes of config.yaml and of each JSON file."""
FINISHED, FAILED, STOPPED = "FINISHED", "FAILED", "KILLED"


@dataclass(frozen=True)
class CellContent:
    """What the run of one cell holds in the end.

    Attributes:
        key: of the cell.
        name: of the run.
        tags, params: as they are logged.
        points: metrics; curves have a step for each click.
        dataset: that it was clicked on.
        rows: file with the episodes.
        rows_digest: of the episodes and the curves made from them; another one means another run.
        status: FINISHED if every sample has its episode, FAILED if something failed, else KILLED (stopped).
        span: of the work behind the rows, None where they don't tell.
    """

    key: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    points: tuple[Point, ...]
    dataset: DataSet
    rows: Path
    rows_digest: str
    status: str
    span: Span | None = None

    @property
    def digest(self) -> str:
        """Of everything but the times: a run that carries it and has ended needs nothing."""
        everything = {**asdict(self), "rows": self.rows.name, "span": None}
        return _digest(json.dumps(everything, sort_keys=True, default=str).encode())


class SweepFolder:
    """A sweep on disk.

    Raises:
        UserError: the folder holds no sweep, or one of its files cannot be read.
    """

    def __init__(self, out: Path):
        self.out = out
        if not (out / "config.yaml").exists():
            raise UserError(
                f"{out} holds no sweep (no config.yaml). Give the folder that harness.sweep wrote with out=DIR."
            )
        try:
            config = user_yaml.load(out / "config.yaml", LARGEST)
            # Earlier versions wrote the tracking server's address as it was given.
            self.config: dict[str, Any] = without_secrets(config)
            self.name = str(self.config["ablation"]["name"])
        except (UserError, KeyError, TypeError) as error:
            why = f" ({error})" if isinstance(error, UserError) else ""
            raise UserError(
                f"{out / 'config.yaml'} cannot be read; repeat the sweep, which writes it anew{why}"
            ) from error
        self.machine: dict[str, Any] = read_json(out / "machine.json", {})
        self.numbers = Numbers(out, str(self.config.get("primary") or "noc90"))

    @property
    def params(self) -> dict[str, str]:
        """Parameters of the parent run."""
        return names.flatten({k: self.config.get(k) for k in ("ablation", "protocol", "resolved")})

    @property
    def tags(self) -> dict[str, str]:
        """Tags of every run: MLflow's standard ones, the ablation, the machine."""
        plain = {k: v for k, v in self.machine.items() if isinstance(v, (str, int, float, bool))}
        return {
            **standard_tags(str(self.config.get("command", "harness.sweep")), str(plain.get("commit") or "")),
            "is.ablation": self.name,
            "is.command": str(self.config.get("command", "")),
            **{f"machine.{k}": str(v)[:500] for k, v in plain.items()},
        }

    def cell_tags(self, header: Mapping[str, Any]) -> dict[str, str]:
        """Tags of a cell's run, from the first line of its rows."""
        described = ("variant", "dataset", "dataset_digest", "dataset_note", "protocol")
        commit = str(header.get("commit") or "").removesuffix("+")
        return {
            **self.tags,
            **({"mlflow.source.git.commit": commit} if commit else {}),
            "is.kind": "cell",
            **{f"is.{name}": str(header.get(name, "")) for name in described},
        }

    def cells(self) -> Iterator[CellContent]:
        """Each cell of the last run of the sweep."""
        for entry in self._entries:
            rows = self._own_file(entry)
            curves = tuple(self.numbers.curves(entry))
            yield CellContent(
                key=str(entry["cell"]),
                name=cell_name(entry),
                tags=self.cell_tags(entry),
                params=names.flatten(
                    {
                        "variant": entry["variant_config"],
                        "dataset": entry["dataset_config"],
                        "protocol": entry["protocol_record"],
                    }
                )
                # Names, too: MLflow's parallel coordinates show parameters and metrics, no tags.
                | names.flatten({"variant": entry["variant"], "dataset": entry["dataset"]}),
                points=(*curves, *self.numbers.all_of(entry)),
                dataset=self._data_set(entry),
                rows=rows,
                rows_digest=_digest(rows.read_bytes() + repr(curves).encode("utf-8", "surrogatepass")),
                status=self._status(entry),
                span=times.span([times.of_rows(rows)], [rows]),
            )

    @property
    def datasets(self) -> list[DataSet]:
        """Every data set of the sweep, in its order."""
        return list(dict.fromkeys(self._data_set(entry) for entry in self._entries))

    @cached_property
    def span(self) -> Span | None:
        """From the first begin to the last end of all that was clicked and measured."""
        rows = [self._own_file(entry) for entry in self._entries]
        # While the first cells are clicked through there is no cells.json.
        rows = rows or [file for file in sorted((self.out / "cells").glob("*.jsonl")) if self._holds(file)]
        works = [*map(times.of_rows, rows), times.of_stages(self.out)]
        last = [*rows, *(file for file in (self.out / "latency_samples.parquet",) if file.exists())]
        return times.span(works, last)

    @property
    def points(self) -> list[Point]:
        """Metrics of the parent run: those that matter, of the base; on further data sets under their names."""
        base = self.config["ablation"].get("base")
        points = []
        for number, name in enumerate(dict.fromkeys(str(entry["dataset"]) for entry in self._entries)):
            points += [
                Point(f"{name}/{headline.name}" if number else headline.name, headline.value)
                for headline in self.numbers.headlines(str(base), name)
            ]
        return points

    def description(self, link: str) -> str:
        """Markdown for the parent run; `link` leads to the report among its artifacts."""
        ablation = self.config["ablation"]
        base = ablation.get("base")
        shown = [(str(e["variant"]), str(e["dataset"]), _weights(e)) for e in self._entries]
        lines = [
            note.Line(variant, dataset, tuple(self.numbers.headlines(variant, dataset)), variant == base, weights)
            for variant, dataset, weights in shown or [(str(v), "", "") for v in self.config.get("variants") or {}]
        ]
        report = self.out / "report" / "index.html"
        there = report.absolute() if self._holds(report) else None
        return note.description(str(ablation.get("title") or self.name), lines, len(self._failures), there, link)

    @property
    def status(self) -> str:
        """Of the parent run: FINISHED if every cell is whole and nothing failed."""
        if not self._failures.empty:
            return FAILED
        whole = all(self._status(entry) == FINISHED for entry in self._entries)
        return FINISHED if whole else STOPPED

    def files(self) -> Iterator[tuple[Path, str]]:
        """Files of the parent run and the folder of its artifacts where each belongs."""
        for pattern in ("*.csv", "*.parquet", "*.json", "*.yaml"):
            for file in sorted(self.out.glob(pattern)):
                if file.name != STATE and self._holds(file):
                    yield file, "tables"
        for file in sorted((self.out / "report").rglob("*")):
            if not file.name.startswith(".") and self._holds(file):
                yield file, file.parent.relative_to(self.out).as_posix()

    def _holds(self, file: Path) -> bool:
        """Whether a plain file lies in this folder: a link in a stranger's run must not send files of the user away."""
        return file.is_file() and file.resolve().is_relative_to(self.out.resolve())

    def _own_file(self, entry: Mapping[str, Any]) -> Path:
        """The file with a cell's rows.

        Raises:
            UserError: another file than one of this folder.
        """
        rows = self.out / str(entry["file"])
        if not self._holds(rows):
            raise UserError(f"{self.out / 'cells.json'} names {entry['file']!r}, which is no file of this folder")
        return rows

    def _data_set(self, entry: Mapping[str, Any]) -> DataSet:
        known = self.config.get("datasets", {}).get(entry["dataset"], {})
        source = json.dumps(without_secrets(entry["dataset_config"]), default=str)
        samples = known.get("samples")
        samples = samples if isinstance(samples, int) else None
        return DataSet(str(entry["dataset"]), str(entry["dataset_digest"]), source, samples)

    def _status(self, entry: Mapping[str, Any]) -> str:
        expected = self.config.get("datasets", {}).get(entry["dataset"], {}).get("samples", entry["episodes"])
        if entry["episodes"] >= expected:
            return FINISHED
        if not self._failures.empty:
            mine = self._failures["variant"].isin(["all", entry["variant"]])
            if (mine & (self._failures["dataset"] == entry["dataset"])).any():
                return FAILED
        measured_only = entry["episodes"] == 0 and not self.config.get("resolved", {}).get("untrained_quality", True)
        measured = any(
            not f.empty and (f["variant"] == entry["variant"]).any() for f in (self.numbers.latency, self.numbers.flops)
        )
        return FINISHED if measured_only and measured else STOPPED

    @cached_property
    def _entries(self) -> list[dict[str, Any]]:
        """cells.json: what each cell of the last run is."""
        return list(read_json(self.out / "cells.json", []))

    @cached_property
    def _failures(self) -> pd.DataFrame:
        return read_csv(self.out / "failures.csv")


def cell_name(header: Mapping[str, Any]) -> str:
    """Name of a cell's run."""
    return f"{header['variant']} on {header['dataset']}"


def _weights(entry: Mapping[str, Any]) -> str:
    """What a reader has to know of a cell's weights before a number is believed."""
    states = {str(origin.get("weights_status")) for origin in entry.get("origins") or []}
    return "untrained" if "untrained" in states else ""


def standard_tags(source: str, commit: str) -> dict[str, str]:
    """The tags by which MLflow's pages show where a run came from."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # containers without a passwd entry
        user = str(os.getuid())
    tags = {"mlflow.source.name": source, "mlflow.source.type": "LOCAL", "mlflow.user": user}
    # MLflow makes a link of it, so it is the bare commit; machine.commit says whether there were changes.
    return {**tags, "mlflow.source.git.commit": commit.removesuffix("+")} if commit else tags


def read_json(path: Path, default: Any) -> Any:
    """Content of a JSON file; `default` if there is none.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return default
    try:
        files.check_plain(path, LARGEST)
        return parse(path.read_bytes())
    except (OSError, BadRecord) as error:
        raise UserError(f"{path} is damaged ({error}). Repeat the sweep's command, which writes it anew.") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
