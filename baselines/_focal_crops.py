"""Where FocalClick looks: the focus crop around what a click changed, and the progressive merge with a given mask.

Boxes are half-open (top, bottom, left, right) in image pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

Box = tuple[int, int, int, int]

FEW = 10
"""A mask of fewer pixels has the whole image as its bounding box."""
_NEAR = 0.2
"""Half the side of the box around a click, as a share of the object's longer side."""


def bounding_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return first and last row, first and last column of an (H, W) bool mask.

    With fewer than 10 pixels (0, H, 0, W): one more than the last, as in the released code.
    """
    height, width = mask.shape
    if np.count_nonzero(mask) < FEW:
        return 0, height, 0, width
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def changed_part(before: np.ndarray, after: np.ndarray, y: int, x: int) -> np.ndarray:
    """Return the part of the difference of two (H, W) bool masks that holds pixel (y, x), as an (H, W) bool mask.

    Parts are 8-connected. Where (y, x) itself did not change, the answer is all that did not change: the released code
    compares labels, and unchanged pixels share the label 0.
    """
    _, labels = cv2.connectedComponents((before ^ after).astype(np.uint8), connectivity=8)
    return labels == labels[y, x]


def focus_crop(
    before: np.ndarray, after: np.ndarray, click: tuple[int, int] | None, view: Box, expansion: float
) -> Box:
    """Return the crop that the refiner sees.

    Args:
        before, after: (H, W) bool, last answer and coarse prediction.
        click: row and column of the last click; None: there was none.
        view: what the coarse network saw; the crop stays inside.
        expansion: of the box around the change.
    """
    top, bottom, left, right = box = bounding_box(after)
    if before.any() and click is not None:
        rows, columns = bottom - top, right - left
        box = bounding_box(changed_part(before, after, *click))
        if box[1] - box[0] < rows / 3 or box[3] - box[2] < columns / 3:
            around = _NEAR * max(rows, columns)
            y, x = click
            box = y - around, y + around, x - around, x + around
    crop = (
        *_grow(box[:2], expansion, before.shape[0], view[:2]),
        *_grow(box[2:], expansion, before.shape[1], view[2:]),
    )
    # A change outside of the view leaves nothing to look at; the released code stops with an error there.
    return crop if crop[0] < crop[1] and crop[2] < crop[3] else view


def _grow(ends: tuple[float, float], expansion: float, size: int, view: tuple[int, int]) -> tuple[int, int]:
    first, last = ends
    centre, side = (first + last) / 2, expansion * (last - first + 1)
    low, high = int(centre - side / 2), int(centre + side / 2)  # towards zero, as the released code does
    return max(0, low, view[0]), min(size, high, view[1])


def merge(old: np.ndarray, new: np.ndarray, click: tuple[int, int]) -> np.ndarray:
    """Return the old (H, W) bool mask, changed only in the part of its difference to the new one that was clicked.

    Where the click changed nothing, see `changed_part`: everything unchanged is then removed or added.
    """
    part = changed_part(old, new, *click)
    return old & ~part if old[click] else old | part
