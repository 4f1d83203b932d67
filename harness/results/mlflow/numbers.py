"""The metrics of a sweep's runs: curves by click, every number of the tables, and those that matter under short names.

MLflow sorts metrics by their names, so the names of what matters begin with a digit (`1_noc90`, …): they come first in
its lists and its parallel coordinates, are the same for every data set, and stand above the sections of its charts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.csv_tables import read_csv
from harness.results.mlflow.runs import Point
from harness.results.parquet import read_parquet
from harness.scoring.intervals import is_interval

QUALITY = {"1_noc90": "noc90", "2_noc95": "noc95", "3_noc85": "noc85", "4_nof90": "nof90", "5_miou5": "miou5"}
"""Name of a headline -> metric of summary.csv."""
TIMES = {"6_later_ms": "later", "7_encode_ms": "encode"}
"""Name of a headline -> kind of row in latency.csv."""
WORK = {"8_later_gmacs": "later", "9_encode_gmacs": "encode"}
"""Name of a headline -> kind of row in flops.csv."""


@dataclass(frozen=True)
class Headline:
    """One of the numbers that matter.

    Attributes:
        name: of the metric in MLflow.
        metric: of summary.csv; "" of a time or a number of operations.
        value: as it is stored.
        low, high: ends of the 95 % interval, NaN where there is none.
    """

    name: str
    metric: str
    value: float
    low: float = math.nan
    high: float = math.nan


class Numbers:
    """The tables of a sweep's folder as metrics.

    Args:
        out: the folder.
        primary: metric of summary.csv that was named beforehand.
    """

    def __init__(self, out: Path, primary: str):
        self._out, self._primary = out, primary

    def curves(self, entry: Mapping[str, Any]) -> Iterator[Point]:
        """Mean IoU and boundary IoU after each click of a cell's episodes; the click is the step."""
        clicks = self._clicks
        if clicks is None:
            return
        mine = clicks[clicks["cell"] == entry["cell"]]
        for metric in ("iou", "biou"):
            # An episode that stopped early keeps its last value, as in the metrics.
            wide = mine.pivot(index="sample", columns="click", values=metric).ffill(axis=1)
            for click, mean in wide.mean().items():
                yield Point(f"{metric}/{entry['dataset']}", float(mean), int(str(click)))

    def all_of(self, entry: Mapping[str, Any]) -> Iterator[Point]:
        """Every number of a cell: the headlines, then summary.csv, latency.csv and flops.csv."""
        for headline in self.headlines(str(entry["variant"]), str(entry["dataset"])):
            yield Point(headline.name, headline.value)
        for row in self._summary_of(str(entry["variant"]), str(entry["dataset"])):
            name = f"{row['metric']}/{entry['dataset']}"
            yield Point(name, number(row["value"]))
            low, high = number(row["low"]), number(row["high"])
            if is_interval(low, high):
                yield Point(f"{name}/low", low)
                yield Point(f"{name}/high", high)
        for row in _rows(self.latency, entry["variant"]):
            place = f"{row['kind']}/{row['threads']}thr/{row['resolution']}px/{row['size_bin']}"
            yield Point(f"latency_ms/{place}", number(row["median_ms"]))
            yield Point(f"energy_j/{place}", number(row.get("joules")))
        flops = self.flops
        several = not flops.empty and "resolution" in flops and flops["resolution"].nunique() > 1
        for row in _rows(flops, entry["variant"]):
            size = f"/{row['resolution']}px" if several else ""
            yield Point(f"gmacs/{row['kind']}/{row['part']}/{row['size_bin']}{size}", number(row["gmacs"]))

    def headlines(self, variant: str, dataset: str) -> Iterator[Headline]:
        """What matters of a variant on a data set, in the order of the names; what was not measured is left out.

        Times are those of the fewest threads, times and operations those of the largest resolution.
        """
        by_metric = {str(row["metric"]): row for row in self._summary_of(variant, dataset)}
        further = {} if self._primary in QUALITY.values() else {f"0_{self._primary}": self._primary}
        for name, metric in {**further, **QUALITY}.items():
            row = by_metric.get(metric)
            if row is not None and math.isfinite(number(row["value"])):
                yield Headline(name, metric, *(number(row[column]) for column in ("value", "low", "high")))
        latency = [row for row in _rows(self.latency, variant) if math.isfinite(number(row["median_ms"]))]
        for name, kind in TIMES.items():
            rows = [row for row in latency if row["kind"] == kind and row["size_bin"] == "all"]
            if rows:
                row = min(rows, key=lambda row: (number(row["threads"]), -number(row["resolution"])))
                yield Headline(name, "", *(number(row.get(column)) for column in ("median_ms", "low_ms", "high_ms")))
        flops = [row for row in _rows(self.flops, variant) if math.isfinite(number(row["gmacs"]))]
        for name, kind in WORK.items():
            rows = [r for r in flops if (r["kind"], r["part"], r["size_bin"]) == (kind, "total", "all")]
            if rows:
                yield Headline(name, "", number(max(rows, key=lambda row: number(row.get("resolution")))["gmacs"]))

    @cached_property
    def latency(self) -> pd.DataFrame:
        """latency.csv"""
        return read_csv(self._out / "latency.csv")

    @cached_property
    def flops(self) -> pd.DataFrame:
        """flops.csv"""
        return read_csv(self._out / "flops.csv")

    def _summary_of(self, variant: str, dataset: str) -> list[dict[Any, Any]]:
        rows = [row for row in _rows(self._summary, variant) if row["dataset"] == dataset]
        return [row for row in rows if row.get("size_bin", "all") == "all"]

    @cached_property
    def _clicks(self) -> pd.DataFrame | None:
        path = self._out / "clicks.parquet"
        if not path.exists():
            return None
        return read_parquet(path, columns=["cell", "sample", "click", "iou", "biou"])

    @cached_property
    def _summary(self) -> pd.DataFrame:
        return read_csv(self._out / "summary.csv")


def number(value: Any) -> float:
    """A cell of a table; NaN where it is empty or no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _rows(table: pd.DataFrame, variant: object) -> list[dict[Any, Any]]:
    return [] if table.empty else table[table["variant"] == variant].to_dict("records")
