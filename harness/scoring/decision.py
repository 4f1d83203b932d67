"""What may be said of a difference. Every sentence, bold mark and exit code of a report asks this module.

Two systems on the same samples: `decide`. Several systems, and which of them is the best: `harness.scoring.ranking`.
Times: `decide_times` within one run, `decide_over_runs` between runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import pandas as pd
from scipy import stats

ALPHA = 0.05
"""A difference is shown where its p is at most this."""
FEWEST_RUNS = 5
"""Earlier runs from which the variation from run to run is estimated; below, times of two runs are not judged."""


class Outcome(str, Enum):
    """The five things that can be said."""

    NOT_COMPARED = "not compared"
    TOO_FEW = "too few samples to tell"
    NO_DIFFERENCE = "no difference shown"
    BETTER = "better"
    WORSE = "worse"


@dataclass(frozen=True)
class Decision:
    """What may be said of one difference, and what it rests on.

    Attributes:
        outcome: one of the five.
        samples: pairs that were compared.
        differing: pairs (of images, where an image has several objects) whose two values differ.
        p_value: of the paired permutation test; NaN where there was none.
        p_adjusted: the p that was judged: `p_value`, or Holm's where the metric is not the one named beforehand.
        smallest_p: the smallest p that so many differing pairs could have given, adjusted like `p_adjusted`.
        reason: why nothing was compared, or "".
    """

    outcome: Outcome
    samples: int = 0
    differing: int = 0
    p_value: float = math.nan
    p_adjusted: float = math.nan
    smallest_p: float = math.nan
    reason: str = ""

    @property
    def shown(self) -> bool:
        """Whether a difference is shown."""
        return self.outcome in (Outcome.BETTER, Outcome.WORSE)

    @property
    def judged(self) -> bool:
        """Whether the data could have shown a difference at all."""
        return self.outcome not in (Outcome.NOT_COMPARED, Outcome.TOO_FEW)

    @property
    def text(self) -> str:
        """The outcome as it stands in a table, with its reason."""
        if self.outcome is Outcome.NOT_COMPARED:
            return f"not compared: {self.reason}" if self.reason else "nothing was compared"
        if self.outcome is Outcome.TOO_FEW:
            differ = "1 sample differs" if self.differing == 1 else f"{self.differing} samples differ"
            adjusted = " with Holm's adjustment" if self.smallest_p > smallest_p(self.differing) else ""
            return f"too few samples to tell ({differ}; the smallest possible p is {self.smallest_p:.2g}{adjusted})"
        if self.outcome is Outcome.NO_DIFFERENCE and self.samples and not self.differing:
            return "identical"
        return self.outcome.value


def smallest_p(differing: int) -> float:
    """Smallest two-sided p of a test that exchanges the members of m pairs that differ: 2 / 2^m, at most 1."""
    return min(1.0, 2.0 / 2.0 ** min(differing, 1000))


def not_compared(reason: str) -> Decision:
    """Nothing was compared, for this reason."""
    return Decision(Outcome.NOT_COMPARED, reason=reason)


def decide(
    difference: float,
    p_value: float,
    samples: int,
    differing: int,
    *,
    better: str,
    low: float = math.nan,
    high: float = math.nan,
    p_adjusted: float | None = None,
    smallest: float | None = None,
) -> Decision:
    """What may be said of a difference between two systems on the same samples.

    "Better" and "worse" need a p of at most 0.05 and, where there is an interval, that it excludes zero: a sentence
    never contradicts the interval beside it.

    Args:
        difference: mean of the one minus the other.
        p_value: of the paired permutation test; NaN where nothing was tested.
        samples: pairs that were compared.
        differing: pairs whose two values differ; of images, where an image has several objects.
        better: "low" or "high", what of this metric is better.
        low, high: 95 % interval of the difference; NaN where there is none.
        p_adjusted: the p to judge by, where it is not `p_value`.
        smallest: the smallest `p_adjusted` that the samples could give (`smallest_holm`); for `p_value` it is 2 / 2^m.
    """
    judged = p_value if p_adjusted is None or math.isnan(p_adjusted) else p_adjusted
    least = smallest_p(differing) if smallest is None or math.isnan(smallest) else smallest
    evidence = Decision(
        Outcome.NO_DIFFERENCE, int(samples), int(differing), float(p_value), float(judged), float(least)
    )
    if samples == 0 or math.isnan(difference):
        return not_compared("no sample in common")
    if better not in ("low", "high"):
        return not_compared("whether low or high is better is not known of this metric")
    if differing == 0:
        return evidence
    if least > ALPHA:
        return replace(evidence, outcome=Outcome.TOO_FEW)
    if math.isnan(judged):
        return not_compared("no test was made")
    if judged > ALPHA or difference == 0 or low <= 0 <= high:
        return evidence
    return replace(evidence, outcome=Outcome.BETTER if (difference < 0) == (better == "low") else Outcome.WORSE)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Holm 1979): the i-th smallest of m times m - i + 1, no smaller than the one before.

    NaN (nothing was tested) stays NaN and is not counted.
    """
    values = np.asarray(p_values, dtype=float)
    known = np.nonzero(~np.isnan(values))[0]
    adjusted = np.full(len(values), math.nan)
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(p) for p in adjusted]


