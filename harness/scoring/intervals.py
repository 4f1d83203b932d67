"""Intervals that cover the mean as often as they say, at every number of samples (docs/protocols.md, "Intervals").

A few samples of a skewed, bounded value (clicks, IoU) say little about the rare sample that was not drawn, and every
interval made of the drawn values alone (t, bootstrap of any kind) is too short then. `mean_intervals` adds the unseen
sample at the end of the possible range instead (Gaffke 2005; Learned-Miller and Thomas 2019, arXiv:1905.06208): the
drawn values and the end of the range get weights from a flat Dirichlet law, and the interval is read from the weighted
means. On values of 0 and 1 that is Clopper and Pearson's exact interval; on many samples, the usual normal one.
`benchmarks/coverage.py` measures how often the intervals cover.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
FEWEST = 6
"""Images below which there is no interval; the permutation test's smallest p is above 0.05 there, too (2 / 2^5)."""
DRAWS = 4000
_TAIL = (1 - CONFIDENCE) / 2
_CACHED_VALUES = 2_000_000


def mean_intervals(
    values: np.ndarray, least: np.ndarray | float, most: np.ndarray | float, images: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """95 % intervals of the means of several metrics over the same samples.

    Args:
        values: (metrics, samples) float64 without NaN.
        least, most: what a value can be at least and at most; one number, or (metrics,).
        images: (samples,) the image of each sample, any labels; several objects of one image are one draw. None: each
            sample is an image of its own.
        seed: of the weights.

    Returns:
        (metrics, 2) low and high; NaN for fewer than 6 images, and where `least` = `most`.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    sums, sizes = by_image(values, images)
    count = len(sizes)
    least, most = (np.broadcast_to(np.asarray(end, dtype=np.float64), len(values)) for end in (least, most))
    if count < FEWEST:
        return np.full((len(values), 2), np.nan)
    low, high = _weighted(sums, sizes, least, most, seed)
    means = values.mean(axis=1)
    limits = np.stack([np.minimum(low, means), np.maximum(high, means)], axis=1)
    if images is None or count == values.shape[1]:
        for row in np.nonzero(((values == 0) | (values == 1)).all(axis=1) & (least == 0) & (most == 1))[0]:
            limits[row] = proportion_interval(int(values[row].sum()), count)
    limits[least >= most] = np.nan
    return limits


def mean_interval(
    values: np.ndarray, least: float, most: float, images: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean of (samples,) values; samples with NaN are left out. See `mean_intervals`."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    low, high = mean_intervals(values[known], least, most, None if images is None else images[known], seed)[0]
    return float(low), float(high)


def proportion_interval(successes: int, count: int) -> tuple[float, float]:
    """Exact 95 % interval of a proportion (Clopper and Pearson 1934): quantiles of two beta laws."""
    low = stats.beta.ppf(_TAIL, successes, count - successes + 1) if successes else 0.0
    high = stats.beta.ppf(1 - _TAIL, successes + 1, count - successes) if successes < count else 1.0
    return float(low), float(high)


def by_image(values: np.ndarray, images: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums (metrics, images) of (metrics, samples) values, and how many samples each image has."""
    if images is None:
        return values, np.ones(values.shape[1])
    labels, member = np.unique(np.asarray(images).astype(str), return_inverse=True)
    sums = np.stack([np.bincount(member, row, len(labels)) for row in values]) if len(values) else values[:, :0]
    return sums, np.bincount(member, minlength=len(labels)).astype(float)


def _weighted(
    sums: np.ndarray, sizes: np.ndarray, least: np.ndarray, most: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper quantiles of the weighted means with one unseen image at `least` and at `most`, (metrics,) each.

    The unseen image has as many objects as the mean of those that were seen.
    """
    lower, upper = [], []
    for weights in _weights(len(sizes), seed):
        seen, unseen = weights[:, :-1], weights[:, -1:] * sizes.mean()
        total = seen @ sizes[:, None] + unseen
        means = seen @ sums.T
        lower.append((means + unseen * least) / total)
        upper.append((means + unseen * most) / total)
    low = np.quantile(np.concatenate(lower), _TAIL, axis=0)
    return low, np.quantile(np.concatenate(upper), 1 - _TAIL, axis=0)


def _weights(count: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of unscaled Dirichlet(1, …, 1) weights of `count` images and of the unseen one, (draws, count + 1)."""
    if DRAWS * (count + 1) <= _CACHED_VALUES:
        yield _cached_weights(count, seed)
        return
    rng = np.random.default_rng(seed)
    rows = max(1, _CACHED_VALUES // (count + 1))
    for start in range(0, DRAWS, rows):
        yield rng.standard_exponential((min(rows, DRAWS - start), count + 1))


@functools.lru_cache(maxsize=8)
def _cached_weights(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_exponential((DRAWS, count + 1))


def is_interval(low: float, high: float) -> bool:
    """Whether there is an interval to show; otherwise there were too few samples for one."""
    return math.isfinite(low) and math.isfinite(high)
