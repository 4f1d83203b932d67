"""Stopping when it is enough: the error rate by simulation, and the arithmetic by a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.scoring.sequential import ConfidenceSequence, looks, random_order, verdict


def reference(values: list[float], reach: float, population: int, mean: float) -> float:
    """Largest hedged capital so far against one mean, by the formulas of arXiv:2010.09686 (section 4.4, and 5 for
    drawing without replacement), one number at a time."""
    x, m = [(v / reach + 1) / 2 for v in values], (mean / reach + 1) / 2
    above = below = 1.0
    largest = 0.0
    for t in range(1, len(x) + 1):
        before = x[: t - 1]
        running = [(0.5 + sum(before[: i + 1])) / (i + 2) for i in range(len(before))]
        variance = (0.25 + sum((a - b) ** 2 for a, b in zip(before, running, strict=True))) / t
        bet = math.sqrt(2 * math.log(2 / 0.05) / (variance * t * math.log(t + 1)))
        rest = (population * m - sum(before)) / (population - t + 1)
        above *= 1 + min(bet, 0.75 / rest) * (x[t - 1] - rest)
        below *= 1 - min(bet, 0.75 / (1 - rest)) * (x[t - 1] - rest)
        largest = max(largest, above / 2, below / 2)
    return largest


def test_capital_and_interval_equal_the_slow_reference():
    random = np.random.default_rng(0)
    values = [float(v) for v in random.choice([-4, -2, -1, 0, 0, 0, 1], 60)]
    sequence = ConfidenceSequence(19, 500)
    sequence.add(values)
    assert sequence.p_value == pytest.approx(min(1, 1 / reference(values, 19, 500, 0.0)), rel=1e-9)
    step = 38 / 4000
    for end in (sequence.low, sequence.high):
        inward = 1 if end == sequence.low else -1
        assert reference(values, 19, 500, end - inward * step) >= 20
        assert reference(values, 19, 500, end + inward * 2.5 * step) < 20


def populations() -> dict[str, np.ndarray]:
    """Differences of NoC whose mean is exactly 0: skewed, sparse, and broad ones."""
    random = np.random.default_rng(1)
    skewed = np.repeat([19.0, -1.0], [20, 380])
    sparse = np.repeat([5.0, -5.0, 0.0], [15, 15, 370])
    broad = random.permutation(np.linspace(-19, 19, 400))
    return {"skewed": skewed, "sparse": sparse, "broad": broad}


@pytest.mark.parametrize("name", populations())
def test_a_difference_that_is_not_there_is_claimed_at_most_in_one_of_twenty_runs_that_look_at_every_sample(name):
    values = populations()[name]
    assert values.sum() == pytest.approx(0, abs=1e-9)
    wrong, runs = 0, 120
    for run in range(runs):
        sequence = ConfidenceSequence(19, len(values), grid=100)
        for value in np.random.default_rng(run).permutation(values):
            sequence.add([value])
            if sequence.decided or not sequence.low <= 1e-6 or not sequence.high >= -1e-6:
                wrong += 1
                break
    # 5 % of 120 and two standard deviations of that count: 6 + 5.
    assert wrong <= 11


def test_a_fixed_sample_test_looked_at_every_time_would_not_do():
    """Why the sequence is there: a t-test at 5 % after every 10th sample is wrong far more often."""
    from scipy import stats

    values = populations()["broad"]
    wrong = 0
    for run in range(80):
        drawn = np.random.default_rng(run).permutation(values)
        wrong += any(stats.ttest_1samp(drawn[:n], 0).pvalue < 0.05 for n in range(20, 301, 10))
    assert wrong > 8  # 5 % of 80 and two standard deviations of that count


def test_what_is_there_is_found_early_and_on_the_right_side():
    random = np.random.default_rng(2)
    values = random.choice([-6.0, -3.0, -1.0, 0.0, 1.0], 2000)
    decided = verdict(list(values[:400]), 19, 2000)
    assert decided.outcome == "decided" and decided.high < 0 and decided.low <= values.mean() <= decided.high
    assert decided.p_value <= 0.05
    assert verdict(list(values[:3]), 19, 2000).outcome == "open"
    assert verdict([], 19, 2000).outcome == "open" and math.isnan(verdict([], 19, 2000).difference)
    equal = [0.0] * 1500
    assert verdict(equal, 19, 2000).outcome == "open"
    assert verdict(equal, 19, 2000, width=1.0).outcome == "narrow"
    assert verdict([1.0, -1.0], 19, 2).outcome == "complete"


def test_all_samples_leave_no_doubt():
    """Drawn without replacement: when all were seen, their mean is known."""
    values = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 300)
    sequence = ConfidenceSequence(1, 300)
    sequence.add(values)
    assert sequence.low <= values.mean() <= sequence.high and sequence.high - sequence.low < 0.01
    with pytest.raises(ValueError, match="more than the 300"):
        sequence.add([0.0])
    with pytest.raises(ValueError, match="outside"):
        ConfidenceSequence(1, 3).add([1.5])


def test_the_order_is_of_the_names_alone():
    names = [f"image{n}" for n in range(50)]
    assert random_order(names) == random_order(reversed(names)) != names
    assert sorted(random_order(names, 1)) == sorted(names) and random_order(names, 1) != random_order(names)


def test_looks():
    assert looks(5) == [5] and looks(20) == [20] and looks(30) == [20, 25, 30]
    assert looks(6671)[-1] == 6671 and len(looks(6671)) < 35
