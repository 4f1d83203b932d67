"""Several runs over time: one table for each set of rules, and how a run is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

import pandas as pd

from harness.scoring.registry import metric
from reports.read.runs import Run
from reports.tables.cells import count
from reports.tables.columns import RESULT, metric_columns
from reports.tables.table import Column, Row, Table, Value

_KEYS = ("noc90", "noc95", "miou5", "biou5", "auc")


def timelines(runs: Sequence[Run]) -> list[Table]:
    """A timeline for each set of rules: results of different protocols or versions never share a column."""
    groups: dict[tuple[object, ...], None] = {}
    for run in runs:
        groups.update(dict.fromkeys(rules_of(run, d) for d in run.datasets))
    return [timeline(runs, rules, number) for number, rules in enumerate(groups)]


def rules_of(run: Run, dataset: str) -> tuple[object, ...]:
    """Protocol, its version and the metrics' version: what has to be equal in a column."""
    return (run.protocol(dataset), *run.versions(dataset))


def timeline(runs: Sequence[Run], rules: tuple[object, ...] | None = None, number: int = 0) -> Table:
    """A row per run, variant and data set, of one set of rules (protocol, its version, metrics version) or of all."""
    rows = []
    for run in runs:
        whole = run.summary[run.summary["size_bin"].isin(("", "all"))]
        for dataset in run.datasets:
            if rules is not None and rules_of(run, dataset) != rules:
                continue
            for variant in run.variants:
                mine = whole[(whole["variant"] == variant) & (whole["dataset"] == dataset)].set_index("metric")
                if len(mine) == 0:
                    continue
                cells = [_summary_value(mine, key) for key in _KEYS]
                head = (name(run), age(run), variant, dataset, run.note(dataset) or "–", run.status(variant))
                samples = count(int(mine["samples"].max()), run.attempted(dataset))
                rows.append(Row((*head, samples, *cells, run.protocol(dataset)), dataset))
    columns = [Column("run", "Run"), Column("written", "Written"), *RESULT]
    columns += metric_columns(_KEYS)
    columns.append(Column("protocol", "Protocol"))
    rules_text = "" if rules is None else f" Protocol {rules[0]}, version {rules[1]}; metrics version {rules[2]}."
    return Table(
        "timeline" if number == 0 else f"timeline_{number + 1}",
        "All runs" if number == 0 else f"Runs under other rules: {rules[0] if rules else ''}",
        "Means with 95 % intervals, oldest run first." + rules_text,
        tuple(columns),
        tuple(rows),
    )


def _summary_value(mine: pd.DataFrame, key: str) -> Value:
    if key not in mine.index:
        return Value(missing="not measured")
    m, line = metric(key), mine.loc[[key]].iloc[0]
    limits = [float(line[k]) * m.scale for k in ("low", "high")]
    low, high = (limits[0], limits[1]) if all(map(math.isfinite, limits)) else (None, None)
    return Value(float(line["value"]) * m.scale, low, high, digits=m.digits)


def name(run: Run) -> str:
    """Short name of a run: its folder and, where recorded, its commit."""
    commit = str(run.machine.get("commit") or "")
    return f"{run.path.name} @ {commit[:7]}{'+' if commit.endswith('+') else ''}" if commit else run.path.name


def age(run: Run) -> str:
    """When its rows were written (UTC), as far as the files tell."""
    for file in ("clicks.parquet", "config.yaml"):
        if (run.path / file).exists():
            written = datetime.fromtimestamp((run.path / file).stat().st_mtime, tz=timezone.utc)
            return written.strftime("%Y-%m-%d %H:%M")
    return "–"
