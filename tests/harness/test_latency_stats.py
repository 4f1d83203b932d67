"""Statistics of timings on simulated data, where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from harness.latency.stats import median_interval, order_statistic, ratio_interval, settled, spread, widening

TRIALS = 1500


def lognormal(rng, shape):
    """Skewed, as timings are; true median 10."""
    return 10 * np.exp(0.2 * rng.standard_normal(shape))


def with_outliers(rng, shape):
    """5 % of the values are 20 times as long; the median moves to the 50/95 quantile of the clean part."""
    return lognormal(rng, shape) * np.where(rng.random(shape) < 0.05, 20, 1)


def bimodal(rng, shape):
    """Two clock frequencies, 60 % at 10 and 40 % at 15, each with 2 % noise."""
    return np.where(rng.random(shape) < 0.6, 10, 15) * (1 + 0.02 * rng.standard_normal(shape))


def true_median(draw):
    return float(np.median(draw(np.random.default_rng(99), 2_000_000)))


def floor(level):
    """The least coverage that chance allows in so many trials if the true one is `level` (1 in 1000)."""
    return binom.ppf(0.001, TRIALS, level) / TRIALS


@pytest.mark.parametrize("draw", [lognormal, with_outliers, bimodal])
@pytest.mark.parametrize("rounds", [7, 15, 40])
def test_interval_covers_the_true_median(draw, rounds):
    rng, truth = np.random.default_rng(1), true_median(draw)
    found = [median_interval(row) for row in draw(rng, (TRIALS, rounds))]
    coverage = np.mean([i.low <= truth <= i.high for i in found])
    assert coverage >= floor(0.95)
    # Not by being uselessly wide: the next narrower interval would miss the level, by the binomial formula, and
    # independent rounds widen it by what r = 1.5 standard errors would, in the middle of all trials.
    k = order_statistic(rounds)
    assert 2 * binom.cdf(k + 1, rounds, 0.5) > 0.05
    r = 1.5 / math.sqrt(rounds)
    assert np.median([widening(row) for row in draw(rng, (200, rounds))]) < math.sqrt((1 + r) / (1 - r))


def test_widening_by_hand():
    """Ranks 1..9 in order: sum of neighbours' products of -4..4 is 40 of 60, r = 0.667 + 3 / 9 + 1 / 3 is taken as 0.9.

    Alternating ranks are below independence: no narrower than independent rounds.
    """
    assert widening(range(1, 10)) == pytest.approx(math.sqrt(1.9 / 0.1))
    assert widening([1, 9, 2, 8, 3, 7, 4, 6, 5]) == 1
    assert widening([3.0] * 9) == 1
    # Five ranks -2..2 in the order 0, -2, 2, 1, -1: products 0 - 4 + 2 - 1 = -3 of 10; (1 - 0.9) / 5 of bias.
    r = -0.3 + 0.1 / 5 + 1 / math.sqrt(5)
    assert widening([3, 1, 5, 4, 2]) == pytest.approx(math.sqrt((1 + r) / (1 - r)))


def lasting(rng, trials, rounds, correlation):
    """Times of a child whose noise of 10 % lasts over rounds: an AR(1) process, in its stationary state."""
    noise = rng.standard_normal((trials, rounds))
    for i in range(1, rounds):
        noise[:, i] = correlation * noise[:, i - 1] + math.sqrt(1 - correlation**2) * noise[:, i]
    return 10 * np.exp(0.1 * noise)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("rounds", [7, 10, 20, 40])
def test_ratio_covers_with_noise_that_lasts_over_rounds(correlation, rounds):
    """At least 93 % (but for chance, 1 in 1000) up to a correlation of 0.6; unwidened it is 75 to 86 % there."""
    rng = np.random.default_rng(4)
    base = 10 * np.exp(0.01 * rng.standard_normal((TRIALS, rounds)))
    found = [ratio_interval(y, x) for y, x in zip(lasting(rng, TRIALS, rounds, correlation), base, strict=True)]
    assert np.mean([i.low <= 1 <= i.high for i in found]) >= floor(0.93)


def test_round_medians_of_odd_length_keep_the_median():
    # The median of an odd sample is below the true median with probability 1/2, so rounds may hold several timings.
    rng, truth = np.random.default_rng(2), true_median(bimodal)
    medians = np.median(bimodal(rng, (TRIALS, 15, 5)), axis=2)
    coverage = np.mean([i.low <= truth <= i.high for i in map(median_interval, medians)])
    assert coverage >= floor(0.95)


def test_paired_ratio_covers_the_true_ratio_under_drift_where_unpaired_medians_do_not():
    """Clock drift of a factor 2 within a run, plus 3 % noise; B takes 1.1 times as long as A.

    A is measured in the first half of the run and B in the second when they are not interleaved.
    """
    rng, true_ratio, rounds = np.random.default_rng(3), 1.1, 20
    noise = 1 + 0.03 * rng.standard_normal((2, TRIALS, rounds))
    drift = np.exp(np.cumsum(0.05 * rng.standard_normal((TRIALS, rounds)), axis=1)) * np.linspace(1, 2, rounds)
    a, b = 10 * drift * noise[0], 11 * drift * noise[1]
    paired = [ratio_interval(y, x) for x, y in zip(a, b, strict=True)]
    assert np.mean([i.low <= true_ratio <= i.high for i in paired]) >= floor(0.95)
    assert np.median([i.high - i.low for i in paired]) < 0.1
    half = rounds // 2
    unpaired = [np.median(y[half:]) / np.median(x[:half]) for x, y in zip(a, b, strict=True)]
    assert np.mean(np.abs(np.array(unpaired) - true_ratio) > 0.1) > 0.9


def test_too_few_values_give_an_infinite_interval():
    # 2 / 2^5 = 6.25 % > 5 %: five values cannot give 95 %, six only where they are independent, which six cannot tell.
    for few in (5, 6):
        found = median_interval(range(1, few + 1))
        assert (found.median, found.low, found.high) == ((few + 1) / 2, 0, math.inf)
    seven = median_interval([4, 1, 7, 2, 6, 3, 5])  # no two neighbours alike: not widened
    assert (seven.low, seven.high) == pytest.approx((1, 7))
    assert math.isnan(median_interval([]).median)


def test_ratios_must_be_paired():
    with pytest.raises(ValueError, match="paired by round"):
        ratio_interval([1, 2, 3], [1, 2])


def test_settling():
    assert not settled([10, 5, 4, 4])
    assert not settled([20, 15, 12, 9, 7, 5])
    assert settled([20, 9, 4, 4.1, 3.9, 4, 4, 4.05])


def test_spread_is_relative_to_the_median():
    # Quartiles of 1..9 are 3 and 7 (linear interpolation), the median is 5.
    assert spread(range(1, 10)) == pytest.approx(4 / 5)
    assert math.isnan(spread([1, 2, 3]))
