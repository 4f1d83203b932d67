"""Episodes that begin from a given wrong mask: how a session takes it, and masks made wrong by rule.

DAVIS-585 (FocalClick, CVPR 2022) gives each of its 585 objects an initial mask of 0.75 to 0.85 IoU;
`dataset.starts=DIR` reads such masks. A rule makes them from the truth, as wrong as the protocol asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from harness.clicking.annotators import generator
from harness.errors import SampleError, UserError, near_miss
from harness.sample import Sample
from harness.scoring.overlap import iou

GIVEN = "given"
_STEPS = 24
_OFF = 0.05


@dataclass(frozen=True)
class Rule:
    """Where the first masks of episodes come from.

    Args:
        rule: `given`: the data set's (`dataset.starts=DIR`); or made from the truth: `erode`, `dilate`, `shift`,
            `missing` (a part is missing) or `neighbour` (a patch of the background beside the object is added).
        iou: of masks that are made, 0 < iou < 1; as near to it as pixels allow.
        seed: of shift, missing and neighbour; with the sample's name it decides everything.
    """

    rule: str = GIVEN
    iou: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        names = (GIVEN, *RULES)
        if self.rule not in names:
            raise UserError(f"protocol.start_mask.rule={self.rule!r}. {near_miss(str(self.rule), names)}")
        if isinstance(self.iou, bool) or not isinstance(self.iou, (int, float)) or not 0 < self.iou < 1:
            raise UserError(f"protocol.start_mask.iou={self.iou!r}: an IoU between 0 and 1, for example 0.8.")

    @property
    def label(self) -> str:
        """What every table says of the start."""
        return "from given masks" if self.rule == GIVEN else f"from masks: {self.rule}, IoU {self.iou:g}"

    def record(self) -> dict[str, Any]:
        """Machine-readable form; given masks are part of the data set's digest."""
        if self.rule == GIVEN:
            return {"rule": self.rule}
        return {"rule": self.rule, "iou": float(self.iou), "seed": self.seed}

    def mask(self, sample: Sample) -> np.ndarray:
        """The mask from which the episode of a sample begins, (H, W) bool.

        Raises:
            SampleError: the data set gives none, it has another size, or the rule cannot make one so wrong.
        """
        if self.rule == GIVEN:
            if sample.start is None:
                raise SampleError("no start mask for this sample; give a folder of them with dataset.starts=DIR")
            if sample.start.shape != sample.mask.shape:
                raise SampleError(
                    f"start mask of {sample.start.shape[0]} x {sample.start.shape[1]} pixels (height x width), and the "
                    f"image has {sample.mask.shape[0]} x {sample.mask.shape[1]}; they must be equal"
                )
            return sample.start.astype(bool)
        object_ = sample.mask == 1
        change = RULES[self.rule](object_, sample.mask == 0, generator(self.seed, f"{sample.name}\n{self.rule}"))
        best, reached = _nearest(change, sample.mask, float(self.iou))
        if abs(reached - self.iou) > _OFF:
            raise SampleError(
                f"rule {self.rule!r} makes no start mask of IoU {self.iou:g} from this object (nearest: "
                f"{reached:.2f}); choose another protocol.start_mask.rule or .iou"
            )
        return best


def rule_of(protocol: Any) -> Rule:
    """Where the first masks of a protocol come from; the data set's, where it says nothing."""
    rule: Rule = Rule() if protocol.start_mask is None else protocol.start_mask
    return rule


def begin(segmenter: Any, session: Any, start: np.ndarray, name: str = "") -> None:
    """Let a fresh session go on from a mask: its own `start_from(mask)`, or else `replace_prediction(mask)`.

    Raises:
        ValueError: it has neither, or it would not look at the mask.
    """
    take = getattr(session, "start_from", None) or getattr(session, "replace_prediction", None)
    who = name or type(segmenter).__name__
    if take is None:
        raise ValueError(
            f"{who} cannot begin from a mask: its session has neither start_from(mask) nor replace_prediction(mask). "
            "Leave it out of variants=[…], or use protocol.start=zero"
        )
    if getattr(segmenter, "feedback", True) is False:
        raise ValueError(f"{who} does not look at a mask with feedback=false. Set variant.feedback=true")
    take(start.copy())


Change = Callable[[float], np.ndarray]
"""Amount 0..1 -> mask (H, W) bool; 0: the truth itself, and the larger the less IoU."""


def _erode(object_: np.ndarray, background: np.ndarray, random: np.random.Generator) -> Change:
    inside = _depth(object_)
    return lambda amount: object_ & (inside > amount * inside.max())


def _dilate(object_: np.ndarray, background: np.ndarray, random: np.random.Generator) -> Change:
    outside = _depth(~object_)
    furthest = outside.max()
    return lambda amount: outside <= amount * furthest


def _shift(object_: np.ndarray, background: np.ndarray, random: np.random.Generator) -> Change:
    angle = random.uniform(0, 2 * np.pi)
    height, width = object_.shape
    far = float(np.hypot(height, width))

    def moved(amount: float) -> np.ndarray:
        dy, dx = round(amount * far * np.sin(angle)), round(amount * far * np.cos(angle))
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
        return cv2.warpAffine(object_.view(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) > 0

    return moved


def _missing(object_: np.ndarray, background: np.ndarray, random: np.random.Generator) -> Change:
    reach = _from(object_, random.choice(np.flatnonzero(object_)))
    furthest = reach[object_].max(initial=0)
    return lambda amount: object_ & (reach >= amount * (furthest + 1))


def _neighbour(object_: np.ndarray, background: np.ndarray, random: np.random.Generator) -> Change:
    beside = cv2.dilate(object_.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool) & background
    if not beside.any():
        return lambda amount: object_
    reach = _from(object_, random.choice(np.flatnonzero(beside)))
    furthest = reach[background].max(initial=0)
    return lambda amount: object_ | (background & (reach < amount * (furthest + 1)))


RULES: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], Change]] = {
    "erode": _erode,
    "dilate": _dilate,
    "shift": _shift,
    "missing": _missing,
    "neighbour": _neighbour,
}


def _nearest(change: Change, mask: np.ndarray, target: float) -> tuple[np.ndarray, float]:
    """The mask whose IoU is nearest to the target, and that IoU, by bisection."""
    low, high = 0.0, 1.0
    best, reached = change(0.0), 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        candidate = change(middle)
        value = iou(candidate, mask)
        if abs(value - target) < abs(reached - target):
            best, reached = candidate, value
        low, high = (middle, high) if value > target else (low, middle)
    return best, reached


def _depth(inside: np.ndarray) -> np.ndarray:
    """Exact distance of each pixel to the nearest pixel that is not inside, (H, W) float32; 0 outside."""
    return cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _from(object_: np.ndarray, place: int) -> np.ndarray:
    """Euclidean distance of each pixel to one pixel, (H, W) float64."""
    height, width = object_.shape
    y, x = divmod(int(place), width)
    return np.hypot(np.arange(height)[:, None] - y, np.arange(width)[None] - x)
