"""The deepest pixels of an error region, by the exact Euclidean distance, without transforming everything.

The field pads each error map with one zero pixel and transforms the whole image (OpenCV DIST_L2, precise). The same
pixels and distances are found with less work, in two steps:

1. Only the bounding box counts. Outside it everything is zero, and of all zero pixels outside the box the nearest to a
   pixel inside lies on the ring around the box (its projection). The same holds for each connected part of the error:
   all pixels nearer than the nearest zero belong to the same part. Parts too narrow to hold the maximum are left out.
2. In a large box a cheap chamfer transform bounds every distance from both sides, so that few pixels can be the
   deepest. Their exact distances come from the outline's pixels directly, if both are few.

Distances are roots of whole numbers. Where OpenCV's precise transform runs in IPP (x86 wheels, one thread), its last
bit depends on the address of its output modulo 32 bytes, which would break ties at random; squares are therefore
compared as whole numbers (exact up to depths of about 1,400 px, where float32 ends).

`benchmarks/annotator_distance.py` holds the times against one plain transform, `tests/harness/plain_distance.py`, which
is also the tests' oracle.
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
_MOST_PARTS = 1000  # noise of more parts is taken as one
_DIRECT_PAIRS = 2  # pixels times outline pixels, per pixel of the box, up to which direct distances cost less
_MARGIN = 1e-3  # above OpenCV's rounding; what is too much is dropped afterwards
_SMALLEST = 0.5  # every pixel of an error has at least the distance 1


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
        excluded: (y, x) pixels that are never chosen, though they count as error for the distance of the others.
    """

    def __init__(self, error: np.ndarray, excluded: Sequence[tuple[int, int]] = ()):
        left, top, width, height = cv2.boundingRect(error)
        box = error[top : top + height, left : left + width]
        self._parts = _split(box, (top, left), excluded)

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The largest distance lies between these two, both included."""
        if len(self._parts) == 1:
            return self._parts[0].bounds
        return self.maximum, self.maximum

    @cached_property
    def maximum(self) -> float:
        """The largest distance, exact; 0 without an error that may be chosen."""
        return math.sqrt(self._largest)

    @cached_property
    def _largest(self) -> int:
        """Square of the largest distance."""
        largest = 0
        for part in self._parts:  # the widest first
            if part.ceiling**2 < largest:
                break
            largest = max(largest, part.largest)
        return largest

    def deepest(self, share: float = 1.0) -> Places:
        """All pixels at least `share` (0..1) of the largest distance deep, excluded ones left out."""
        least = share**2 * self._largest
        parts = [part.at_least(least) for part in self._parts if part.ceiling**2 >= least and self._largest]
        if not parts:
            return Places(0.0, np.empty((0, 2), np.int64), np.empty(0, np.int64))
        if len(parts) == 1:  # in row-major order already
            return Places(self.maximum, *parts[0])
        at, squared = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.lexsort((at[:, 1], at[:, 0]))
        return Places(self.maximum, at[order], squared[order])

    def core(self, share: float) -> np.ndarray:
        """Places (n, 2) int64, row-major, of the pixels at least `share` (0..1) of the largest distance deep that are
        connected (8 neighbours) through such pixels to the first of the deepest; n = 0: no error."""
        deepest = self.deepest()
        if not len(deepest.at):
            return deepest.at
        y, x = (int(v) for v in deepest.at[0])
        part = next(p for p in self._parts if p.holds(y, x))  # a part is separate: what is connected lies in it
        return part.connected(share**2 * self._largest, y, x)


def _split(box: np.ndarray, origin: tuple[int, int], excluded: Sequence[tuple[int, int]]) -> list[_Part]:
    """The error as separate parts, those that may be deepest first; one part if it is small or very scattered."""
    if box.size == 0:
        return []
    whole = [_Part(box, origin, excluded)]
    if box.size <= _SMALL_AREA:
        return whole
    contours, _ = cv2.findContours(box, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not 1 < len(contours) <= _MOST_PARTS:
        return whole
    parts = []
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [contour], 0, 1, cv2.FILLED, offset=(-x, -y))
        # What lies in a hole of the part is filled as well, and comes along.
        cv2.bitwise_and(filled, box[y : y + height, x : x + width], dst=filled)
        parts.append(_Part(filled, (origin[0] + y, origin[1] + x), excluded))
    return sorted(parts, key=lambda part: -part.ceiling)


class _Part:
    """Distances inside the bounding box of one part; arguments as those of `Depth`, with the place of the box."""

    def __init__(self, box: np.ndarray, origin: tuple[int, int], excluded: Sequence[tuple[int, int]]):
        height, width = box.shape
        top, left = origin
        self._origin = (top - 1, left - 1)
        self._error = np.zeros((height + 2, width + 2), np.uint8)
        self._error[1:-1, 1:-1] = box
        self._excluded = [
            (y - top + 1, x - left + 1) for y, x in excluded if 0 <= y - top < height and 0 <= x - left < width
        ]
        # A disc of errors around the deepest pixel has to fit into the box.
        self.ceiling = (min(height, width) + 1) / 2

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The largest distance lies between these two, both included; in a large box without the exact
        transform."""
        if self._error.size <= _SMALL_AREA:
            exact = math.sqrt(_whole(self._exact.max(initial=0)))
            return exact, exact
        highest = float(self._chamfer.max())
        return max(highest / _CHAMFER_HIGH, self._of_the_best), highest / _CHAMFER_LOW

    @cached_property
    def largest(self) -> int:
        """Square of the largest distance."""
        return int(self._top[1].max(initial=0))

    @cached_property
    def _top(self) -> tuple[np.ndarray, np.ndarray]:
        return self._candidates(self.bounds[0] - _MARGIN)

    def at_least(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """Image coordinates (n, 2) and squared distances (n,) of all pixels with at least this squared distance."""
        enough = self.bounds[0] ** 2 <= least
        flat, squared = self._top if enough else self._candidates(math.sqrt(least) - _MARGIN)
        kept = (squared >= least) & (squared > 0)
        return np.stack(np.divmod(flat[kept], self._error.shape[1]), axis=1) + self._origin, squared[kept]

    def holds(self, y: int, x: int) -> bool:
        """Whether this pixel of the image belongs to the error of this part."""
        y, x = y - self._origin[0], x - self._origin[1]
        height, width = self._error.shape
        return 0 <= y < height and 0 <= x < width and bool(self._error[y, x])

    def connected(self, least: float, y: int, x: int) -> np.ndarray:
        """Image coordinates (n, 2) of the pixels with at least this squared distance, connected to pixel (y, x)."""
        # Squares are whole numbers, and OpenCV's roots are off by far less than the distance between two of them.
        enough = (self._exact >= math.sqrt(max(math.ceil(least) - 0.5, 0.5))).view(np.uint8)
        cv2.floodFill(enough, None, (x - self._origin[1], y - self._origin[0]), 2, flags=8)
        flat = np.flatnonzero(enough == 2)
        return np.stack(np.divmod(flat, enough.shape[1]), axis=1) + self._origin

    def _candidates(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices into the box of all pixels that may be so deep, and their squared distances."""
        if self._error.size <= _SMALL_AREA:
            flat = np.flatnonzero(self._exact > max(0.0, least))
            return flat, _whole(self._exact.ravel()[flat])
        flat = np.flatnonzero(self._chamfer >= max(least * _CHAMFER_LOW, _SMALLEST))
        if flat.size * len(self._outline) <= _DIRECT_PAIRS * self._error.size:
            return flat, self._to_outline(flat)
        return flat, _whole(self._exact.ravel()[flat])

    @cached_property
    def _of_the_best(self) -> float:
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
