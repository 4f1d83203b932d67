"""The label map: what is known about each pixel, in five values, and how clicks and predictions change it.

0 definitely background, 1 possibly background, 2 unknown, 3 possibly object, 4 definitely object. An episode starts
with 2 everywhere. Only a click makes a pixel definite, and only another click changes a definite pixel. A pixel whose
prediction flips passes through 2 for one step: these are the places where the model looks closest next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

BACKGROUND, MAYBE_BACKGROUND, UNKNOWN, MAYBE_OBJECT, OBJECT = range(5)


class ClickLike(Protocol):
    """A click in pixels of the label map."""

    @property
    def y(self) -> int: ...
    @property
    def x(self) -> int: ...
    @property
    def positive(self) -> bool: ...


_MERGED = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 2, 4],
        [0, 1, 2, 3, 4],
        [0, 2, 3, 3, 4],
        [4, 4, 4, 4, 4],
    ],
    dtype=np.uint8,
)
"""Row: what a click says; column: the label so far; entry: the label after (specification, section 2)."""

# Indexed by twice the label plus the prediction (a sum is vectorised, a shift of bytes is not).
_AFTER_PREDICTION = np.full((256, 1), 255, np.uint8)
_AFTER_PREDICTION[0:10:2, 0] = _MERGED[MAYBE_BACKGROUND]
_AFTER_PREDICTION[1:10:2, 0] = _MERGED[MAYBE_OBJECT]


def new_label_map(height: int, width: int) -> np.ndarray:
    """Return a fresh label map, (height, width) uint8: everything unknown."""
    return np.full((height, width), UNKNOWN, np.uint8)


def add_clicks(label: np.ndarray, clicks: Sequence[ClickLike], inner: int = 5, outer: int = 0) -> None:
    """Write clicks into the label map (H, W) uint8, in place.

    Within `inner` pixels of a click the label becomes definite; from there to `inner + outer` it moves one
    step towards the click's sign. Where inner discs of both signs overlap, the sign whose first click comes
    later in the list wins.

    Args:
        clicks: in pixels of the label map; parts of a disc outside the map are dropped.
    """
    if not clicks:
        return
    radius = inner + outer
    rows, columns = [click.y for click in clicks], [click.x for click in clicks]
    top, bottom = max(min(rows) - radius, 0), min(max(rows) + radius + 1, label.shape[0])
    left, right = max(min(columns) - radius, 0), min(max(columns) + radius + 1, label.shape[1])
    if top >= bottom or left >= right:
        return
    y, x = np.ogrid[top:bottom, left:right]
    window = label[top:bottom, left:right]
    far = np.iinfo(np.int64).max
    squared = {True: np.full(window.shape, far), False: np.full(window.shape, far)}
    for click in clicks:
        sign = bool(click.positive)
        np.minimum(squared[sign], (y - click.y) ** 2 + (x - click.x) ** 2, out=squared[sign])
    near_object, near_background = squared[True] <= radius**2, squared[False] <= radius**2
    labels = np.full(window.shape, UNKNOWN, np.uint8)
    labels[near_object & ~near_background] = MAYBE_OBJECT
    labels[near_background & ~near_object] = MAYBE_BACKGROUND
    for sign in dict.fromkeys(bool(click.positive) for click in clicks):
        labels[squared[sign] <= inner**2] = OBJECT if sign else BACKGROUND
    window[...] = _MERGED[labels, window]


def add_prediction(label: np.ndarray, prediction: np.ndarray) -> None:
    """Move every label that is not definite one step towards the prediction, in place.

    Args:
        label: (H, W) uint8.
        prediction: (H, W) bool (or uint8 of 0 and 1), True where the model says object.
    """
    index = label + label
    index |= prediction.view(np.uint8)
    label[...] = cv2.LUT(index, _AFTER_PREDICTION, dst=index)
