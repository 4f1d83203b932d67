"""Enough samples: an interval that holds at every number of samples at once, so that one may stop when it suffices.

The samples of a data set are looked at in random order, and the question is the mean over all of them. The interval is
the hedged capital confidence sequence for bounded values drawn without replacement (Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", JRSS B 2024, arXiv:2010.09686): a bet against each possible
mean, whose capital reaches 20 with a probability of at most 5 % if that is the mean, however often one looks and
whenever one stops. `tests/harness/test_sequential.py` simulates its error rate.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.scoring.intervals import CONFIDENCE

GRID = 4000
"""Steps between the means that are bet against, over the whole range; an interval's ends are rounded outwards."""
_MOST_OF_THE_CAPITAL = 0.75
FIRST, GROWTH = 20, 0.25
"""Samples before the first look, and by how much their number grows until the next one."""


class ConfidenceSequence:
    """Interval of the mean of a finite number of bounded values, some of which were seen in random order.

    Args:
        reach: values lie in -reach..reach.
        population: how many values there are in all.
        confidence: that the interval holds the mean at all times.
        grid: steps of the interval's ends over the range; an even number, so that 0 is one of them.

    Attributes:
        low, high: the interval, within -reach..reach; it only shrinks.
        p_value: smallest level at which a mean of 0 is excluded so far, 0..1; valid at any time.
        seen: number of values.
    """

    def __init__(self, reach: float, population: int, confidence: float = CONFIDENCE, grid: int = GRID):
        self._grid = grid
        self._reach, self._population = float(reach), population
        self._bar = math.log(1 / (1 - confidence))
        self._bet = math.sqrt(2 * math.log(2 / (1 - confidence)))
        self._means = np.linspace(0, 1, grid + 1)
        self._above = np.zeros(grid + 1)  # log capital of the bet that the mean is larger
        self._below = np.zeros(grid + 1)
        self._possible = np.full(grid + 1, True)
        self._likely = np.full(grid + 1, True)
        self._log_zero = 0.0
        self._sum = self._squares = 0.0
        self.seen, self.low, self.high = 0, -self._reach, self._reach

    def add(self, values: Iterable[float]) -> None:
        """The next values, in the order of the draw.

        Raises:
            ValueError: one lies outside -reach..reach, or there are more than the population has.
        """
        for value in values:
            self._bet_on(float(value))
        kept = np.flatnonzero(self._likely)
        if len(kept):
            step = 2 * self._reach / self._grid
            low, high = (self._means[[kept[0], kept[-1]]] * 2 - 1) * self._reach
            self.low, self.high = max(self.low, low - step), min(self.high, high + step)

    @property
    def p_value(self) -> float:
        """See the class."""
        return math.exp(-max(self._log_zero, 0.0))

    @property
    def decided(self) -> bool:
        """Whether a mean of 0 is excluded."""
        return self._log_zero >= self._bar

    def _bet_on(self, value: float) -> None:
        if not -self._reach <= value <= self._reach:
            raise ValueError(f"{value:g} lies outside -{self._reach:g}..{self._reach:g}")
        if self.seen >= self._population:
            raise ValueError(f"more than the {self._population} values of the population")
        x = (value / self._reach + 1) / 2
        t = self.seen + 1
        spread = (0.25 + self._squares) / t
        bet = self._bet / math.sqrt(spread * t * math.log(t + 1))
        # Mean of what is not yet seen, if the mean of all is the one that is bet against.
        left = self._population - self.seen
        rest = (self._population * self._means - self._sum) / left
        slack = 1e-12 * self._population
        self._possible &= (rest >= -slack) & (rest <= 1 + slack)  # else the values seen rule it out by themselves
        rest = np.clip(rest, 0.0, 1.0)
        with np.errstate(divide="ignore"):
            larger = np.minimum(bet, _MOST_OF_THE_CAPITAL / rest)
            smaller = np.minimum(bet, _MOST_OF_THE_CAPITAL / (1 - rest))
        self._above += np.log1p(larger * (x - rest))
        self._below += np.log1p(-smaller * (x - rest))
        capital = np.maximum(self._above, self._below) - math.log(2)
        middle = self._grid // 2
        self._log_zero = max(self._log_zero, float(capital[middle])) if self._possible[middle] else math.inf
        self._likely &= self._possible & (capital < self._bar)
        self._sum += x
        self._squares += (x - (0.5 + self._sum) / (t + 1)) ** 2
        self.seen = t


@dataclass(frozen=True)
class Verdict:
    """What is known of one variant against the base after some samples.

    Attributes:
        difference: mean difference over the samples seen, variant minus base.
        low, high: interval of the difference over the whole data set, valid at every look.
        p_value: valid at every look.
        samples: how many were seen; `population`: of how many.
        outcome: `decided`, `narrow` (the interval is no wider than asked), `complete` (there are no more) or `open`.
    """

    difference: float
    low: float
    high: float
    p_value: float
    samples: int
    population: int
    outcome: str


def verdict(differences: Sequence[float], reach: float, population: int, width: float | None = None) -> Verdict:
    """What may be said after these differences, in the order of `random_order`.

    Args:
        differences: variant minus base, each within -reach..reach.
        reach: largest possible difference.
        population: samples of the whole data set.
        width: an interval no wider than this is narrow enough; None: only a decision is enough.
    """
    sequence = ConfidenceSequence(reach, population)
    sequence.add(differences)
    narrow = width is not None and sequence.high - sequence.low <= width
    complete = sequence.seen >= population
    outcome = "decided" if sequence.decided else "narrow" if narrow else "complete" if complete else "open"
    mean = float(np.mean(differences)) if len(differences) else math.nan
    return Verdict(mean, sequence.low, sequence.high, sequence.p_value, sequence.seen, population, outcome)


def random_order(names: Iterable[str], seed: int = 0) -> list[str]:
    """The samples in an order that their names and the seed decide, the same on every machine."""
    return sorted(
        names, key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode("utf-8", "backslashreplace")).digest()
    )


def looks(population: int) -> list[int]:
    """Numbers of samples after which one looks: 20, then a quarter more each time, at last all."""
    numbers = [min(FIRST, population)]
    while numbers[-1] < population:
        numbers.append(min(population, numbers[-1] + max(1, round(GROWTH * numbers[-1]))))
    return numbers
