"""Statistics of repeated timings: medians with non-parametric intervals, pairwise ratios, settling.

Timings are skewed, have outliers and drift, so nothing here assumes a distribution. The unit of repetition is a
*round*: within one round every variant runs the same workload once. What slows one child may last over several rounds
(its place in memory, a neighbour on its core); rounds then tell less than independent ones would, and intervals are
widened by what their autocorrelation says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
FEWEST = 7
"""Rounds below which there is no interval: from fewer, noise that lasts over rounds cannot be told."""
_MOST_CORRELATED = 0.9


@dataclass(frozen=True)
class Interval:
    """A median with its interval; the interval is infinite where there are too few values for the level."""

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Median with the order-statistic interval of the sign test, widened where neighbouring rounds are alike.

    P(x_(k+1) <= true median <= x_(n-k)) = 1 - 2 P(Bin(n, 1/2) <= k) for any continuous distribution (with ties it is
    larger); the largest k that keeps at least `level` is taken. Source: any text on the sign test, e.g. Conover,
    Practical Nonparametric Statistics, section 3.2; asv does the same. That holds for independent rounds; for others
    either side is stretched by `widening` (of the logarithms: times and ratios stay positive).

    Args:
        values: positive numbers, one per round, in the order of the rounds.
        level: coverage asked for, in (0, 1).

    Returns:
        The interval is (0, inf) below 7 rounds.
    """
    series = np.asarray(values, dtype=float)
    n = len(series)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    k, middle = order_statistic(n, level), float(np.median(series))
    if k is None or n < FEWEST:
        return Interval(middle, 0.0, math.inf)
    ordered, stretch = np.sort(series), widening(series)
    low, high = (middle * (ordered[i] / middle) ** stretch for i in (k, n - 1 - k))
    return Interval(middle, float(low), float(high))


def widening(series: Sequence[float] | np.ndarray) -> float:
    """By how much wider the interval of a series is than that of as many independent values, at least 1.

    sqrt((1 + r) / (1 - r)), the factor of the standard error of a mean whose noise is autoregressive with the
    correlation r of neighbours. r is measured on ranks (outliers and skewness do not matter), freed of its bias
    -(1 + 3 r) / n (Kendall 1954), raised by its standard error 1 / sqrt(n), since too small an r costs coverage, and
    taken as 0.9 at most.
    """
    from scipy.stats import rankdata  # a second of imports that a measuring child, which only settles, can spare

    n = len(series)
    ranks = rankdata(series) - (n + 1) / 2
    power = float((ranks**2).sum())
    if n < 2 or power == 0:
        return 1.0
    measured = float((ranks[1:] * ranks[:-1]).sum()) / power
    r = min(max(measured + (1 + 3 * measured) / n + 1 / math.sqrt(n), 0.0), _MOST_CORRELATED)
    return math.sqrt((1 + r) / (1 - r))


def order_statistic(n: int, level: float = LEVEL) -> int | None:
    """Index k (from 0) such that [x_k, x_(n-1-k)] covers the median at `level`; None if n is too small.

    >>> order_statistic(5) is None, order_statistic(6), order_statistic(9)
    (True, 0, 1)
    """
    from scipy.stats import binom

    tails = 2 * binom.cdf(np.arange(n // 2), n, 0.5)
    kept = np.nonzero(tails <= 1 - level)[0]
    return int(kept[-1]) if len(kept) else None


def ratio_interval(values: Sequence[float], base: Sequence[float], level: float = LEVEL) -> Interval:
    """Median of the ratios value / base, paired by round, with its interval.

    Pairing removes whatever slows both alike (clock frequency, a neighbour), which a ratio of medians keeps.

    Raises:
        ValueError: the two have different lengths.
    """
    if len(values) != len(base):
        raise ValueError(f"ratios are paired by round: {len(values)} rounds against {len(base)}")
    return median_interval(np.asarray(values, dtype=float) / np.asarray(base, dtype=float), level)


def spread(values: Sequence[float]) -> float:
    """Run-to-run spread: interquartile range over the median; NaN below four values."""
    if len(values) < 4:
        return math.nan
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / middle)


def settled(series: Sequence[float], window: int = 3, tolerance: float = 0.05) -> bool:
    """Whether warming up is over: the median of the last `window` values is within `tolerance` of the one before."""
    if len(series) < 2 * window:
        return False
    before, last = np.median(series[-2 * window : -window]), np.median(series[-window:])
    return bool(abs(last - before) <= tolerance * before)
