"""The deepest pixels of an error region, by the exact Euclidean distance transform, without transforming
everything.

The field pads each error map with one zero pixel and transforms the whole image (OpenCV DIST_L2, precise).
The same pixels and distances are found with less work, in two steps:

1. Only the bounding box counts. Outside it everything is zero, and of all zero pixels outside the box the
nearest to a
   pixel inside lies on the ring around the box (its projection).
2. In a large box a cheap chamfer transform bounds every distance from both sides, so that few pixels can be the deepest.
   Their exact distances come from the outline's pixels directly if these are few, else from the exact transform on
   windows that reach further than any of the distances can.

Distances are roots of whole numbers. OpenCV 5's precise transform gives some of them one unit in the last place too
high or low, depending on the column, which would break ties at random; squares are therefore compared as whole numbers
(exact up to depths of about 1,400 px, where float32 ends).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

# OpenCV's 5x5 chamfer weights are 1, 1.4 and 2.1969 for steps (1,0), (1,1) and (2,1). A chamfer distance is
# linear between these directions, so its ratio to the Euclidean one lies between 2.1969 / sqrt(5) = 0.98248
# and sqrt(1 + 0.1969^2) = 1.01920. The bounds leave some room for rounding.
_CHAMFER_LOW, _CHAMFER_HIGH = 0.981, 1.0206
_SMALL_AREA = 128 * 128  # below it one exact transform costs less than choosing where to take it
_TILE = 64  # candidates of one tile share a window
_DIRECT_PAIRS = 1_000_000  # pixels times outline pixels up to which direct distances cost less
_SMALLEST = 0.5  # every pixel of an error has at least the distance 1
_WORTHWHILE = 0.5  # windows of more than this share of the box: transform the box


@dataclass(frozen=True)
class Places:
    """Pixels of an error with their exact distance to the nearest pixel that is none.

    Attributes:
        maximum: largest distance of the error, in pixels; 0: no error.
        at: (n, 2) int64 image coordinates (y, x) in row-major order.
        squared: (n,) int64 squares of the distances.
    """

    maximum: float
    at: np.ndarray
    squared: np.ndarray


class Depth:
    """Distances inside one error map, exact where asked.

    Args:
        error: (H, W) uint8, nonzero where prediction and truth disagree.
        excluded: (y, x) pixels that are never chosen, though they count as error for the distance of the
            others.
    """

    def __init__(self, error: np.ndarray, excluded: Sequence[tuple[int, int]] = ()):
        left, top, width, height = cv2.boundingRect(error)
        self._origin = (top - 1, left - 1)
        self._error = np.zeros((height + 2, width + 2) if width else (0, 0), np.uint8)
        if width:
            self._error[1:-1, 1:-1] = error[top : top + height, left : left + width]
        self._excluded = [
            (y - top + 1, x - left + 1) for y, x in excluded if 0 <= y - top < height and 0 <= x - left < width
        ]

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The largest distance lies between these two, both included; in a large box without the exact
        transform."""
        if self._error.size <= _SMALL_AREA:
            exact = math.sqrt(_whole(self._exact.max(initial=0)))
            return exact, exact
        highest = float(self._chamfer.max())
        return highest / _CHAMFER_HIGH, highest / _CHAMFER_LOW

    @cached_property
    def maximum(self) -> float:
        """The largest distance, exact."""
        return self._first.maximum

    @cached_property
    def _first(self) -> Places:
        return self._places(1.0)

    def deepest(self, share: float = 1.0) -> Places:
        """All pixels at least `share` (0..1) of the largest distance deep, excluded ones left out."""
        return self._first if share == 1.0 else self._places(share)

    def _places(self, share: float) -> Places:
        flat, squared = self._candidates(share)
        largest = int(squared.max(initial=0))
        kept = (squared >= share**2 * largest) & (squared > 0)
        at = np.stack(np.divmod(flat[kept], max(1, self._error.shape[1])), axis=1) + self._origin
        return Places(math.sqrt(largest), at, squared[kept])

    def _candidates(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices into the box, ascending, of all pixels that may be deep enough, and their squared distances."""
        if self._error.size <= _SMALL_AREA:
            # The margin only has to be above OpenCV's rounding; what is too much is dropped by `deepest`.
            flat = np.flatnonzero(self._exact > max(0.0, share * self.bounds[0] - 1e-3))
            return flat, _whole(self._exact.ravel()[flat])
        least = share * max(self.bounds[0], self._deep_enough)
        flat = np.flatnonzero(self._chamfer >= max(least * _CHAMFER_LOW, _SMALLEST))
        if flat.size * len(self._outline) <= _DIRECT_PAIRS:
            return flat, self._to_outline(flat)
        found = self._in_windows(flat)
        return flat, _whole(self._exact.ravel()[flat]) if found is None else found

    def _in_windows(self, flat: np.ndarray) -> np.ndarray | None:
        """Squared distances by exact transforms around these pixels; None: too large a share of the box."""
        if flat.size == 0:
            return np.empty(0, np.int64)
        y, x = np.divmod(flat, self._error.shape[1])
        groups = _tiles(y, x)
        windows = [self._window(y[group], x[group]) for group in groups]
        if sum(_area(window) for window in windows) > _WORTHWHILE * self._error.size:
            return None
        distance = np.empty(len(flat), np.float32)
        for group, (rows, columns) in zip(groups, windows, strict=True):
            window = _transform(self._error[rows, columns], cv2.DIST_MASK_PRECISE)
            distance[group] = window[y[group] - rows.start, x[group] - columns.start]
        return _whole(distance)

    @cached_property
    def _deep_enough(self) -> float:
        """Exact distance of the pixel that looks deepest: the largest one is no smaller."""
        best = int(self._chamfer.argmax())
        if self._chamfer.flat[best] == 0:
            return 0.0
        return math.sqrt(self._to_outline(np.array([best]))[0])

    @cached_property
    def _outline(self) -> np.ndarray:
        """Indices of the zeros beside the error; the nearest zero of any error pixel is one of them."""
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        return np.flatnonzero(cv2.dilate(self._error, cross) > self._error)

    def _to_outline(self, flat: np.ndarray) -> np.ndarray:
        """Squared distances of pixels to the nearest zero, by comparing each with the whole outline."""
        width = self._error.shape[1]
        y, x = np.divmod(flat, width)
        outline_y, outline_x = np.divmod(self._outline, width)
        return np.array(
            [np.min((outline_y - a) ** 2 + (outline_x - b) ** 2) for a, b in zip(y, x, strict=True)], np.int64
        )

    def _window(self, y: np.ndarray, x: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns of the box that hold the nearest zero of each of these pixels."""
        reach = int(self.bounds[1]) + 2
        height, width = self._error.shape
        rows = slice(max(0, int(y.min()) - reach), min(height, int(y.max()) + reach + 1))
        return rows, slice(max(0, int(x.min()) - reach), min(width, int(x.max()) + reach + 1))

    @cached_property
    def _exact(self) -> np.ndarray:
        return self._without_excluded(_transform(self._error, cv2.DIST_MASK_PRECISE))

    @cached_property
    def _chamfer(self) -> np.ndarray:
        return self._without_excluded(_transform(self._error, cv2.DIST_MASK_5))

    def _without_excluded(self, distance: np.ndarray) -> np.ndarray:
        for y, x in self._excluded:
            distance[y, x] = 0
        return distance


def _transform(error: np.ndarray, size: int) -> np.ndarray:
    if error.size == 0:
        return np.zeros(error.shape, np.float32)
    distance: np.ndarray = cv2.distanceTransform(np.ascontiguousarray(error), cv2.DIST_L2, size)
    return distance


def _whole(distance: np.ndarray) -> np.ndarray:
    """Squares of distances as the whole numbers that they are."""
    squared: np.ndarray = np.rint(np.square(distance, dtype=np.float64)).astype(np.int64)
    return squared


def _tiles(y: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """Indices of the pixels of each tile that has any."""
    tile = (y // _TILE) * (1 << 32) + x // _TILE
    order = np.argsort(tile, kind="stable")
    starts = np.flatnonzero(np.diff(tile[order])) + 1
    return np.split(order, starts)


def _area(window: tuple[slice, slice]) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)
