"""Simulated annotators: from a prediction and the ground truth to the next click.

The rules, and where the field's two codebases differ, are those of docs/protocols.md. Every annotator is
started once per sample and then asked before each click; it is deterministic for a given seed and sample
name, whatever the order or the sharding of the samples.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.clicking.distance import Depth
from harness.errors import UserError, near_miss
from harness.sample import Sample
from harness.segmenter import Click


@dataclass(frozen=True)
class Ritm:
    """The rule of RITM, SegNext, SimpleClick and FocalClick: centre of the deeper error, first in row-major
    order.

    Ignored pixels are no error. A pixel that was clicked already is only excluded as a place for a click; it
    still counts as error in the distance transform. A tie between the two depths is a negative click.

    Args:
        perfect_mask: when there is no error left: `no_click`, or `corner`, RITM's own behaviour, a negative
            click at (0, 0).
    """

    perfect_mask: str = "no_click"
    name = "ritm"

    def __post_init__(self) -> None:
        _require("perfect_mask", self.perfect_mask, ("no_click", "corner"))

    def record(self) -> dict[str, Any]:
        """Machine-readable form."""
        return {"name": self.name, "perfect_mask": self.perfect_mask}

    def start(self, sample: Sample) -> RitmSession:
        """Begin an episode."""
        return RitmSession(sample, self.perfect_mask)


class ErrorSession:
    """What the rules of errors need of an episode: its object and background, and where was clicked."""

    def __init__(self, sample: Sample):
        self._truth = ErrorMaps(object=pixels_of(sample.mask, 1), background=pixels_of(sample.mask, 0))
        self._clicked: list[tuple[int, int]] = []

    def took(self, click: Click) -> None:
        """Remember a click that somebody else made."""
        self._clicked.append((click.y, click.x))


class RitmSession(ErrorSession):
    """One episode under the rule of `Ritm`."""

    def __init__(self, sample: Sample, perfect_mask: str = "no_click"):
        super().__init__(sample)
        self._corner = perfect_mask == "corner"

    def click(self, prediction: np.ndarray) -> Click | None:
        """Next click for a (H, W) bool prediction; None when there is no error left (`no_click`)."""
        missed, excess = (Depth(error, self._clicked) for error in self._truth.errors(prediction))
        positive = is_deeper(missed, excess)
        deepest = (missed if positive else excess).deepest()
        if deepest.maximum > 0:
            y, x = (int(v) for v in deepest.at[0])
        elif self._corner:
            y, x = 0, 0
        else:
            return None
        self._clicked.append((y, x))
        return Click(y, x, positive)


@dataclass(frozen=True)
class Inter2Former:
    """The rule of Inter2Former, InterFormer, FocSAM and HRSAM: a random one of the deepest error pixels.

    Ignored pixels count as background, as in the released code. Clicked pixels are removed from the error
    before the distance transform. A tie between the two depths is a negative click.

    Args:
        seed: draws among equal candidates; with the sample's name it decides everything.
        form: `evaluation`: candidates are the deepest pixels; `training`: after the first click, all pixels
            deeper than 1/1.7 of the maximum.
    """

    seed: int = 0
    form: str = "evaluation"
    name = "inter2former"

    def __post_init__(self) -> None:
        _require("form", self.form, ("evaluation", "training"))

    def record(self) -> dict[str, Any]:
        """Machine-readable form."""
        return {"name": self.name, "seed": self.seed, "form": self.form}

    def start(self, sample: Sample) -> Inter2FormerSession:
        """Begin an episode."""
        later = 1.7 if self.form == "training" else 1.0
        return Inter2FormerSession(sample, generator(self.seed, sample.name), later)


class Inter2FormerSession:
    """One episode under the rule of `Inter2Former`; `later` is the candidates' divisor k after the first
    click."""

    def __init__(self, sample: Sample, random: np.random.Generator, later: float = 1.0):
        object_ = pixels_of(sample.mask, 1)
        self._truth = ErrorMaps(object=object_, background=1 - object_)
        self._random = random
        self._later = later
        self._clicked: list[tuple[int, int]] = []

    def took(self, click: Click) -> None:
        """Remember a click that somebody else made."""
        self._clicked.append((click.y, click.x))

    def click(self, prediction: np.ndarray) -> Click | None:
        """Next click for a (H, W) bool prediction; None when there is no error left: the decoder then runs
        again."""
        k = self._later if self._clicked else 1.0
        positive, places = self.candidates(prediction, self._clicked, k)
        if len(places) == 0:
            return None
        y, x = (int(v) for v in places[self._random.integers(len(places))])
        self._clicked.append((y, x))
        return Click(y, x, positive)

    def candidates(self, prediction: np.ndarray, clicked: list[tuple[int, int]], k: float) -> tuple[bool, np.ndarray]:
        """Sign and (n, 2) int places (y, x), row-major, that the next click is drawn from; n = 0: no error
        left.

        Args:
            prediction: (H, W) bool.
            clicked: (y, x) of earlier clicks.
            k: candidates are deeper than maximum / k; 1: the deepest only; negative: the whole error.
        """
        missed, excess = self._truth.errors(prediction)
        for y, x in clicked:
            missed[y, x] = excess[y, x] = 0
        deep_missed, deep_excess = Depth(missed), Depth(excess)
        positive = is_deeper(deep_missed, deep_excess)
        return positive, deeper_than(deep_missed if positive else deep_excess, k)


def is_deeper(a: Depth, b: Depth) -> bool:
    """Whether the largest distance in `a` exceeds that in `b`; exact transforms are made only where bounds
    meet."""
    if a.bounds[0] > b.bounds[1]:
        return True
    if a.bounds[1] <= b.bounds[0]:
        return False
    return a.maximum > b.maximum


def deeper_than(error: Depth, k: float) -> np.ndarray:
    """Places (n, 2) whose distance exceeds its maximum / (k + 1.19e-7), as in the released code; k < 0: all
    places."""
    # For k = 1 the margin only admits the maximum itself.
    deepest = error.deepest(1.0 if k == 1 else (1 - 1e-6) / k if k > 0 else 0.0)
    bound = deepest.maximum / (k + 1.1920929e-07)
    return deepest.at[np.sqrt(deepest.squared) > max(bound, 0.0)]


@dataclass(frozen=True)
class Jitter:
    """A less ideal annotator: a random place well inside the error region that RITM's rule would click.

    The region is the part of the error that remains after erosion by `depth` times its largest distance,
    connected to the deepest pixel. Its spread shows how far a result depends on ideal clicks.

    Args:
        seed: with the sample's name it decides everything.
        depth: 0: anywhere in the region; 1: only the deepest pixels.
    """

    seed: int = 0
    depth: float = 0.5
    name = "jitter"

    def __post_init__(self) -> None:
        if not 0 <= self.depth <= 1:
            raise UserError(f"annotator jitter: depth={self.depth} is outside 0..1, a share of the largest distance.")

    def record(self) -> dict[str, Any]:
        """Machine-readable form."""
        return {"name": self.name, "seed": self.seed, "depth": self.depth}

    def start(self, sample: Sample) -> JitterSession:
        """Begin an episode."""
        return JitterSession(sample, generator(self.seed, sample.name), self.depth)


class JitterSession(ErrorSession):
    """One episode under the rule of `Jitter`."""

    def __init__(self, sample: Sample, random: np.random.Generator, share: float):
        super().__init__(sample)
        self._random = random
        self._share = share

    def click(self, prediction: np.ndarray) -> Click | None:
        """Next click for a (H, W) bool prediction; None when there is no error left that was not clicked."""
        missed, excess = (Depth(error, self._clicked) for error in self._truth.errors(prediction))
        positive = is_deeper(missed, excess)
        chosen = missed if positive else excess
        if chosen.maximum == 0:
            return None
        places = chosen.core(self._share)
        y, x = (int(v) for v in places[self._random.integers(len(places))])
        self._clicked.append((y, x))
        return Click(y, x, positive)


def generator(seed: int, sample: str) -> np.random.Generator:
    """Random numbers of one episode: they depend on the seed and the sample's name, on nothing else."""
    digest = hashlib.sha256(f"{seed}\n{sample}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


@dataclass(frozen=True)
class ErrorMaps:
    """Where a positive click may lie and where a negative one, (H, W) uint8 of 0 and 1; neither: ignored."""

    object: np.ndarray
    background: np.ndarray

    def errors(self, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fresh (H, W) uint8 maps: missed object, and background taken for object."""
        if prediction.shape != self.object.shape:
            raise ValueError(
                f"prediction of {prediction.shape}, ground truth of {self.object.shape}: they must be equal"
            )
        predicted = np.ascontiguousarray(prediction, dtype=bool).view(np.uint8)
        # On 0/1 bytes `greater` is "object and not predicted" in one pass.
        return np.greater(self.object, predicted).view(np.uint8), np.bitwise_and(self.background, predicted)


def pixels_of(mask: np.ndarray, value: int) -> np.ndarray:
    """(H, W) uint8: 1 where the mask has this value."""
    return (mask == value).view(np.uint8)


def _require(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"unknown {what} {value!r}. {near_miss(value, allowed)}")
