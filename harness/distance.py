"""Where an annotator clicks: the deepest point of an error region, by the exact Euclidean distance transform.

The field pads each error map with one zero pixel and transforms the whole image. Outside the error's bounding
box everything is zero, and of all zero pixels outside the box the nearest to a pixel inside lies on the ring
around the box (its projection): the transform of the box with one pixel of padding gives the same distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Depth:
    """Distances of an error map to its nearest correct pixel, inside its bounding box.

    Attributes:
        distance: (h, w) float32; 0 outside the error.
        top, left: place of the box in the image, in pixels.
    """

    distance: np.ndarray
    top: int
    left: int

    @property
    def maximum(self) -> float:
        """Largest distance; 0 for an empty error."""
        return float(self.distance.max()) if self.distance.size else 0.0

    def where(self, chosen: np.ndarray) -> np.ndarray:
        """Image coordinates (n, 2) as (y, x) of the True pixels of a (h, w) map, in row-major order."""
        return np.argwhere(chosen) + (self.top, self.left)

    def first(self, value: float) -> tuple[int, int]:
        """Image coordinates of the first pixel in row-major order with this distance."""
        y, x = divmod(int(np.argmax(self.distance == value)), self.distance.shape[1])
        return y + self.top, x + self.left

    def clear(self, pixels: list[tuple[int, int]]) -> None:
        """Set the distance at (y, x) image pixels to 0; pixels outside the box are 0 already."""
        height, width = self.distance.shape
        for y, x in pixels:
            if 0 <= y - self.top < height and 0 <= x - self.left < width:
                self.distance[y - self.top, x - self.left] = 0


def depth(error: np.ndarray) -> Depth:
    """Exact distance transform of an error map with a zero border of one pixel (OpenCV DIST_L2, precise).

    Args:
        error: (H, W) uint8, nonzero where prediction and truth disagree.
    """
    left, top, width, height = cv2.boundingRect(error)
    if width == 0:
        return Depth(np.zeros((0, 0), np.float32), 0, 0)
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = error[top : top + height, left : left + width]
    # A mask of 5 would be off by up to 0.7 px and choose other pixels.
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return Depth(distance, top, left)
