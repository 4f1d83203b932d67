"""Clicks as discs, the zoom-in region and averaging with the mirrored image: the pipeline that RITM introduced.

RITM, SimpleClick and FocalClick crop the image around the object, draw all clicks into the crop as discs, and paste
the answer back. They differ in when the region changes and in the size of the crop; the steps are the same.

Rows and columns of a click are in pixels and may be fractional after the crop; nothing here rounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines._images import bilinear, check_image

RADIUS = 5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB values in 0..1."""
OBJECT = 0.5
"""Probability above which a pixel belongs to the object around which RITM and SimpleClick crop."""
REUSE = 0.5
"""Overlap with the new region from which the old one stays."""

Point = tuple[float, float, bool]
"""Row, column, positive."""
Region = tuple[int, int, int, int]
"""First and last row, first and last column, all inside."""


@dataclass(frozen=True)
class Embedding:
    """The image (1, 3, H, W) in 0..1: these systems run their whole network at every click and keep nothing else."""

    image: Tensor


def keep(image: np.ndarray) -> Embedding:
    """Return an (H, W, 3) uint8 RGB image as planes."""
    pixels = torch.from_numpy(np.ascontiguousarray(check_image(image)))
    return Embedding(pixels.permute(2, 0, 1)[None].float() / 255)


def normalise(image: Tensor) -> Tensor:
    """Return (image - mean) / std of RGB planes (B, 3, H, W) in 0..1."""
    mean, std = image.new_tensor(MEAN).view(3, 1, 1), image.new_tensor(STD).view(3, 1, 1)
    return (image - mean) / std


def draw_discs(points: Sequence[Point], height: int, width: int, radius: int = RADIUS) -> Tensor:
    """Return (2, height, width) discs around the points, positive first.

    Differences are taken in float64, rounded to float32, squared and added there, as in the released codes: it decides
    about pixels exactly on the rim. A point with two negative coordinates marks an empty slot there: no disc.
    """
    rows = torch.arange(height, dtype=torch.float64)[:, None]
    columns = torch.arange(width, dtype=torch.float64)
    maps = torch.zeros(2, height, width)
    for y, x, positive in points:
        if max(y, x) >= 0:
            disc = (rows - y).float().square() + (columns - x).float().square() <= radius**2
            maps[0 if positive else 1][disc] = 1.0
    return maps


def mirrored(points: Sequence[Point], width: int) -> list[Point]:
    """Return the points in the mirrored image."""
    return [(y, width - x - 1, positive) for y, x, positive in points]


def click_maps(previous: Tensor, points: Sequence[Point], flip: bool) -> Tensor:
    """Return last probabilities (1, 1, h, w), positive and negative discs as (1, 3, h, w).

    With `flip` a second map (2, 3, h, w) belongs to the mirrored image; its discs are drawn at mirrored points.
    """
    height, width = previous.shape[2:]
    maps = torch.cat([previous, draw_discs(points, height, width)[None]], dim=1)
    if not flip:
        return maps
    other = torch.cat([previous.flip(3), draw_discs(mirrored(points, width), height, width)[None]], dim=1)
    return torch.cat([maps, other])


def with_mirror(image: Tensor, flip: bool) -> Tensor:
    """Return (1, C, h, w), with `flip` followed by its mirror image: (2, C, h, w)."""
    return torch.cat([image, image.flip(3)]) if flip else image


def mean_logits(logits: Tensor) -> Tensor:
    """Return (1, 1, h, w) logits: those of the image, or the mean with the mirrored image's, mirrored back.

    The mean is taken before the sigmoid, as the released evaluations do.
    """
    return logits if len(logits) == 1 else (logits[:1] + logits[1:].flip(3)) / 2


def whole(height: int, width: int) -> Region:
    """Return the region of a whole image."""
    return 0, height - 1, 0, width - 1


def extent(region: Region) -> tuple[int, int]:
    """Return rows and columns of a region."""
    top, bottom, left, right = region
    return bottom - top + 1, right - left + 1


def object_region(mask: Tensor, points: Sequence[Point], expansion: float, least: int) -> Region | None:
    """Return the bounding box of a mask (H, W) and the positive clicks, expanded; None for an empty mask."""
    if not bool(mask.any()):
        return None
    limits = []
    for axis, size in enumerate(mask.shape):
        inside = torch.nonzero(mask.any(dim=1 - axis))[:, 0]
        at = [int(point[axis]) for point in points if point[2]]
        first, last = min([int(inside[0]), *at]), max([int(inside[-1]), *at])
        middle, half = (first + last) / 2, max(expansion * (last - first + 1), least) / 2
        limits.append((max(0, round(middle - half)), min(size - 1, round(middle + half))))
    (top, bottom), (left, right) = limits
    return top, bottom, left, right


def holds(region: Region, points: Sequence[Point]) -> bool:
    """Whether all positive clicks lie in a region; its last row and column do not count, as in the released code."""
    top, bottom, left, right = region
    return all(top <= y < bottom and left <= x < right for y, x, positive in points if positive)


def overlap(a: Region, b: Region) -> float:
    """Return the product of the two one-dimensional intersections over unions."""
    result = 1.0
    for i in (0, 2):
        common = max(0, min(a[i + 1], b[i + 1]) - max(a[i], b[i]) + 1)
        result *= common / (max(a[i + 1], b[i + 1]) - min(a[i], b[i]) + 1)
    return result


def keep_or_replace(held: Region | None, new: Region, points: Sequence[Point]) -> Region:
    """Return the region held so far unless a positive click left it or it overlaps the new one by less than half."""
    if held is None or not holds(held, points) or overlap(new, held) < REUSE:
        return new
    return held


def cut(planes: Tensor, region: Region, size: tuple[int, int]) -> Tensor:
    """Return planes (B, C, H, W) within a region, resized to `size` with aligned corners."""
    top, bottom, left, right = region
    return bilinear(planes[:, :, top : bottom + 1, left : right + 1], *size, align_corners=True)


def into(points: Sequence[Point], region: Region, size: tuple[int, int]) -> list[Point]:
    """Return the points where they lie in the crop of a region, those outside too.

    They are scaled by size / extent, the pixels by (size - 1) / (extent - 1): so do the released codes.
    """
    top, _, left, _ = region
    height, width = extent(region)
    return [(size[0] * (y - top) / height, size[1] * (x - left) / width, positive) for y, x, positive in points]


def paste(answer: Tensor, region: Region, height: int, width: int) -> Tensor:
    """Return a map (1, 1, height, width) of zeros with an answer (1, 1, h, w), resized to the region, pasted in."""
    top, bottom, left, right = region
    result = answer.new_zeros(1, 1, height, width)
    result[:, :, top : bottom + 1, left : right + 1] = bilinear(answer, *extent(region), align_corners=True)
    return result


class Kept:
    """What was made of the image for the last region, so that it is made once while the region stays."""

    def __init__(self, make: Callable[[Region | None], Tensor]) -> None:
        self._make = make
        self._last: tuple[Region | None, Tensor] | None = None

    def get(self, region: Region | None) -> Tensor:
        """Return `make(region)`, remembered if the last call had the same region; None is the whole image."""
        if self._last is None or self._last[0] != region:
            self._last = region, self._make(region)
        return self._last[1]
