"""Uncertainty of a mean over samples, and comparison of two variants on the same samples (SciPy)."""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2000
_BCA_LIMIT = 1000
_BATCH_VALUES = 4_000_000


def bootstrap_intervals(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """95 % bootstrap intervals of the means of several metrics over the same samples.

    BCa intervals (Efron 1987); percentile intervals above 1000 samples, where the two agree and BCa's
    jackknife would need n^2 memory.

    Args:
        values: (metrics, samples) float64 without NaN.

    Returns:
        (metrics, 2) low and high. One sample says nothing about the spread: NaN. Equal values: that value
        twice.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    metrics, samples = values.shape
    result = np.full((metrics, 2), np.nan)
    if samples < 2:
        return result
    means = values.mean(axis=1)
    varied = np.ptp(values, axis=1) > 0
    result[~varied] = means[~varied, None]
    if varied.any():
        found = stats.bootstrap(
            (values[varied],),
            np.mean,
            axis=-1,
            vectorized=True,
            confidence_level=CONFIDENCE,
            n_resamples=resamples,
            batch=max(1, _BATCH_VALUES // (samples * int(varied.sum()))),
            method="BCa" if samples <= _BCA_LIMIT else "percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        result[varied] = np.stack([found.low, found.high], axis=1)
    return result


def bootstrap_interval(values: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of (samples,) values; NaN samples are left out. See
    `bootstrap_intervals`."""
    values = np.asarray(values, dtype=np.float64)
    low, high = bootstrap_intervals(values[~np.isnan(values)], seed, resamples)[0]
    return float(low), float(high)


def paired_comparison(
    a: np.ndarray, b: np.ndarray, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float, float, float]:
    """Mean of a - b on the same samples: (difference, low, high, p_value).

    The interval is a paired bootstrap; the p-value a two-sided paired permutation test, which exchanges a and
    b within samples: exact while the 2^n exchanges are no more than `resamples`. Samples where either is NaN
        are left out.

    Args:
        a, b: (samples,) values of two variants, in the same order of samples.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    difference = difference[~np.isnan(difference)]
    if len(difference) == 0:
        return math.nan, math.nan, math.nan, math.nan
    low, high = bootstrap_interval(difference, seed, resamples)
    return float(difference.mean()), low, high, _permutation_p(difference, seed, resamples)


def _permutation_p(difference: np.ndarray, seed: int, resamples: int) -> float:
    # One pair can only be exchanged or not, and both are equally far from zero: p = 1, which SciPy refuses to compute.
    if len(difference) == 1 or not difference.any():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        # With one sample of data SciPy exchanges the signs: the same as exchanging the members of each pair.
        test = stats.permutation_test(
            (difference,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, _BATCH_VALUES // len(difference)),
            rng=np.random.default_rng(seed),
        )
    return float(test.pvalue)
