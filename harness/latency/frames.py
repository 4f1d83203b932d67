"""From the answers of the measuring children to the rows of latency.csv, latency_parts.csv and every single timing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.latency import contention
from harness.latency.records import Timing
from harness.latency.stats import Interval, median_interval, ratio_interval, spread
from harness.scoring.sizes import SIZE_BINS

if TYPE_CHECKING:
    from harness.latency.rounds import Runner

ALL, TOTAL = "all", "total"
CLICKS = 20  # of the field's SPC: encode / 20 + online
COLUMNS = [
    "variant", "threads", "resolution", "kind", "size_bin", "median_ms", "low_ms", "high_ms", "p10_ms", "p90_ms",
    "repeats", "timings", "base", "ratio", "ratio_low", "ratio_high", "peak_rss_mb", "workload", "weights_status",
    "steal", "other_load", "spread", "contended", "error", "joules", "joules_low", "joules_high",
]  # fmt: skip
"""Columns of latency.csv. `joules` is the energy of one step of the row's kind (an encoding, a click) or of a mean
click (online_spc, spc20), of all packages of the processor; empty where no counter can be read."""
PART_COLUMNS = [
    "variant", "threads", "resolution", "part", "kind", "size_bin", "median_ms", "low_ms", "high_ms", "share",
    "repeats", "workload", "pass",
]  # fmt: skip
HOOKED = "with hooks"

Select = Callable[[Sequence[Timing]], list[Timing]]


@dataclass(frozen=True)
class Frames:
    """The tables of a latency measurement."""

    latency: pd.DataFrame
    parts: pd.DataFrame
    timings: pd.DataFrame


def build(runners: Sequence[Runner], base: str | None, strict: bool = False) -> Frames:
    """All tables; ratios are paired by round with the base's child of the same threads and resolution.

    Args:
        runners: what was measured.
        base: name of the base variant.
        strict: withhold the numbers of children that stayed contended.
    """
    bases = {(r.threads, r.resolution): r for r in runners if r.variant == base}
    rows: list[dict[str, Any]] = []
    for runner in runners:
        rows += _rows(runner, bases.get((runner.threads, runner.resolution)), base or "", strict)
    parts = [row for runner in runners for row in _part_rows(runner)]
    return Frames(pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(parts, columns=PART_COLUMNS), _timings(runners))


def write(out: Path, timings: pd.DataFrame, parts: pd.DataFrame, scaling: pd.DataFrame) -> None:
    """Write what stands beside latency.csv: every timing, the parts, and the fits; of an empty table none stays."""
    out.mkdir(parents=True, exist_ok=True)
    for name, frame in (
        ("latency_samples.parquet", timings),
        ("latency_parts.csv", parts),
        ("latency_scaling.csv", scaling),
    ):
        if not len(frame):
            (out / name).unlink(missing_ok=True)
        elif name.endswith(".parquet"):
            frame.to_parquet(out / name, index=False)
        else:
            frame.to_csv(out / name, index=False)


def _rows(runner: Runner, base: Runner | None, base_name: str, strict: bool) -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "variant": runner.variant, "threads": runner.threads, "resolution": runner.resolution, "base": base_name,
        "workload": runner.warmed.workload if runner.warmed else "",
        "weights_status": runner.built.weights_status if runner.built else "", "error": runner.error,
    }  # fmt: skip
    if not runner.rounds:
        reason = runner.error or "no round ended"
        return [{**common, "kind": "", "size_bin": ALL, "repeats": 0, "timings": 0, "error": reason}]
    contended = runner.contention()
    common |= {
        "peak_rss_mb": runner.warmed.peak_mb if runner.warmed else math.nan,
        "steal": contention.mean(runner.loads(), "steal"),
        "other_load": contention.mean(runner.loads(), "other_cpus"),
        "contended": contended,
    }
    if strict and contended:
        reason = f"contended ({contended}) after {len(runner.rounds)} rounds; measure.strict=true gives no number then"
        return [{**common, "kind": "", "size_bin": ALL, "repeats": len(runner.rounds), "timings": 0, "error": reason}]
    rows = []
    for kind, in_bin, select in _kinds(next(iter(runner.rounds.values())).timings):
        mine = {n: select(answer.timings) for n, answer in runner.rounds.items()}
        values = {n: statistic(timings, kind) for n, timings in mine.items()}
        ratio = Interval(math.nan, math.nan, math.nan)
        if base is not None and base.rounds:
            shared = [n for n in values if n in base.rounds]
            theirs = [statistic(select(base.rounds[n].timings), kind) for n in shared]
            ratio = ratio_interval([values[n] for n in shared], theirs)
        middle = median_interval(list(values.values()))
        if kind in _SPC:
            middle = _around(mean_click(list(mine.values()), kind), middle)
        single = (
            [_ms(t, kind) for timings in mine.values() for t in timings] if kind in _PLAIN else list(values.values())
        )
        p10, p90 = np.percentile(single, [10, 90])
        rows.append({
            **common, "kind": kind, "size_bin": in_bin, "median_ms": middle.median, "low_ms": middle.low,
            "high_ms": middle.high, "p10_ms": p10, "p90_ms": p90, "repeats": len(values), "timings": len(single),
            "ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high,
            "spread": spread(list(values.values())),
            **_energy(list(mine.values()), kind),
        })  # fmt: skip
    return rows


def _energy(rounds: Sequence[Sequence[Timing]], kind: str) -> dict[str, float]:
    """Median over the rounds of the mean joules of a step, with its interval.

    The mean of a round, not the median of its steps: counters move once a millisecond, which evens out in a sum.
    """
    per_round = [_joules(timings, kind) for timings in rounds]
    if kind == "simulate" or not all(map(math.isfinite, per_round)):
        return dict.fromkeys(("joules", "joules_low", "joules_high"), math.nan)
    middle = median_interval(per_round)
    return {"joules": middle.median, "joules_low": middle.low, "joules_high": middle.high}


def _joules(timings: Sequence[Timing], kind: str) -> float:
    """Mean of one round; NaN where a step has none."""
    known = [(t.click, math.nan if t.joules is None else t.joules) for t in timings]
    if kind != "spc20":
        return float(np.mean([joules for _, joules in known]))
    encodings = [joules for click, joules in known if click == 0]
    return float(np.mean([joules for click, joules in known if click > 0]) + np.mean(encodings) / CLICKS)


def _part_rows(runner: Runner) -> list[dict[str, Any]]:
    if not runner.parts:
        return []
    rows = []
    for kind, in_bin, select in _kinds(runner.parts[0].timings):
        if kind not in ("encode", "first", "later"):
            continue
        rounds = [select(answer.timings) for answer in runner.parts]
        names = sorted({name for timings in rounds for t in timings for name in t.parts})
        whole = median_interval([float(np.median([t.ms for t in timings])) for timings in rounds]).median
        for part in [TOTAL, *names]:
            per_round = [
                float(np.median([t.ms if part == TOTAL else t.parts.get(part, 0.0) for t in timings]))
                for timings in rounds
            ]
            middle = median_interval(per_round)
            rows.append({
                "variant": runner.variant, "threads": runner.threads, "resolution": runner.resolution, "part": part,
                "kind": kind, "size_bin": in_bin, "median_ms": middle.median, "low_ms": middle.low,
                "high_ms": middle.high, "share": middle.median / whole, "repeats": len(per_round),
                "workload": runner.warmed.workload if runner.warmed else "", "pass": HOOKED,
            })  # fmt: skip
    return rows


_PLAIN = ("encode", "first", "later", "simulate")
_SPC = ("online_spc", "spc20")


def _kinds(timings: Sequence[Timing]) -> list[tuple[str, str, Select]]:
    """(kind, size bin, selection of a round's timings) of every row that these timings can fill."""
    bins = [b for b in SIZE_BINS if any(t.size_bin == b for t in timings)]
    kinds = ["encode", "first"]
    if any(t.click > 1 for t in timings):
        kinds += ["later", "online_spc", "spc20"]
    if any(t.simulate_ms is not None for t in timings):
        kinds.append("simulate")
    return [(k, b, selection(k, b)) for k in kinds for b in ([ALL] if k == "encode" else [ALL, *bins])]


def selection(kind: str, in_bin: str = ALL) -> Select:
    """The timings of one round that belong to a kind and a size bin; images are encoded whatever is in them."""
    clicks = {"encode": (0, 0), "first": (1, 1), "later": (2, math.inf), "spc20": (0, math.inf)}
    low, high = clicks.get(kind, (1, math.inf))
    return lambda timings: [
        t for t in timings if low <= t.click <= high and (in_bin == ALL or t.click == 0 or t.size_bin == in_bin)
    ]


def statistic(timings: Sequence[Timing], kind: str) -> float:
    """One number per round: the median of its timings, or their mean click (online_spc, spc20)."""
    if kind in _PLAIN:
        return float(np.median([_ms(t, kind) for t in timings]))
    return mean_click([timings], kind)


def mean_click(rounds: Sequence[Sequence[Timing]], kind: str) -> float:
    """ms of a mean click: median over rounds of each (image, click), then the mean over clicks and images.

    Online SPC is the mean over the clicks of the workload's episodes; 20-SPC adds a twentieth of the mean encoding.

    Args:
        rounds: the timings of each round, of one size bin; encodings are those of all sizes.
    """
    cells: dict[tuple[int, int], list[float]] = {}
    for timings in rounds:
        for t in timings:
            cells.setdefault((t.image, t.click), []).append(t.ms)
    middles = {cell: float(np.median(values)) for cell, values in cells.items()}
    online = float(np.mean([ms for (_, click), ms in middles.items() if click > 0]))
    if kind == "online_spc":
        return online
    return online + float(np.mean([ms for (_, click), ms in middles.items() if click == 0])) / CLICKS


def _around(value: float, rounds: Interval) -> Interval:
    """The interval of a mean click: that of the rounds' means, in proportion, around the mean of medians.

    Single slow clicks move the mean of a round, not the mean of medians over rounds; what slows whole rounds moves both
    alike, so that the relative width is that of the rounds.
    """
    scale = value / rounds.median
    return Interval(value, rounds.low * scale, rounds.high * scale)


def _ms(timing: Timing, kind: str) -> float:
    if kind != "simulate":
        return timing.ms
    return math.nan if timing.simulate_ms is None else timing.simulate_ms


def _timings(runners: Sequence[Runner]) -> pd.DataFrame:
    rows = [
        {
            "variant": r.variant, "threads": r.threads, "resolution": r.resolution, "round": number, "image": t.image,
            "size_bin": t.size_bin, "click": t.click, "ms": t.ms,
            "boundary_share": r.boundary().get((t.image, t.click), math.nan),
            "simulate_ms": math.nan if t.simulate_ms is None else t.simulate_ms,
        }
        for r in runners for number, answer in r.rounds.items() for t in answer.timings
    ]  # fmt: skip
    return pd.DataFrame(rows)
