"""Change points of a series: where a number took another level and stayed there.

PELT (Killick, Fearnhead and Eckley 2012, `ruptures`) proposes the places with the least squared error at a penalty of
3 s^2 log n for each; a permutation test of the largest gain between its neighbours then says whether chance explains a
place. Holm's method adjusts for their number. As in asv, many series are looked at, so a change needs p < 0.002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ruptures

from harness.scoring.decision import holm

ALPHA = 0.002
FEWEST = 4
"""Values of a level. Two levels of four cannot differ by p < 0.002: see `smallest_p`."""
DRAWS = 9_999


@dataclass(frozen=True)
class Step:
    """A change of level.

    Attributes:
        at: index of the first value of the new level.
        before, after: medians of the two levels.
        p_value: adjusted for all changes of the series.
    """

    at: int
    before: float
    after: float
    p_value: float


def smallest_p(count: int) -> float:
    """The smallest p that a change in a series of so many values could have: one place of all ways to choose half."""
    return min(1.0, 2.0 / math.comb(count, count // 2))


def steps(values: Sequence[float], logarithmic: bool = False, seed: int = 0) -> list[Step]:
    """Changes of level of a series, oldest value first.

    Args:
        logarithmic: of ratios (times), so that a step of 10 % counts alike at every height.
        seed: of the permutations.
    """
    series = np.log(values) if logarithmic else np.asarray(values, dtype=float)
    if len(series) < 2 * FEWEST or np.ptp(series) == 0:
        return []
    spread = _noise(series)
    penalty = 3 * spread**2 * math.log(len(series))
    algorithm = ruptures.Pelt(model="l2", min_size=FEWEST, jump=1).fit(series.reshape(-1, 1))
    ends = [0, *algorithm.predict(pen=max(penalty, 1e-12))]
    rng = np.random.default_rng(seed)
    places = ends[1:-1]
    p_values = [
        _p_value(series[before:after], rng) for before, after in zip(ends[:-2], ends[2:], strict=True)
    ]  # fmt: skip
    several = []
    for place, before, after, p in zip(places, ends[:-2], ends[2:], holm(p_values), strict=True):
        if p < ALPHA:
            several.append(Step(place, _median(values[before:place]), _median(values[place:after]), p))
    return several


def _noise(series: np.ndarray) -> float:
    """Standard deviation around the levels, from the median difference of neighbours; steps do not move it."""
    differences = np.abs(np.diff(series))
    return float(np.median(differences)) / (0.6745 * math.sqrt(2))


def _p_value(series: np.ndarray, rng: np.random.Generator) -> float:
    """Permutation test of the largest gain of one change anywhere in the series, which pays for the choice."""
    observed = _gain(series[None])[0]
    shuffled = rng.permuted(np.broadcast_to(series, (DRAWS, len(series))), axis=1)
    beyond = int((_gain(shuffled) >= observed * (1 - 1e-12)).sum())
    return (beyond + 1) / (DRAWS + 1)


def _gain(series: np.ndarray) -> np.ndarray:
    """Largest sum of squares between two levels, over all places; (draws, n) -> (draws,)."""
    n = series.shape[1]
    centred = series - series.mean(axis=1, keepdims=True)
    sums = np.cumsum(centred, axis=1)[:, FEWEST - 1 : n - FEWEST]
    left = np.arange(FEWEST, n - FEWEST + 1)
    return (sums**2 * n / (left * (n - left))).max(axis=1)


def _median(values: Sequence[float]) -> float:
    return float(np.median(np.asarray(values, dtype=float)))
