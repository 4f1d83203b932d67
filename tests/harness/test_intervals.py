"""Intervals and tests keep what they promise: agreement with exact closed forms and other libraries.

How often the intervals cover is simulated in test_coverage.py.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from harness.scoring.intervals import is_interval, mean_interval, mean_intervals, proportion_interval
from harness.scoring.paired import paired_comparison, paired_comparisons


@pytest.mark.parametrize("successes", [0, 1, 4, 19, 20])
def test_proportions_have_clopper_and_pearsons_interval(successes):
    expected = stats.binomtest(successes, 20).proportion_ci(0.95, method="exact")
    assert proportion_interval(successes, 20) == pytest.approx((expected.low, expected.high), abs=1e-9)
    values = np.repeat([1.0, 0.0], [successes, 20 - successes])
    assert mean_interval(values, 0, 1) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_two_values_on_another_scale_have_the_same_interval():
    """NoC of 1 and 20 is 1 + 19 times a proportion; drawn weights instead of beta quantiles: 4,000 of them put the
    quantile within 4 sqrt(0.025 * 0.975 / 4000) = 1 % of its level."""
    expected = stats.binomtest(3, 30).proportion_ci(0.95, method="exact")
    levels = [stats.beta.cdf(expected.low, 3, 28), stats.beta.cdf(expected.high, 4, 27)]
    assert levels == pytest.approx([0.025, 0.975])
    low, high = mean_interval(np.repeat([20.0, 1.0], [3, 27]), 1, 20)
    assert stats.beta.cdf((low - 1) / 19, 3, 28) == pytest.approx(0.025, abs=0.01)
    assert stats.beta.cdf((high - 1) / 19, 4, 27) == pytest.approx(0.975, abs=0.01)


def test_equal_values_do_not_give_an_interval_of_no_width():
    """All at the best NoC: with probability 2.5 % no image of a share 1 - 0.025^(1/n) is drawn (the rule of three)."""
    low, high = mean_interval(np.ones(50), 1, 20)
    assert low == 1 and high == pytest.approx(1 + 19 * (1 - 0.025 ** (1 / 50)), rel=0.05)
    assert all(map(math.isnan, mean_interval(np.ones(50), 1, 1)))  # one allowed click: nothing can vary


def test_close_to_the_t_interval_on_many_values():
    values = np.random.default_rng(4).uniform(5, 15, 2000)
    expected = stats.t.interval(0.95, 1999, values.mean(), stats.sem(values))
    np.testing.assert_allclose(mean_interval(values, 1, 20), expected, atol=0.02)


def test_below_six_images_there_is_no_interval():
    assert not is_interval(*mean_interval(np.arange(1.0, 6), 1, 20))
    assert is_interval(*mean_interval(np.arange(1.0, 7), 1, 20))
    assert all(math.isnan(v) for v in mean_interval(np.array([]), 1, 20))
    images = np.repeat(np.arange(5), 4)
    assert not is_interval(*mean_interval(np.arange(20.0), 0, 20, images))
    # A difference of 19 images has none either, and keeps its test.
    for few in (19, 20):
        found = paired_comparison(np.arange(few) + 2.0, np.ones(few), 9.5)
        assert is_interval(*found[1:3]) == (few == 20) and found[3] == pytest.approx(2 / 10_001)


def test_many_metrics_at_once_equal_one_at_a_time():
    values = np.random.default_rng(3).uniform(0, 1, (4, 50))
    for row, expected in zip(values, mean_intervals(values, 0, 1), strict=True):
        np.testing.assert_allclose(mean_interval(row, 0, 1), expected, rtol=1e-12)


def test_weights_in_batches_are_those_at_once(monkeypatch):
    values = np.random.default_rng(5).uniform(0, 1, 40)
    whole = mean_interval(values, 0, 1)
    monkeypatch.setattr("harness.scoring.intervals._CACHED_VALUES", 41 * 1000)
    np.testing.assert_allclose(mean_interval(values, 0, 1), whole, rtol=1e-12)


def test_objects_of_one_image_are_one_draw():
    """Copies of an object in its image add nothing: the interval is that of the images alone."""
    once = np.random.default_rng(6).uniform(1, 20, 30)
    images = np.array([f"{i:02d}" for i in range(30)])
    alone = mean_interval(once, 1, 20)
    np.testing.assert_allclose(mean_interval(np.repeat(once, 4), 1, 20, np.repeat(images, 4)), alone, rtol=1e-12)
    low, high = mean_interval(np.repeat(once, 4), 1, 20)
    assert high - low < 0.6 * (alone[1] - alone[0])


def test_paired_test_rejects_a_true_null_as_often_as_it_should():
    random = np.random.default_rng(1)
    difficulty = random.normal(0, 5, (300, 30))
    a, b = (difficulty + random.exponential(1, (300, 30)) for _ in range(2))
    # Binomial(300, 0.05) lies in 5..27 with probability 0.998.
    assert 5 <= (paired_comparisons(a - b, None).p_value <= 0.05).sum() <= 27


def test_permutation_is_exact_for_few_samples():
    """All 2^7 exchanges by hand."""
    a, b = np.array([3.0, 5, 2, 9, 4, 7, 6]), np.array([2.5, 5.5, 1, 6, 4.5, 5, 3])
    difference = a - b
    means = [np.mean(difference * signs) for signs in itertools.product((1, -1), repeat=7)]
    one_sided = np.mean(np.array(means) >= difference.mean() - 1e-12)
    assert paired_comparison(a, b)[3] == pytest.approx(2 * one_sided)


@pytest.mark.parametrize("samples", [9, 40])
def test_permutation_agrees_with_scipy(samples):
    """Exactly up to 12 pairs; above, two drawn p of about 0.1 differ by < 4 sqrt(2 * 2 * 0.1 / 10000) = 0.025."""
    difference = np.random.default_rng(samples).normal(0.45 if samples == 9 else 0.28, 1, samples)
    test = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=10_000, rng=np.random.default_rng(0)
    )
    tolerance = 1e-12 if samples == 9 else 0.025
    assert paired_comparison(difference, np.zeros(samples))[3] == pytest.approx(test.pvalue, abs=tolerance)


def test_failures_are_compared_by_mcnemars_exact_test():
    """8 samples fail under a alone, 1 under b alone: p = 2 P(Bin(9, 1/2) <= 1) = 2 * 10 / 512."""
    a = np.repeat([1.0, 0, 1, 0], [8, 1, 5, 26])
    b = np.repeat([0.0, 1, 1, 0], [8, 1, 5, 26])
    difference, low, high, p_value = paired_comparison(a, b, 1)
    assert difference == pytest.approx(7 / 40) and p_value == pytest.approx(20 / 512)
    assert low < 7 / 40 < high


def test_members_of_a_pair_are_exchanged_for_a_whole_image():
    """Eight objects of three images all get better: only 2^3 exchanges are possible, so p = 2 / 8."""
    differences, images = np.array([[1.0, 2, 3, 1, 2, 3, 1, 2]]), np.array(list("aaabbbcc"))
    found = paired_comparisons(differences, 9.5, images)
    assert found.p_value[0] == pytest.approx(2 / 8) and found.differing[0] == 3
    assert paired_comparisons(differences, 9.5).p_value[0] == pytest.approx(2 / 256)


def test_nothing_differs():
    difference, low, high, p_value = paired_comparison(np.ones(50), np.ones(50), 9.5)
    assert (difference, p_value) == (0.0, 1.0)
    # The rule of three again, on either side of zero.
    assert high == pytest.approx(9.5 * (1 - 0.025 ** (1 / 50)), rel=0.05) and low == pytest.approx(-high, rel=1e-12)


def test_an_unknown_range_gives_no_interval_but_a_p_value():
    found = paired_comparison(np.arange(8.0) + 1, np.zeros(8))
    assert not is_interval(*found[1:3]) and found[3] == pytest.approx(2 / 2**8)


def test_paired_interval_is_narrower_than_the_noise_between_samples():
    random = np.random.default_rng(2)
    base = random.uniform(0.3, 0.9, 100)
    better = base + 0.05 + random.normal(0, 0.01, 100)
    difference, low, high, p = paired_comparison(better, base, 0.5)
    assert difference == pytest.approx(0.05, abs=0.005)
    # One unseen of 101 pairs at -0.5 has a weight below 1 - 0.025^(1/100) = 3.6 %.
    assert low > 0.05 - 0.036 * 0.56 - 0.005 and high < 0.05 + 0.036 * 0.46 + 0.005 and p < 0.01


def test_pairs_with_nan_are_left_out():
    a, b = np.array([1.0, math.nan, 3, 4]), np.array([0.5, 2, math.nan, 3])
    assert paired_comparison(a, b)[0] == pytest.approx(0.75)
    some = np.array([1, 2, math.nan, 3, 4, 5, 6])
    assert mean_interval(some, 1, 20) == mean_interval(some[~np.isnan(some)], 1, 20)
    assert all(math.isnan(v) for v in paired_comparison(np.array([]), np.array([])))


def test_same_seed_same_answer():
    a, b = np.random.default_rng(8).random((2, 40))
    assert paired_comparison(a, b, 0.5, seed=1) == paired_comparison(a, b, 0.5, seed=1)


def test_one_pair_proves_nothing():
    """Closed form: both exchanges of a single pair are equally extreme, so p = 1; one sample has no spread."""
    difference, low, high, p_value = paired_comparison(np.array([3.0]), np.array([1.0]), 9.5)
    assert (difference, p_value) == (2.0, 1.0)
    assert np.isnan(low) and np.isnan(high)
