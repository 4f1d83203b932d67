"""Short forms of benchmarks/coverage.py: on the project's own distributions, intervals cover at least 93 %.

The bound of every test is the 1-in-1000 quantile of the binomial law of 400 experiments at 93 %, so an interval that
covers 93 % fails a case once in a thousand: 357 of 400, 89.2 %. What was shown before (BCa) covered 38 to 89 %.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks import coverage, stored_tables
from harness.scoring import intervals, paired

TRIALS = 400
BOUND = binom.ppf(0.001, TRIALS, 0.93) / TRIALS


def lowest(worlds, share, images, **settings):
    shares = [share(w, images, TRIALS, np.random.default_rng([1, i]), **settings) for i, w in enumerate(worlds)]
    return min(shares)


@pytest.mark.parametrize("images", [6, 7, 10, 20, 50, 200])
def test_means_cover(images):
    assert lowest(coverage.populations("noc90"), coverage.mean_share, images) >= BOUND
    assert lowest(coverage.populations("miou5"), coverage.mean_share, images, least=0, most=1) >= BOUND


@pytest.mark.parametrize("images", [6, 20, 50, 200])
def test_failures_cover_even_when_they_are_rare(images):
    assert lowest(coverage.failures(), coverage.mean_share, images, least=0, most=1) >= BOUND


@pytest.mark.parametrize("images", [20, 30, 50, 200])
def test_differences_cover(images):
    assert lowest(coverage.differences("noc90"), coverage.paired_share, images) >= BOUND
    assert lowest(coverage.differences("miou5"), coverage.paired_share, images, unseen=0.5) >= BOUND
    assert lowest(coverage.failure_differences(), coverage.paired_share, images, unseen=1) >= BOUND


@pytest.mark.parametrize("images", [10, 40])
def test_objects_of_one_image_cover_where_independent_ones_would_not(images):
    """Two of the models; as if objects were independent, the worse one misses the bound."""
    worlds = coverage.populations("noc90")[1:3]
    assert lowest(worlds, coverage.cluster_share, images) >= BOUND
    rng = np.random.default_rng(3)
    world = coverage.clustered(worlds[1], rng)
    limits = []
    for _ in range(TRIALS):
        drawn = np.concatenate([world[i] for i in rng.integers(0, len(world), images)])
        limits.append(intervals.mean_interval(drawn, 1, 20))
    assert coverage.covered(np.array(limits), np.concatenate(world).mean()) < 0.93


def test_inverted_permutation_tests_would_not_cover():
    """Why differences have no interval from their test: means of random subsets (Hartigan 1969) are that one."""
    population, rng = coverage.differences("noc90")[0], np.random.default_rng(0)
    drawn = rng.choice(population, (TRIALS, 20))
    subsets = rng.integers(0, 2, (2000, 20)).astype(float)
    subsets = subsets[subsets.any(axis=1)]
    limits = np.quantile(drawn @ (subsets / subsets.sum(axis=1, keepdims=True)).T, [0.025, 0.975], axis=1).T
    assert coverage.covered(limits, population.mean()) < 0.93


def test_nothing_is_shown_below_the_fewest_images():
    population, rng = coverage.populations("noc90")[0], np.random.default_rng(0)
    assert math.isnan(coverage.mean_share(population, intervals.FEWEST - 1, 5, rng))
    assert math.isnan(coverage.paired_share(population, paired.FEWEST_IMAGES - 1, 5, rng))


def test_fits_cover_at_five_rounds():
    assert coverage.fit_share(5, 200, np.random.default_rng(0)) >= binom.ppf(0.001, 200, 0.93) / 200


def test_tables_are_kept_as_files_with_marks_in_their_place(tmp_path):
    """By hand: two tables, with text between them; an empty first cell stays a cell."""
    text = ["a", "| | 6 |", "|---|---|", "| x, y | 1.5 |", "", "| z |", "|---|", "| |", "b"]
    kept = stored_tables.store(text, ["one", "two"], tmp_path)
    marks = [[f"<!-- rows: csv file={name}.csv -->", "", "<!-- rows: end -->"] for name in ("one", "two")]
    assert kept == ["a", *marks[0], "", *marks[1], "b"]
    assert (tmp_path / "one.csv").read_text() == ',6\n"x, y",1.5\n'
    with pytest.raises(ValueError, match="more tables than the names one"):
        stored_tables.store(text, ["one"], tmp_path)
