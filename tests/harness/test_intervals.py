"""Intervals and tests keep what they promise: coverage on simulated data, agreement with exact and other forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from harness.scoring.intervals import bootstrap_interval, bootstrap_intervals, paired_comparison


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    """300 experiments of 60 clicks-to-target drawn from a skewed law whose mean is known; 95 % intervals.

    With 300 experiments one that truly covers 95 % is outside 91..98.5 % less than once in 500; BCa on 60 skewed
    values is known to cover a little less than it says.
    """
    random = np.random.default_rng(0)
    values = np.minimum(20, random.geometric(0.25, (300, 60))).astype(float)
    low, high = bootstrap_intervals(values, resamples=1000).T
    truth = sum(min(20, k) * 0.75 ** (k - 1) * 0.25 for k in range(1, 400))
    assert 0.91 <= ((low <= truth) & (truth <= high)).mean() <= 0.985


def test_paired_test_rejects_a_true_null_as_often_as_it_should():
    random = np.random.default_rng(1)
    p_values = []
    for _ in range(300):
        difficulty = random.normal(0, 5, 30)
        a, b = (difficulty + random.exponential(1, 30) for _ in range(2))
        p_values.append(paired_comparison(a, b, resamples=500)[3])
    # Binomial(300, 0.05) lies in 5..27 with probability 0.998.
    assert 5 <= (np.array(p_values) <= 0.05).sum() <= 27


def test_paired_interval_is_narrower_than_the_noise_between_samples():
    random = np.random.default_rng(2)
    base = random.uniform(1, 20, 100)
    better = base - 0.5 + random.normal(0, 0.1, 100)
    difference, low, high, p = paired_comparison(better, base)
    assert difference == pytest.approx(-0.5, abs=0.05)
    assert high < -0.4 and low > -0.6 and p < 0.01


def test_permutation_is_exact_for_few_samples():
    """All 2^7 exchanges by hand."""
    a, b = np.array([3.0, 5, 2, 9, 4, 7, 6]), np.array([2.5, 5.5, 1, 6, 4.5, 5, 3])
    difference = a - b
    means = [np.mean(difference * signs) for signs in itertools.product((1, -1), repeat=7)]
    one_sided = np.mean(np.array(means) >= difference.mean() - 1e-12)
    assert paired_comparison(a, b)[3] == pytest.approx(2 * one_sided)


def test_shared_resamples_equal_one_metric_at_a_time():
    values = np.random.default_rng(3).gamma(2, 1, (4, 50))
    together = bootstrap_intervals(values, seed=5)
    for row, expected in zip(values, together, strict=True):
        np.testing.assert_allclose(bootstrap_interval(row, seed=5), expected, rtol=1e-12)


def test_close_to_the_t_interval_on_normal_data():
    values = np.random.default_rng(4).normal(10, 2, 400)
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    np.testing.assert_allclose(bootstrap_interval(values), expected, atol=0.03)


def test_large_data_use_percentiles_and_agree():
    values = np.random.default_rng(6).exponential(1, 3000)
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    np.testing.assert_allclose(bootstrap_interval(values), expected, atol=0.01)


def test_degenerate_data():
    assert bootstrap_interval(np.array([5.0, 5.0, 5.0])) == (5.0, 5.0)
    assert all(math.isnan(v) for v in bootstrap_interval(np.array([5.0])))
    assert all(math.isnan(v) for v in bootstrap_interval(np.array([])))
    assert paired_comparison(np.ones(5), np.ones(5)) == (0.0, 0.0, 0.0, 1.0)
    assert all(math.isnan(v) for v in paired_comparison(np.array([]), np.array([])))


def test_pairs_with_nan_are_left_out():
    a, b = np.array([1.0, math.nan, 3, 4]), np.array([0.5, 2, math.nan, 3])
    assert paired_comparison(a, b)[0] == pytest.approx(0.75)
    assert bootstrap_interval(np.array([1, 2, math.nan, 3])) == bootstrap_interval(np.array([1.0, 2, 3]))


def test_same_seed_same_answer():
    a, b = np.random.default_rng(8).random((2, 40))
    assert paired_comparison(a, b, seed=1) == paired_comparison(a, b, seed=1)


def test_one_pair_proves_nothing():
    """Closed form: both exchanges of a single pair are equally extreme, so p = 1; one sample has no spread."""
    difference, low, high, p_value = paired_comparison(np.array([3.0]), np.array([1.0]))
    assert (difference, p_value) == (2.0, 1.0)
    assert np.isnan(low) and np.isnan(high)
