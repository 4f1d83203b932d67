"""What a sweep prints at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.table import Table

from harness.console import Console, markup
from harness.planning.plan import DatasetPlan, Plan
from harness.results.tables import Tables
from harness.scoring import decision
from harness.scoring.intervals import FEWEST, is_interval
from harness.scoring.registry import Metric, metric
from harness.text import duration

_METRICS = tuple(map(metric, ("noc85", "noc90", "noc95", "nof90", "miou5")))
"""Columns of the summary."""
_FURTHER = ("rclicks_noc90", "rclicks_dgr90", "user1", "user_noc90", "worst_noc90", "best_noc90", "zero_noc90")
"""Metrics of further episodes, shown where the protocol has them."""


def print_summary(plan: Plan, tables: Tables, out: Path, seconds: float, console: Console, added: bool = True) -> None:
    """The table at the end: quality with intervals, time per click, FLOPs, what failed, where everything is.

    Args:
        added: whether the command did something; a finished one that is repeated does not.
    """
    for data in plan.datasets:
        _print_dataset(plan, data, tables, console)
    if not tables.failures.empty:
        console.print(
            f"[bold yellow]{len(tables.failures)} failures[/], see {markup(out / 'failures.csv')}; the first:",
            highlight=False,
        )
        first = tables.failures.iloc[0]
        where = ", ".join(str(first[k]) for k in ("stage", "variant", "dataset", "sample") if first[k])
        console.print(markup(f"  {where}: {first['error']}"), highlight=False)
    done = f"done in {duration(seconds)}" if added else "nothing was missing"
    console.print(f"{done}; rows, tables and report: {markup(out)}", highlight=False)


def _print_dataset(plan: Plan, data: DatasetPlan, tables: Tables, console: Console) -> None:
    protocol = plan.protocol
    label = getattr(protocol, "label", protocol.name)
    note = f" ({data.note})" if data.note else ""
    summary = (
        tables.summary
        if tables.summary is not None
        else pd.DataFrame(columns=["variant", "dataset", "size_bin", "metric"])
    )
    summary = summary[(summary["dataset"] == data.name) & (summary["size_bin"] == "all")]
    whole = len(data.dataset)
    shown = [*_METRICS, *(metric(key) for key in _FURTHER if key in set(summary["metric"]))]
    samples = {name: int(rows["samples"].max()) for name, rows in summary.groupby("variant")}
    partial = len({samples.get(v.name, 0) for v in plan.variants} | {whole}) > 1
    threads = _threads(tables.latency)
    table = Table(
        title=markup(
            f"{data.name}{note}: {whole} sample{'' if whole == 1 else 's'}, "
            f"protocol {label}, up to {protocol.clicks} clicks"
        ),
        caption=f"ranges: 95 % intervals (too few: below {FEWEST} images)"
        + ("; times are medians of later clicks, ms" if threads else "")
        + ("; means are over each variant's own samples and do not rank variants" if partial else ""),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("variant")
    table.add_column("weights")
    if partial:
        table.add_column("samples", justify="right")
    for record in shown:
        table.add_column(f"{record.title} %" if record.unit == "%" else record.title, justify="right")
    for count in threads:
        table.add_column(f"click ms, {count} thr", justify="right")
    if tables.flops is not None:
        table.add_column("GMACs/click", justify="right")
    known = tables.clicks.drop_duplicates("variant")
    status = {str(v): str(s) for v, s in zip(known["variant"], known["weights_status"], strict=True)}
    for variant in plan.variants:
        rows = summary[summary["variant"] == variant.name].set_index("metric")
        cells = [_value(rows, record) for record in shown]
        cells += [_latency(tables.latency, variant.name, count) for count in threads]
        if tables.flops is not None:
            cells.append(_gmacs(tables.flops, variant.name))
        base = " (base)" if variant.name == plan.base else ""
        own = [f"{samples.get(variant.name, 0)} of {whole}"] if partial else []
        table.add_row(markup(variant.name) + base, markup(status.get(variant.name, "")), *own, *cells)
    console.print(table)
    for line in readings(tables.compare, data.name, protocol.primary, status):
        console.print(line, highlight=False, markup=False)


def readings(compare: pd.DataFrame | None, dataset: str, primary: str, status: Mapping[str, str]) -> list[str]:
    """What may be said of each variant against the base by the primary metric, one line for each outcome.

    Args:
        compare: compare.csv.
        status: variant -> state of its weights; untrained ones are not judged.
    """
    if compare is None or compare.empty:
        return []
    rows = compare[(compare["dataset"] == dataset) & (compare["size_bin"] == "all") & (compare["metric"] == primary)]
    variants_of: dict[str, list[str]] = {}
    for row, differing in zip(rows.to_dict("records"), decision.differing_pairs(rows), strict=True):
        untrained = "untrained" in (status.get(row["variant"]), status.get(row["base"]))
        reading = (
            decision.not_compared("untrained weights")
            if untrained
            else decision.decide(
                row["difference"],
                row["p_value"],
                row["samples"],
                differing,
                better=metric(primary).better,
                low=row["low"],
                high=row["high"],
            )
        )
        variants_of.setdefault(reading.text, []).append(row["variant"])
    against = f"{primary} against {rows['base'].iloc[0]}"
    return [f"{against}: {', '.join(names)}: {text}" for text, names in variants_of.items()]


def _value(rows: pd.DataFrame, record: Metric) -> str:
    if record.key not in rows.index:
        return "-"
    value, low, high = rows.loc[record.key, ["value", "low", "high"]].to_numpy(dtype=float) * record.scale
    digits = record.short_digits
    text = f"{value:.{digits}f}"
    if not is_interval(low, high):
        return text if math.isnan(value) else f"{text} [dim]too few[/]"
    return f"{text} [dim]{low:.{digits}f}–{high:.{digits}f}[/]"


def _threads(latency: pd.DataFrame | None) -> list[int]:
    return [] if latency is None or latency.empty else sorted({int(t) for t in latency["threads"].dropna()})


def _later(latency: pd.DataFrame, variant: str) -> pd.DataFrame:
    rows = latency[(latency["variant"] == variant) & (latency["kind"] == "later")]
    return rows[rows["size_bin"] == "all"] if (rows["size_bin"] == "all").any() else rows


def _latency(latency: pd.DataFrame | None, variant: str, threads: int) -> str:
    assert latency is not None
    rows = _later(latency, variant)
    rows = rows[rows["threads"] == threads]
    if rows.empty or rows["median_ms"].isna().all():
        return "-"
    row = rows.sort_values("resolution").iloc[-1]
    spread = (
        f" [dim]{row['low_ms']:.1f}–{row['high_ms']:.1f}[/]" if math.isfinite(row["high_ms"]) else " [dim]too few[/]"
    )
    return f"{row['median_ms']:.1f}{spread}"


def _gmacs(flops: pd.DataFrame, variant: str) -> str:
    rows = flops[(flops["variant"] == variant) & (flops["kind"] == "later") & (flops["part"] == "total")]
    rows = rows[rows["size_bin"] == "all"] if (rows["size_bin"] == "all").any() else rows
    return "-" if rows.empty or rows["gmacs"].isna().all() else f"{rows['gmacs'].mean():.2f}"
