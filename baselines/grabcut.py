"""GrabCut (Rother, Kolmogorov, Blake 2004) as OpenCV implements it, driven by clicks: no weights, real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from baselines._classical import Classical, shrink, working_place

_BACKGROUND, _OBJECT = cv2.GC_BGD, cv2.GC_FGD
_MAYBE_BACKGROUND, _MAYBE_OBJECT = cv2.GC_PR_BGD, cv2.GC_PR_FGD
_FEWEST = 16  # pixels that a colour model is fitted to; below, GrabCut's own k-means gives up


@dataclass(frozen=True)
class _Photo:
    working: np.ndarray  # (h, w, 3) uint8, longest side at most `size`
    shape: tuple[int, int]  # of the image


class OpenCVGrabCut(Classical):
    """Clicks are definite discs, the previous result is the probable labelling, and GrabCut decides the rest.

    Args:
        size: longest side in pixels at which GrabCut runs (its time grows faster than the pixels do);
            None runs at the size of the image.
        iterations: rounds of colour models and graph cut per click.
        radius: of a click's disc, in working pixels.
        reach: radius around a click, as a share of the working longest side, within which the labels are open again
            for the answer that the click asks for; at the first click it is the probable object.
        connected: drop pieces of the object that hold no positive click.
        seed: of OpenCV's generator (k-means of the colour models), set before each run.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        size: int | None = 384,
        iterations: int = 2,
        radius: float = 2.0,
        reach: float = 0.2,
        connected: bool = True,
        seed: int = 0,
    ):
        if size is not None and size < 16:
            raise ValueError(
                f"size={size}: the working longest side must be at least 16 pixels, or null for the image's"
            )
        if iterations < 1:
            raise ValueError(f"iterations={iterations}: GrabCut needs at least 1")
        if radius < 0 or reach <= 0:
            raise ValueError(f"radius={radius}, reach={reach}: radius must be 0 or more and reach more than 0")
        self.size, self.iterations, self.radius = size, iterations, radius
        self.reach, self.connected, self.seed = reach, connected, seed
        self.encoder_key = f"grabcut/{size}"

    def encode(self, image: np.ndarray) -> _Photo:
        """Shrink (H, W, 3) uint8 RGB to the working size."""
        return _Photo(shrink(image, self.size, least=1), (image.shape[0], image.shape[1]))

    def start(self, embedding: _Photo) -> _Session:
        """Begin an episode on an image from `encode`."""
        return _Session(self, embedding)


class _Session:
    def __init__(self, owner: OpenCVGrabCut, photo: _Photo):
        self._owner, self._photo = owner, photo
        height, width = photo.working.shape[:2]
        self._rows, self._columns = np.ogrid[:height, :width]
        self._object = np.zeros((height, width), dtype=bool)
        self._clicks: list[tuple[float, float, bool]] = []

    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32: above 0 on the object, ±1 away from its edge."""
        labels = np.where(self._object, _MAYBE_OBJECT, _MAYBE_BACKGROUND).astype(np.uint8)
        if click is not None:
            h, w = self._object.shape
            y, x = working_place(click, self._photo.shape, (h, w))
            self._clicks.append((y, x, bool(click.positive)))
            near = self._distance2(y, x) <= self._reach2(y, x, bool(click.positive))
            labels[near] = _MAYBE_OBJECT if click.positive else _MAYBE_BACKGROUND
        for y, x, positive in self._clicks:
            labels[self._disc(y, x)] = _OBJECT if positive else _BACKGROUND
        self._object = self._keep_clicked(_cut(self._photo.working, labels, self._owner))
        return self._scores()

    def _distance2(self, y: float, x: float) -> np.ndarray:
        return (self._rows - y) ** 2 + (self._columns - x) ** 2

    def _disc(self, y: float, x: float) -> np.ndarray:
        disc = self._distance2(y, x) <= max(self._owner.radius, 0.75) ** 2  # 0.75: never empty
        return disc

    def _reach2(self, y: float, x: float, positive: bool) -> float:
        """Squared radius of the reopened region: half the way to the nearest click of the other kind at most."""
        reach = self._owner.reach * max(self._object.shape)
        if len(self._clicks) > 1:
            reach /= 2
        others = [(y - b) ** 2 + (x - a) ** 2 for b, a, sign in self._clicks if sign != positive]
        return min([reach**2, *(other / 4 for other in others)])

    def _keep_clicked(self, mask: np.ndarray) -> np.ndarray:
        positives = [(y, x) for y, x, positive in self._clicks if positive]
        for y, x, positive in self._clicks:
            mask[self._disc(y, x)] = positive
        if not self._owner.connected or not positives:
            return mask
        _, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        clicked_pieces = {int(piece) for y, x in positives for piece in np.unique(pieces[self._disc(y, x)])} - {0}
        return np.isin(pieces, list(clicked_pieces))

    def _scores(self) -> np.ndarray:
        height, width = self._photo.shape
        signed = np.where(self._object, np.float32(1), np.float32(-1))
        if signed.shape == (height, width):
            return signed
        return cv2.resize(signed, (width, height), interpolation=cv2.INTER_LINEAR)


def _cut(image: np.ndarray, labels: np.ndarray, owner: OpenCVGrabCut) -> np.ndarray:
    is_object = (labels == _OBJECT) | (labels == _MAYBE_OBJECT)
    if min(is_object.sum(), (~is_object).sum()) < _FEWEST:
        return is_object
    cv2.setRNGSeed(owner.seed)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    # The rectangle is not used in this mode; OpenCV wants one all the same.
    result, _, _ = cv2.grabCut(image, labels, (0, 0, 1, 1), *models, owner.iterations, cv2.GC_INIT_WITH_MASK)
    return (result == _OBJECT) | (result == _MAYBE_OBJECT)