def with_holm(compare: pd.DataFrame, primary: str) -> pd.DataFrame:
    """compare.csv with the columns `p_holm`, the p to judge by, and `p_smallest`, the smallest that it could have been.

    The metric that was named beforehand keeps its p over all samples. All other metrics of one variant on one data set
    (and object size) are one family of comparisons, adjusted by Holm's method. `p_smallest` is the same of the
    smallest p that each row's differing samples allow; above 0.05 nothing can be shown.

    Args:
        compare: columns variant, base, dataset, size_bin, metric, p_value, samples and, if known, differing and images.
        primary: name of the metric that counts.
    """
    least = [smallest_p(n) for n in differing_pairs(compare)]
    frame = compare.assign(p_holm=compare["p_value"].astype(float), p_smallest=np.asarray(least, dtype=float))
    others = ~((frame["metric"] == primary) & frame["size_bin"].isin(("", "all")))
    for _, rows in frame[others].groupby(["variant", "base", "dataset", "size_bin"], sort=False, dropna=False):
        frame.loc[rows.index, "p_holm"] = holm(rows["p_value"].to_list())
        frame.loc[rows.index, "p_smallest"] = holm(rows["p_smallest"].to_list())
    return frame


def differing_pairs(compare: pd.DataFrame) -> list[int]:
    """Of each row of compare.csv: pairs that differ, or images, where one holds several objects and is one unit.

    An older file does not say it; then no more than all samples.
    """
    known = compare[[c for c in ("differing", "images", "samples") if c in compare]].astype(float)
    return [int(n) for n in known.min(axis=1).fillna(0)]


@dataclass(frozen=True)
class Timed:
    """A measured time in ms (or a ratio) with its 95 % interval over the rounds of one run.

    Attributes:
        contended: what else ran on the machine meanwhile, or "".
    """

    median: float
    low: float = math.nan
    high: float = math.nan
    contended: str = ""

    @property
    def has_interval(self) -> bool:
        """Whether there were rounds enough for an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


CONTENDED = "other work ran on the machine"


def decide_times(before: Timed, after: Timed) -> Decision:
    """What may be said of two times of ONE run, whose rounds were interleaved: intervals that overlap show nothing."""
    if before.contended or after.contended:
        return not_compared(CONTENDED)
    if not (before.has_interval and after.has_interval):
        return not_compared("too few rounds for an interval")
    if before.low <= after.high and after.low <= before.high:
        return Decision(Outcome.NO_DIFFERENCE)
    return Decision(Outcome.WORSE if after.median > before.median else Outcome.BETTER)


def run_to_run_p(earlier: Sequence[Timed], now: Timed) -> float:
    """Two-sided p that `now` is another run of the same as `earlier`: Student's t on logarithms of medians.

    t = (log now - mean) / (s sqrt(1 + 1/k)) with k - 1 degrees of freedom, the prediction of one further value; NaN
    with fewer than `FEWEST_RUNS` quiet runs before, or where `now` was contended.
    """
    quiet = np.log([t.median for t in earlier if not t.contended])
    if now.contended or len(quiet) < FEWEST_RUNS:
        return math.nan
    spread = float(np.std(quiet, ddof=1)) * math.sqrt(1 + 1 / len(quiet))
    away = abs(math.log(now.median) - float(quiet.mean()))
    if spread == 0:
        return 1.0 if away == 0 else 0.0
    return float(2 * stats.t.sf(away / spread, len(quiet) - 1))


def decide_over_runs(earlier: Sequence[Timed], now: Timed, p_adjusted: float | None = None) -> Decision:
    """What may be said of a time of one run against earlier runs on the same machine.

    The interval of a run holds what varies between its rounds, nothing of what varies between runs (memory layout,
    clock, neighbours). So two runs alone say nothing; from `FEWEST_RUNS` quiet earlier runs on, their own variation is
    the measure.

    Args:
        earlier: the same condition in earlier runs, oldest first.
        now: in the last run.
        p_adjusted: the p to judge by, where several conditions are judged together; else `run_to_run_p`.
    """
    quiet = [t for t in earlier if not t.contended]
    if now.contended or (earlier and not quiet):
        return not_compared(CONTENDED)
    if len(quiet) < FEWEST_RUNS:
        return not_compared(
            f"a run's interval holds no variation from run to run ({FEWEST_RUNS} quiet earlier runs are needed, "
            f"{len(quiet)} here)"
        )
    p_value = run_to_run_p(earlier, now)
    judged = p_value if p_adjusted is None else p_adjusted
    outcome = Outcome.NO_DIFFERENCE
    if judged <= ALPHA:
        slower = now.median > math.exp(float(np.mean(np.log([t.median for t in quiet]))))
        outcome = Outcome.WORSE if slower else Outcome.BETTER
    return Decision(outcome, samples=len(quiet), differing=len(quiet), p_value=p_value, p_adjusted=judged)
