"""Best and worst of k: at each round several clicks are tried, and the best or the worst answer is followed.

A black-box relative of TETRIS (arXiv 2402.06132), which searches positions with gradients. The band between the two
curves shows how much a model's answers depend on where inside the error it is clicked. More candidates make a wider
band, so that k is part of the protocol's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.clicking.annotators import ErrorMaps, Ritm, RitmSession, generator, is_deeper, pixels_of
from harness.clicking.distance import Depth
from harness.clicking.groups import Group
from harness.errors import UserError
from harness.sample import Sample
from harness.segmenter import Click


@dataclass(frozen=True)
class Extremes:
    """The robot of `Ritm`, and beside it the groups `worst` and `best`.

    Args:
        k: candidates a round, drawn uniformly from the error region that the robot would click.
        seed: with the sample's name and the group it decides everything.
    """

    k: int = 4
    seed: int = 0
    name = "extremes"

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 2:
            raise UserError(f"protocol.annotator.k={self.k!r}: a whole number of candidates from 2.")

    @property
    def further(self) -> int:
        """What the further episodes of a sample cost, in episodes of one answer a click."""
        return 2 * self.k

    @property
    def label(self) -> str:
        """What every table says beside the protocol's name."""
        return f"best and worst of {self.k}"

    def record(self) -> dict[str, Any]:
        """Machine-readable form."""
        return {"name": self.name, "k": self.k, "seed": self.seed}

    def start(self, sample: Sample) -> RitmSession:
        """The robot's episode: the base."""
        return Ritm().start(sample)

    def groups(self, sample: Sample) -> Iterator[Group]:
        """The episodes that follow the worst and the best answer."""
        for name in ("worst", "best"):
            random = generator(self.seed, f"{sample.name}\n{name}")
            yield Group(name, ExtremeSession(sample, self.k, random, best=name == "best"))


class ExtremeSession:
    """One episode; the click loop asks for `candidates`, answers each, and tells which one it followed (`took`).

    Attributes:
        best: whether the answer with the highest or the lowest IoU is followed; the first one of equals.
    """

    def __init__(self, sample: Sample, k: int, random: np.random.Generator, best: bool):
        self._truth = ErrorMaps(object=pixels_of(sample.mask, 1), background=pixels_of(sample.mask, 0))
        self._k, self._random, self.best = k, random, best
        self._clicked: list[tuple[int, int]] = []

    def took(self, click: Click) -> None:
        """Remember the click that was followed."""
        self._clicked.append((click.y, click.x))

    def candidates(self, prediction: np.ndarray) -> list[Click]:
        """At most k different clicks for a (H, W) bool prediction; none where no error is left that was not clicked."""
        maps = self._truth.errors(prediction)
        missed, excess = (Depth(error, self._clicked) for error in maps)
        positive = is_deeper(missed, excess)
        if (missed if positive else excess).bounds[1] == 0:
            return []
        error = maps[0 if positive else 1]
        for y, x in self._clicked:
            error[y, x] = 0
        flat = np.flatnonzero(error)
        chosen = self._random.choice(flat, min(self._k, len(flat)), replace=False, shuffle=True)
        places = (divmod(int(place), error.shape[1]) for place in chosen)
        return [Click(y, x, positive) for y, x in places]

    def click(self, prediction: np.ndarray) -> Click | None:
        """The first candidate, for a loop that cannot try several."""
        candidates = self.candidates(prediction)
        if not candidates:
            return None
        self.took(candidates[0])
        return candidates[0]
