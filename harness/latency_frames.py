"""From the answers of the measuring children to the rows of latency.csv."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness import latency_contention
from harness.latency_stats import Interval, median_interval, ratio_interval, spread
from harness.latency_workload import SIZE_BINS

if TYPE_CHECKING:
    from harness.latency import Options, Runner

ALL = "all"
CLICKS = 20  # of the field's SPC: encode / 20 + online
COLUMNS = [
    "variant", "threads", "resolution", "kind", "size_bin", "median_ms", "low_ms", "high_ms", "p10_ms", "p90_ms",
    "repeats", "timings", "base", "ratio", "ratio_low", "ratio_high", "peak_rss_mb", "workload", "weights_status",
    "steal", "other_load", "spread", "contended", "error",
]  # fmt: skip


@dataclass(frozen=True)
class Frames:
    """The tables of a latency measurement: rows of latency.csv, and every single timing."""

    latency: pd.DataFrame
    timings: pd.DataFrame


def build(runners: Sequence[Runner], base: str | None, settings: Options) -> Frames:
    """Rows per (variant, threads, resolution, kind, size bin), ratios paired by round with the base's child."""
    bases = {(r.threads, r.resolution): r for r in runners if r.variant == base}
    rows: list[dict[str, Any]] = []
    for runner in runners:
        rows += _rows(runner, bases.get((runner.threads, runner.resolution)), base or "", settings)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return Frames(frame, _timings(runners))


def write(frames: Frames, out: Path) -> None:
    """Write every timing beside latency.csv."""
    if len(frames.timings):
        frames.timings.to_parquet(out / "latency_samples.parquet", index=False)


def _rows(runner: Runner, base: Runner | None, base_name: str, settings: Options) -> list[dict[str, Any]]:
    from harness.latency import contention

    common: dict[str, Any] = {
        "variant": runner.variant, "threads": runner.threads, "resolution": runner.resolution, "base": base_name,
        "workload": runner.facts.get("workload", ""), "weights_status": runner.facts.get("weights_status", ""),
        "error": runner.error,
    }  # fmt: skip
    if not runner.rounds:
        return [
            {
                **common,
                "kind": "",
                "size_bin": ALL,
                "repeats": 0,
                "timings": 0,
                "error": runner.error or "no round ended",
            }
        ]
    loads = [latency_contention.Load(**answer["load"]) for answer in runner.rounds.values()]
    common |= {
        "peak_rss_mb": max(answer["peak_mb"] for answer in runner.rounds.values()),
        "steal": latency_contention.mean(loads, "steal"),
        "other_load": latency_contention.mean(loads, "other_cpus"),
        "contended": contention(runner),
    }
    rows = []
    for kind, in_bin, select in _kinds(runner):
        mine = {n: select(answer["timings"]) for n, answer in runner.rounds.items()}
        values = {n: _statistic(v, kind) for n, v in mine.items()}
        middle = median_interval(list(values.values()))
        ratio = Interval(math.nan, math.nan, math.nan)
        if base is not None and base.rounds:
            shared = [n for n in values if n in base.rounds]
            theirs = [_statistic(select(base.rounds[n]["timings"]), kind) for n in shared]
            ratio = ratio_interval([values[n] for n in shared], theirs)
        single = (
            np.array([t["ms"] for v in mine.values() for t in v]) if kind in _PLAIN else np.array(list(values.values()))
        )
        p10, p90 = np.percentile(single, [10, 90])
        rows.append({
            **common, "kind": kind, "size_bin": in_bin, "median_ms": middle.median, "low_ms": middle.low,
            "high_ms": middle.high, "p10_ms": p10, "p90_ms": p90, "repeats": len(values), "timings": len(single),
            "ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high,
            "spread": spread(list(values.values())),
        })  # fmt: skip
    return rows


_PLAIN = ("encode", "first", "later", "simulate")


def _kinds(runner: Runner) -> list[tuple[str, str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]]]:
    """(kind, size bin, selection of a round's timings) of every row that this child can fill."""
    first = next(iter(runner.rounds.values()))["timings"]
    bins = [b for b in SIZE_BINS if any(t["size_bin"] == b for t in first)]
    later = any(t["click"] > 1 for t in first)
    made: list[tuple[str, str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]]] = []
    for kind in ("encode", "first", "later", "online_spc", "spc20"):
        if kind in ("later", "online_spc", "spc20") and not later:
            continue
        for in_bin in [ALL] if kind == "encode" else [ALL, *(bins if len(bins) > 1 or kind != "encode" else [])]:
            made.append((kind, in_bin, _selection(kind, in_bin)))
    return made


def _selection(kind: str, in_bin: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def keep(timing: dict[str, Any]) -> bool:
        click = timing["click"]
        of_kind = {
            "encode": click == 0,
            "first": click == 1,
            "later": click > 1,
            "online_spc": click > 0,
            "spc20": True,
        }[kind]
        return of_kind and (in_bin == ALL or timing["size_bin"] == in_bin)

    return lambda timings: [t for t in timings if keep(t)]


def _statistic(timings: list[dict[str, Any]], kind: str) -> float:
    """One number per round: the median of its timings, or the SPC composed of medians.

    Online SPC is the mean click of a 20-click episode, (first + 19 later) / 20; 20-SPC adds encode / 20.
    """
    if kind in _PLAIN:
        return float(np.median([t["ms"] for t in timings]))
    part = {k: [t["ms"] for t in _selection(k, ALL)(timings)] for k in ("encode", "first", "later")}
    online = (float(np.median(part["first"])) + (CLICKS - 1) * float(np.median(part["later"]))) / CLICKS
    return online if kind == "online_spc" else online + float(np.median(part["encode"])) / CLICKS


def _timings(runners: Sequence[Runner]) -> pd.DataFrame:
    rows = [
        {"variant": r.variant, "threads": r.threads, "resolution": r.resolution, "round": number, **timing}
        for r in runners for number, answer in r.rounds.items() for timing in answer["timings"]
    ]  # fmt: skip
    return pd.DataFrame(rows)
