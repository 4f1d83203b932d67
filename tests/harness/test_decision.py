"""What may be said of a difference: the five outcomes, Holm's adjustment, and who may be called the best."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from harness.scoring import decision, ranking
from harness.scoring.decision import Outcome, Timed, decide, decide_over_runs, decide_times, holm
from harness.scoring.metrics import paired_comparison


def of(differences: list[float], better: str = "low") -> decision.Decision:
    """The decision on these paired differences."""
    values = np.array(differences, dtype=float)
    return ranking.compare_pair(values, np.zeros(len(values)), better)


def test_five_of_six_samples_lost_are_too_few_to_tell():
    """A loss of 12.7 clicks on average; five pairs that differ give at best 2 / 2^5 = 0.0625 > 0.05."""
    found = of([15, 15, 15, 16, 15, 0])
    assert found.outcome is Outcome.TOO_FEW and not found.judged
    assert (found.samples, found.differing, found.smallest_p) == (6, 5, 0.0625)
    assert found.text == "too few samples to tell (5 samples differ; the smallest possible p is 0.062)"


@pytest.mark.parametrize(("better", "outcome"), [("low", Outcome.WORSE), ("high", Outcome.BETTER)])
def test_six_that_all_differ_the_same_way_are_enough(better, outcome):
    """2 / 2^6 = 0.03125, the exact p of six equal signs."""
    found = of([1, 2, 1.5, 1, 3, 2], better)
    assert found.outcome is outcome and found.p_value == pytest.approx(0.03125)


def test_the_smallest_p_is_that_of_all_exchanges_by_hand():
    """Every assignment of signs, counted: only all-plus and all-minus are as far from zero as the data."""
    for m in range(1, 8):
        values = np.arange(1, m + 1, dtype=float)
        sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True)))
                for signs in itertools.product((1, -1), repeat=m)]  # fmt: skip
        exact = np.mean([s >= values.sum() - 1e-9 for s in sums])
        assert decision.smallest_p(m) == pytest.approx(exact)
        padded = np.concatenate([values, np.zeros(3)])
        assert paired_comparison(padded, np.zeros(m + 3))[3] == pytest.approx(exact, abs=0.02)


def test_no_sample_in_common_and_no_direction_are_not_compared():
    assert of([]).text == "not compared: no sample in common"
    assert of([1.0] * 8, better="").outcome is Outcome.NOT_COMPARED


def test_equal_values_are_identical_however_few():
    assert of([0.0, 0.0]).text == "identical" and of([0.0, 0.0]).outcome is Outcome.NO_DIFFERENCE


def test_the_interval_beside_a_sentence_never_contradicts_it():
    """p says yes, the interval holds zero: nothing is claimed. Without an interval p decides."""
    assert decide(1.0, 0.01, 30, 30, better="low", low=-0.1, high=2.0).outcome is Outcome.NO_DIFFERENCE
    assert decide(1.0, 0.01, 30, 30, better="low", low=0.1, high=2.0).outcome is Outcome.WORSE
    assert decide(1.0, 0.01, 30, 30, better="low").outcome is Outcome.WORSE
    assert decide(1.0, 0.20, 30, 30, better="low", low=0.1, high=2.0).outcome is Outcome.NO_DIFFERENCE


def slow_holm(p_values: list[float]) -> list[float]:
    """Holm's closed testing by definition: the largest Bonferroni p of all subsets that contain the hypothesis."""
    adjusted = []
    for i in range(len(p_values)):
        others = [p for j, p in enumerate(p_values) if j != i]
        subsets = (c for n in range(len(others) + 1) for c in itertools.combinations(others, n))
        adjusted.append(max(min(1.0, (len(c) + 1) * min([p_values[i], *c])) for c in subsets))
    return adjusted


def test_holm_is_the_closed_bonferroni_test():
    rng = np.random.default_rng(0)
    for m in (1, 2, 5, 8):
        p_values = list(rng.uniform(0, 0.2, m))
        assert holm(p_values) == pytest.approx(slow_holm(p_values))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # by hand: 3 x 0.01, 2 x 0.03, then no smaller
    assert holm([0.01, math.nan, 0.02])[1] != holm([0.01, math.nan, 0.02])[1]
    assert holm([0.01, math.nan, 0.02])[::2] == pytest.approx([0.02, 0.02])  # NaN is no comparison


