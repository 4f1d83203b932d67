"""The plain form of `harness.clicking.distance.Depth`: crop, one exact transform, squares as whole numbers.

It is the oracle of the tests, and what the long form is measured against (benchmarks/annotator_distance.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from harness.clicking.distance import Places


class PlainDepth:
    """`Depth` in few lines; arguments and answers are the same."""

    def __init__(self, error: np.ndarray, excluded: Sequence[tuple[int, int]] = ()):
        left, top, width, height = cv2.boundingRect(error)
        self._origin = (top - 1, left - 1)
        box = np.pad(error[top : top + height, left : left + width], 1)
        distance = cv2.distanceTransform(box, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        self._squared = np.rint(np.square(distance, dtype=np.float64)).astype(np.int64)
        for y, x in excluded:
            if 0 <= y - top < height and 0 <= x - left < width:
                self._squared[y - top + 1, x - left + 1] = 0
        self._largest = int(self._squared.max())
        self.maximum = math.sqrt(self._largest)

    def deepest(self, share: float = 1.0) -> Places:
        at = np.argwhere((self._squared >= share**2 * self._largest) & (self._squared > 0))
        return Places(self.maximum, at + self._origin, self._squared[tuple(at.T)])

    def core(self, share: float) -> np.ndarray:
        deepest = self.deepest().at
        if not len(deepest):
            return deepest
        enough = ((self._squared >= share**2 * self._largest) & (self._squared > 0)).astype(np.uint8)
        y, x = deepest[0] - self._origin
        cv2.floodFill(enough, None, (int(x), int(y)), 2, flags=8)
        return np.argwhere(enough == 2) + self._origin
