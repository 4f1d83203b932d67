"""Times out of latency.csv under one condition, and their ratios to a reference."""

from __future__ import annotations

import math

import pandas as pd

from reports.read.runs import Run
from reports.tables.table import Value

SPC = {"online_spc": "Online SPC", "spc20": "20-SPC"}


def condition(run: Run) -> tuple[object, object] | None:
    """The condition of every headline time: fewest threads at the largest resolution."""
    timed = run.latency[run.latency["median_ms"].notna()]
    if len(timed) == 0:
        return None
    fewest = timed[timed["threads"] == timed["threads"].min()]
    return fewest["threads"].iloc[0], fewest["resolution"].max()


def describe(run: Run) -> str:
    """The condition in words."""
    chosen = condition(run)
    return "" if chosen is None else f"{chosen[0]} thread{'s' if chosen[0] != 1 else ''}, longest side {chosen[1]} px"


def rows(run: Run, variant: str, kind: str, size_bin: str = "all") -> pd.DataFrame:
    """Rows of a variant and kind under the headline condition."""
    chosen = condition(run)
    if chosen is None:
        return run.latency.iloc[:0]
    frame = run.latency[
        (run.latency["variant"] == variant) & (run.latency["kind"] == kind) & run.latency["median_ms"].notna()
    ]
    frame = frame[(frame["threads"] == chosen[0]) & (frame["resolution"] == chosen[1])]
    return frame[frame["size_bin"].isin((size_bin, "") if size_bin == "all" else (size_bin,))]


def milliseconds(run: Run, variant: str, kind: str) -> float | None:
    """Median ms of `kind` (docs/protocols.md, "Time"); None where it was not timed. No kind stands for another."""
    lines = rows(run, variant, kind)
    if len(lines):
        return float(lines["median_ms"].iloc[0])
    if kind == "later":  # an older file without the row over all sizes
        frame = run.latency[run.latency["variant"] == variant]
        bins = pd.concat([rows(run, variant, kind, b) for b in frame["size_bin"].unique()]) if len(frame) else frame
        return float(bins["median_ms"].median()) if len(bins) else None
    return None


def ratio(run: Run, variant: str, kind: str, reference: str) -> Value:
    """Time over the reference's, with the interval paired by rounds where latency.csv has it."""
    source = ("ratio", variant, kind, reference)
    lines = rows(run, variant, kind)
    if len(lines) and "ratio" in lines and str(lines["base"].iloc[0]) == reference:
        line = lines.iloc[0]
        if math.isfinite(line["ratio"]):
            limits = [float(line[k]) if math.isfinite(line[k]) else None for k in ("ratio_low", "ratio_high")]
            low, high = limits if None not in limits else (None, None)
            return Value(float(line["ratio"]), low, high, source=source)
    mine, theirs = milliseconds(run, variant, kind), milliseconds(run, reference, kind)
    if mine is None or theirs is None:
        return Value(missing="not timed")
    return Value(mine / theirs, source=source)


def finite(value: object) -> float | None:
    """The number, or None where there is none."""
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None