def test_the_primary_metric_keeps_its_p_and_the_others_share_a_family():
    rows = [("a", "base", "d", "all", "noc90", 0.04, 20), ("a", "base", "d", "all", "miou5", 0.01, 20),
            ("a", "base", "d", "all", "auc", 0.04, 20), ("b", "base", "d", "all", "miou5", 0.04, 20),
            ("a", "base", "d", "1-5%", "noc90", 0.02, 6), ("a", "base", "d", "1-5%", "auc", 0.04, 6)]  # fmt: skip
    names = ["variant", "base", "dataset", "size_bin", "metric", "p_value", "samples"]
    frame = decision.with_holm(pd.DataFrame(rows, columns=names), "noc90")
    # Families: {miou5, auc} of a; {miou5} of b; {noc90, auc} of a's small objects, where noc90 is one of several.
    assert frame["p_holm"].tolist() == pytest.approx([0.04, 0.02, 0.04, 0.04, 0.04, 0.04])
    assert frame["p_smallest"].tolist()[-1] == pytest.approx(2 * 2 / 2**6)


def test_images_are_the_unit_where_they_hold_several_objects():
    frame = pd.DataFrame({"samples": [40, 40, 9], "differing": [30.0, 4.0, math.nan], "images": [12.0, 12.0, math.nan]})
    assert decision.differing_pairs(frame) == [12, 4, 9]


def test_a_family_in_which_nothing_can_be_shown_is_too_few():
    """Six pairs give 0.031 at best; as one of eight metrics that all differ so, 8 x 0.031 = 0.25."""
    found = decide(1.0, 0.03125, 6, 6, better="low", p_adjusted=0.25, smallest=0.25)
    assert found.outcome is Outcome.TOO_FEW
    assert found.text.endswith("(6 samples differ; the smallest possible p is 0.25 with Holm's adjustment)")


def table(values: list[float], first: int = 0, key: str = "noc90") -> pd.DataFrame:
    return pd.DataFrame({key: values}, index=[f"s{i:02d}" for i in range(first, first + len(values))])


def test_a_system_that_fails_on_the_hard_images_is_not_the_best():
    """It has 3 on 44 easy images; the other 3.28 on all 50, but 1 on those 44."""
    easy = [2.0 + i % 3 for i in range(44)]
    other = [1.0] * 44 + [20.0] * 6
    found = ranking.rank({"fails": table(easy), "whole": table(other)}, ["noc90"], "noc90")["noc90"]
    assert (found.samples, found.of, found.equal_sets) == (44, 50, False)
    assert found.best == "whole"
    assert found.means["whole"] == pytest.approx(np.mean(other[:44]))


def test_the_best_has_to_beat_every_other():
    rng = np.random.default_rng(1)
    base = rng.uniform(2, 8, 40)
    tables = {"a": table(list(base)), "b": table(list(base + rng.normal(0, 1, 40) + 0.05)), "c": table(list(base + 3))}
    found = ranking.rank(tables, ["noc90"], "noc90")["noc90"]
    assert found.best == "" and found.decision.outcome is Outcome.NO_DIFFERENCE
    del tables["b"]
    assert ranking.rank(tables, ["noc90"], "noc90")["noc90"].best == "a"


@pytest.mark.parametrize("tables", [{}, {"a": table([1.0] * 9)}, {"a": table([1.0]), "b": table([2.0], first=1)}])
def test_nobody_is_the_best_of_nothing(tables):
    assert ranking.rank(tables, ["noc90"], "noc90")["noc90"].best == ""


def test_a_tie_is_nobodys():
    tables = {"a": table([1.0, 2.0] * 10), "b": table([1.0, 2.0] * 10)}
    assert ranking.rank(tables, ["noc90"], "noc90")["noc90"].best == ""


def test_times_of_one_run_need_intervals_apart_and_a_quiet_machine():
    one, two, near = Timed(10, 9, 11), Timed(20, 19, 21), Timed(10.5, 10, 12)
    assert decide_times(one, two).outcome is Outcome.WORSE and decide_times(two, one).outcome is Outcome.BETTER
    assert decide_times(one, near).outcome is Outcome.NO_DIFFERENCE
    assert decide_times(one, Timed(20, 0, math.inf)).text == "not compared: too few rounds for an interval"
    for pair in ((one, Timed(20, 19, 21, "load")), (Timed(10, 9, 11, "load"), two)):
        assert decide_times(*pair).outcome is Outcome.NOT_COMPARED


@pytest.mark.parametrize("runs", [5, 8])
def test_runs_of_the_same_thing_seldom_read_as_a_change(runs):
    """The t prediction of one more value at 5 %: of 2,000 true zeros 5 % plus 3 standard errors (1.5 %)."""
    rng = np.random.default_rng(runs)
    times = np.exp(rng.normal(2, 0.1, (2000, runs + 1)))
    shown = [decide_over_runs([Timed(t) for t in line[:-1]], Timed(line[-1])).shown for line in times]
    assert 0.03 <= np.mean(shown) <= 0.065
