"""Simulated clicks for a batch, from the model's own errors, as the model's specification trains (section 3).

The first click lies in the centre of the object (deepest pixels); later ones anywhere in the error deeper than
1 / 1.7 of its maximum. Ignored pixels are neither error. Distances are OpenCV's 5x5 approximation: half the time of the
exact transform, and the place is random anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from harness.segmenter import Click

LATER = 1.7
_MARGIN = 1.1920929e-07


class ClickSimulator:
    """The annotators of one batch.

    Args:
        masks: (B, H, W) uint8: 1 object, 0 background, 255 ignore.
        seed: of the draws among equal places; sequences such as (seed, step, rank) are welcome.
        pool: threads that share the work; None: one after the other.
    """

    def __init__(self, masks: np.ndarray, seed: Sequence[int], pool: ThreadPoolExecutor | None = None):
        self._object = (masks == 1).view(np.uint8)
        self._background = (masks == 0).view(np.uint8)
        self._random = [np.random.default_rng((*seed, index)) for index in range(len(masks))]
        self._clicked: list[list[tuple[int, int]]] = [[] for _ in masks]
        self._pool = pool

    def click(self, predictions: np.ndarray) -> list[Click | None]:
        """Next click for each of (B, H, W) bool predictions; None where nothing is wrong."""
        predicted = np.ascontiguousarray(predictions, dtype=bool).view(np.uint8)
        numbers = range(len(predicted))
        run = map if self._pool is None else self._pool.map
        return list(run(lambda index: self._one(index, predicted[index]), numbers))

    def _one(self, index: int, predicted: np.ndarray) -> Click | None:
        missed = np.greater(self._object[index], predicted).view(np.uint8)
        excess = np.bitwise_and(self._background[index], predicted)
        clicked = self._clicked[index]
        for y, x in clicked:
            missed[y, x] = excess[y, x] = 0
        inside, outside = _distance(missed), _distance(excess)
        positive = bool(inside.max() > outside.max())
        chosen = inside if positive else outside
        deepest = float(chosen.max())
        if deepest == 0:
            return None
        places = np.argwhere(chosen > deepest / (LATER + _MARGIN) if clicked else chosen == deepest)
        y, x = (int(v) for v in places[self._random[index].integers(len(places))])
        clicked.append((y, x))
        return Click(y, x, positive)


def _distance(error: np.ndarray) -> np.ndarray:
    """Distance (H, W) float32 of each error pixel to the nearest correct one or to the edge of the image."""
    left, top, width, height = cv2.boundingRect(error)
    distance = np.zeros(error.shape, np.float32)
    if width:
        box = np.zeros((height + 2, width + 2), np.uint8)
        box[1:-1, 1:-1] = error[top : top + height, left : left + width]
        inner = cv2.distanceTransform(box, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
        distance[top : top + height, left : left + width] = inner
    return distance


def rounds(seed: Sequence[int], most: int, share: float = 0.6) -> int:
    """Click rounds of a step, 1..most: geometric, each further round with probability `share`."""
    count = int(np.random.default_rng(tuple(seed)).geometric(1 - share))
    return min(count, most)
