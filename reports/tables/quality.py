"""The tables of one run: quality, differences to the base, latency, FLOPs, failures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from harness.scoring.ranking import Ranking
from harness.scoring.registry import metric
from reports.literature import systems
from reports.read.runs import Run
from reports.tables import baselines, cost, overview, published, readings, robustness
from reports.tables.cells import cell_of, count
from reports.tables.columns import (
    DATASET,
    METRIC,
    P_HOLM,
    P_VALUE,
    RESULT,
    SAMPLES,
    SIZE_BIN,
    VARIANT,
    VERDICT,
    WEIGHTS,
    metric_columns,
)
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
NOT_RANKED = (
    "Bold: shown to be better than every other on the same samples (paired permutation test at 5 %; {primary} as it "
    "is, the other metrics adjusted by Holm's method). Results of untrained weights are shown but never ranked."
)
SEEN = {"images": " ‡", "part": " ◊"}
SEEN_NOTES = {
    " ‡": "‡ These weights were trained on images of this very data set, by the card of the official file.",
    " ◊": "◊ These weights were trained on other images of the same collection, by the card of the official file.",
}


def quality(run: Run) -> Table:
    """Every variant on every data set: the metrics of summary.csv with 95 % intervals."""
    whole = run.summary[run.summary["size_bin"].isin(("", "all"))]
    keys = [k for k in QUALITY if k in set(whole["metric"])]
    keys += [k for k in dict.fromkeys(whole["metric"]) if k not in QUALITY and metric(k).in_tables]
    rows, notes = [], [NOT_RANKED.format(primary=metric(run.primary).title)]
    marks: set[str] = set()
    for dataset in run.datasets:
        ranked = readings.rankings(run, dataset, keys)
        notes += _ranked_on(dataset, ranked)
        for variant in run.variants:
            mine = whole[(whole["variant"] == variant) & (whole["dataset"] == dataset)]
            if len(mine) == 0:
                continue
            mark = SEEN.get(systems.seen_in_training(run, variant, dataset), "")
            marks.add(mark)
            cells: list[Cell] = [variant, dataset, run.note(dataset) or "as published", run.status(variant) + mark]
            cells += [count(int(mine["samples"].max()), run.attempted(dataset))]
            best = {k for k in keys if k in ranked and ranked[k].best == variant}
            cells += [_of_summary(mine, variant, dataset, k, k in best) for k in keys]
            rows.append(Row((*cells, str(mine["protocol"].iloc[0])), dataset))
    notes += [text for mark, text in SEEN_NOTES.items() if mark in marks]
    columns = [*RESULT]
    columns += metric_columns(keys, arrows=True)
    columns.append(Column("protocol", "Protocol"))
    return Table(
        "quality",
        "Quality",
        f"Means over samples with 95 % intervals (too few: below 6 images). Protocol: {run.protocol()}.",
        tuple(columns),
        tuple(rows),
        tuple(notes) if rows else (),
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
        cells += [_of_summary(mine, variant, dataset, k, False, size) for k in keys]
        rows.append(Row(tuple(cells), str(dataset), str(size)))
    rows.sort(key=lambda r: (run.datasets.index(r.dataset), size_order(r.size_bin)))
    columns = [VARIANT, DATASET, SIZE_BIN]
    columns += [WEIGHTS, SAMPLES]
    columns += metric_columns(keys)
    caption = f"The same by the object's share of the image. Protocol: {run.protocol()}."
    return Table("sizes", "Quality by object size", caption, tuple(columns), tuple(rows))


def compared(run: Run) -> Table:
    """Differences of every variant to the base on the same samples (compare.csv)."""
    comparisons = readings.of(run, compared_keys(run))
    rows = []
    for one in comparisons:
        m = metric(one.metric)
        low, high = (None, None) if math.isnan(one.low) else (one.low * m.scale, one.high * m.scale)
        source = ("compare", one.variant, one.dataset, one.metric)
        cells: tuple[Cell, ...] = (
            one.variant,
            one.base,
            one.dataset,
            run.status(one.variant),
            m.title + (" (primary)" if one.primary else ""),
            Value(
                one.difference * m.scale, low, high, digits=max(m.digits, 1), signed=True, source=source, too_few=True
            ),
            m.unit,
            *(
                Value(None if math.isnan(p) else p, digits=4, source=(name, one.variant, one.dataset, one.metric))
                for name, p in (("p_value", one.p_value), ("p_holm", one.p_holm))
            ),
            one.decision.text,
            count(one.samples),
        )
        rows.append(Row(cells, one.dataset))
    columns = (
        VARIANT,
        Column("base", "Base"),
        DATASET,
        WEIGHTS,
        METRIC,
        Column("difference", "Difference"),
        Column("unit", "Unit"),
        P_VALUE,
        P_HOLM,
        VERDICT,
        SAMPLES,
    )
    caption = "Variant minus base on the samples that both have: 95 % interval and paired permutation test."
    notes = [readings.counted([(one.primary, one.decision) for one in comparisons])]
    return Table("compare", "What each variant changes", caption, columns, tuple(rows), tuple(filter(None, notes)))


def compared_keys(run: Run) -> list[str]:
    """Metrics that the page compares."""
    known = set(run.compare["metric"])
    return [k for k in dict.fromkeys([*QUALITY, run.primary]) if k in known]


def failures(run: Run) -> Table:
    """What failed and why."""
    names = ("stage", "variant", "dataset", "sample", "error")
    rows = [Row(tuple(str(line[n]) for n in names), str(line["dataset"])) for _, line in run.failures.iterrows()]
    columns = tuple(Column(n, n.capitalize()) for n in names)
    return Table("failures", "Failures", "Repeating the sweep's command tries these again.", columns, tuple(rows))


def _ranked_on(dataset: str, ranked: Mapping[str, Ranking]) -> list[str]:
    """Notes where the variants do not all have the same samples."""
    partial: dict[tuple[int, int], list[str]] = {}
    for key, one in ranked.items():
        if not one.equal_sets:
            partial.setdefault((one.samples, one.of), []).append(metric(key).title)
    return [
        f"{dataset}: the ranked variants do not have the same samples. Means are over each one's own; bold ranks on "
        f"the {samples} of {of} that all of them have"
        + (f" ({', '.join(names)})." if len(names) < len(ranked) else ".")
        for (samples, of), names in partial.items()
    ]


def _of_summary(mine: pd.DataFrame, variant: object, dataset: object, key: str, best: bool, size: object = "") -> Value:
    line = mine[mine["metric"] == key]
    if len(line) == 0:
        return Value(missing="not measured")
    m = metric(key)
    value = cell_of(line.iloc[0], "value", m.scale, m.digits, ("summary", variant, dataset, key, size))
    return replace(value, best=best)


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
    "robustness": robustness.robustness,
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
