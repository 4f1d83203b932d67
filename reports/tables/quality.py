"""The tables of one run: quality, differences to the base, latency, FLOPs, failures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from reports.read.metric_names import metric
from reports.read.runs import Run
from reports.tables import across, baselines, cost, overview, published
from reports.tables.cells import cell_of, count
from reports.tables.speed import finite
from reports.tables.table import Cell, Column, Row, Table, Value

QUALITY = (
    "noc80",
    "noc85",
    "noc90",
    "noc95",
    "nof90",
    "nof95",
    "miou1",
    "miou3",
    "miou5",
    "biou5",
    "iou_drop",
    "auc",
)
NOT_RANKED = "Results of untrained weights are shown but never ranked; bold marks the best of the others on a data set."


def quality(run: Run) -> Table:
    """Every variant on every data set: the metrics of summary.csv with 95 % intervals."""
    whole = run.summary[run.summary["size_bin"].isin(("", "all"))]
    keys = [k for k in QUALITY if k in set(whole["metric"])]
    keys += [k for k in dict.fromkeys(whole["metric"]) if k not in QUALITY and not k.startswith("ritm_")]
    rows = []
    for dataset in run.datasets:
        best = {k: _best(run, whole, dataset, k) for k in keys}
        for variant in run.variants:
            mine = whole[(whole["variant"] == variant) & (whole["dataset"] == dataset)]
            if len(mine) == 0:
                continue
            cells: list[Cell] = [variant, dataset, run.note(dataset) or "as published", run.status(variant)]
            cells += [count(int(mine["samples"].max()))]
            cells += [_of_summary(mine, variant, dataset, k, best[k] if run.ranked(variant) else None) for k in keys]
            rows.append(Row((*cells, str(mine["protocol"].iloc[0])), dataset))
    columns = [
        Column("variant", "Variant"),
        Column("dataset", "Data set"),
        Column("dataset_note", "Kind of data"),
        Column("weights_status", "Weights"),
        Column("samples", "Samples"),
    ]
    for key in keys:
        m = metric(key)
        arrow = {"low": " ↓", "high": " ↑"}.get(m.better, "")
        columns.append(Column(key, f"{m.title}{arrow}", better=m.better, help=m.meaning))
    columns.append(Column("protocol", "Protocol"))
    return Table(
        "quality",
        "Quality",
        f"Means over samples with 95 % intervals (too few: below 6 images). Protocol: {run.protocol()}.",
        tuple(columns),
        tuple(rows),
        (NOT_RANKED,) if rows else (),
    )


def by_size(run: Run) -> Table:
    """The metrics of summary.csv by object-size bin."""
    part = run.summary[~run.summary["size_bin"].isin(("", "all"))]
    keys = [k for k in ("noc90", "noc95", "miou5") if k in set(part["metric"])]
    rows = []
    for (dataset, size, variant), mine in part.groupby(["dataset", "size_bin", "variant"], sort=False):
        cells: list[Cell] = [
            str(variant),
            str(dataset),
            str(size),
            run.status(str(variant)),
            count(int(mine["samples"].max())),
        ]
        cells += [_of_summary(mine, variant, dataset, k, None, size) for k in keys]
        rows.append(Row(tuple(cells), str(dataset), str(size)))
    rows.sort(key=lambda r: (run.datasets.index(r.dataset), size_order(r.size_bin)))
    columns = [Column("variant", "Variant"), Column("dataset", "Data set"), Column("size_bin", "Object size")]
    columns += [Column("weights_status", "Weights"), Column("samples", "Samples")]
    columns += [Column(k, metric(k).title, better=metric(k).better, help=metric(k).meaning) for k in keys]
    caption = f"The same by the object's share of the image. Protocol: {run.protocol()}."
    return Table("sizes", "Quality by object size", caption, tuple(columns), tuple(rows))


def compared(run: Run) -> Table:
    """Differences of every variant to the base on the same samples (compare.csv)."""
    frame = run.compare[run.compare["size_bin"].isin(("", "all"))]
    keys = [k for k in QUALITY if k in set(frame["metric"])]
    rows = []
    for dataset in run.datasets:
        for variant in run.variants:
            mine = frame[(frame["variant"] == variant) & (frame["dataset"] == dataset)]
            for key in keys:
                for _, line in mine[mine["metric"] == key].iterrows():
                    m = metric(key)
                    value = cell_of(
                        line,
                        "difference",
                        m.scale,
                        max(m.digits, 1),
                        ("compare", variant, dataset, key),
                        signed=True,
                    )
                    chance = Value(finite(line["p_value"]), digits=4, source=("p_value", variant, dataset, key))
                    cells: tuple[Cell, ...] = (
                        variant,
                        str(line["base"]),
                        dataset,
                        run.status(variant),
                        m.title,
                        value,
                        m.unit,
                        chance,
                        verdict(run, line),
                        count(int(line["samples"])),
                    )
                    rows.append(Row(cells, dataset))
    columns = (
        Column("variant", "Variant"),
        Column("base", "Base"),
        Column("dataset", "Data set"),
        Column("weights_status", "Weights"),
        Column("metric", "Metric"),
        Column("difference", "Difference"),
        Column("unit", "Unit"),
        Column("p_value", "p", help="paired permutation test"),
        Column("verdict", "Reading"),
        Column("samples", "Samples"),
    )
    caption = "Variant minus base on the same samples: 95 % interval and paired permutation test."
    return Table("compare", "What each variant changes", caption, columns, tuple(rows))


def verdict(run: Run, line: Mapping[Any, Any] | pd.Series) -> str:
    """What a row of compare.csv allows to say; quality of random weights is never judged."""
    if not (run.ranked(str(line["variant"])) and run.ranked(str(line["base"]))):
        return (
            "not judged: untrained"
            if "untrained" in (run.status(str(line["variant"])), run.status(str(line["base"])))
            else "not judged"
        )
    difference, low, high, p_value = (float(line[k]) for k in ("difference", "low", "high", "p_value"))
    return across.reading(difference, low, high, metric(str(line["metric"])).better, p_value)


def failures(run: Run) -> Table:
    """What failed and why."""
    names = ("stage", "variant", "dataset", "sample", "error")
    rows = [Row(tuple(str(line[n]) for n in names), str(line["dataset"])) for _, line in run.failures.iterrows()]
    columns = tuple(Column(n, n.capitalize()) for n in names)
    return Table("failures", "Failures", "Repeating the sweep's command tries these again.", columns, tuple(rows))


def _best(run: Run, whole: pd.DataFrame, dataset: str, key: str) -> float | None:
    mine = whole[(whole["dataset"] == dataset) & (whole["metric"] == key)]
    values = [
        float(v) for n, v in zip(mine["variant"], mine["value"], strict=True) if run.ranked(n) and math.isfinite(v)
    ]
    if len(values) < 2 or min(values) == max(values):
        return None
    return min(values) if metric(key).better == "low" else max(values)


def _of_summary(
    mine: pd.DataFrame, variant: object, dataset: object, key: str, best: float | None, size: object = ""
) -> Value:
    line = mine[mine["metric"] == key]
    if len(line) == 0:
        return Value(missing="not measured")
    m = metric(key)
    found = line.iloc[0]
    value = cell_of(found, "value", m.scale, m.digits, ("summary", variant, dataset, key, size))
    return Value(**{**vars(value), "best": best is not None and float(found["value"]) == best})


def size_order(size: str) -> float:
    """Sort key of size bins such as "<1%", "1-5%" and ">20%"."""
    digits = "".join(c if c.isdigit() or c == "." else " " for c in size).split()
    if not digits:
        return -2.0
    return -1.0 if size.startswith("<") else float(digits[0]) + (0.5 if size.startswith(">") else 0.0)


ALL: dict[str, Callable[[Run], Table]] = {
    "overview": overview.overview,
    "failures": failures,
    "quality": quality,
    "compare": compared,
    "sizes": by_size,
    "latency": cost.latency,
    "scaling": cost.scaling,
    "flops": cost.flops,
    "main": published.main,
    "ablation": published.ablation,
    "baselines": baselines.table,
    "published": published.baselines,
}


def of(run: Run, names: Sequence[str]) -> list[Table]:
    """Tables by name."""
    return [ALL[name](run) for name in names]
