"""What the decoder asks of a label map, per token of 16x16 pixels: where to look and which labels are near.

A set of labels is a byte with bit v set for label v, so that pooling is a bitwise or. One pass over the map
gives every token's own labels (its box for DPE) and the labels within three pixels of it (its routing for DHA
and HMoE).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inter2former.label_map import BACKGROUND, MAYBE_BACKGROUND, UNKNOWN

TOKEN = 16
REACH = 3
"""Half of the 7x7 window in which the label must vary for a pixel to be a boundary pixel."""

_SETS = np.left_shift(1, np.minimum(np.arange(256), 5)).astype(np.uint8)


@dataclass(frozen=True)
class Box:
    """A rectangle in tokens or pixels: left and top inside, right and bottom outside."""

    left: int
    top: int
    right: int
    bottom: int

    def __mul__(self, scale: int) -> Box:
        return Box(self.left * scale, self.top * scale, self.right * scale, self.bottom * scale)

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, for indexing an (…, H, W) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def as_tuple(self) -> tuple[int, int, int, int]:
        """Return (left, top, right, bottom)."""
        return self.left, self.top, self.right, self.bottom


def bounding_box(mask: np.ndarray, margin: int = 0) -> Box:
    """Return the box of the True cells of mask (h, w), grown by `margin` and clamped; all if none is True."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Box(0, 0, width, height)
    return Box(
        max(int(columns[0]) - margin, 0),
        max(int(rows[0]) - margin, 0),
        min(int(columns[-1]) + 1 + margin, width),
        min(int(rows[-1]) + 1 + margin, height),
    )


def _pool_rows(sets: np.ndarray) -> np.ndarray:
    """Or over each 16 rows: (H, W) -> (H / 16, W)."""
    blocks, step = sets.reshape(-1, TOKEN, sets.shape[1]), TOKEN
    while step > 1:
        step //= 2
        blocks = blocks[:, :step] | blocks[:, step:]
    return blocks[:, 0]


def _pool_rows_wide(sets: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Like `_pool_rows`, whose result is `own`, with REACH more rows on either side."""
    blocks = sets.reshape(-1, TOKEN, sets.shape[1])
    wide = own.copy()
    wide[1:] |= np.bitwise_or.reduce(blocks[:-1, TOKEN - REACH :], axis=1)
    wide[:-1] |= np.bitwise_or.reduce(blocks[1:, :REACH], axis=1)
    return wide


def label_sets(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels in each token, and those in it or within 3 pixels of it.

    Args:
        label: (H, W) uint8, H and W multiples of 16.

    Returns:
        Two (H / 16, W / 16) uint8 arrays of sets, bit v for label v.
    """
    sets = to_sets(label)
    own = _pool_rows(sets)
    near = np.ascontiguousarray(_pool_rows_wide(sets, own).T)
    return _pool_rows(np.ascontiguousarray(own.T)).T, _pool_rows_wide(near, _pool_rows(near)).T


def several(sets: np.ndarray) -> np.ndarray:
    """Return where a set has more than one label, bool."""
    return (sets & (sets - 1)) != 0


def to_sets(label: np.ndarray) -> np.ndarray:
    """Return a label map (H, W) uint8 as sets of one label."""
    return cv2.LUT(label, _SETS)


def halve(sets: np.ndarray) -> np.ndarray:
    """Return the labels that a 3x3 convolution of stride 2 and padding 1 sees: (H, W) -> (H / 2, W / 2)."""
    rows = sets[0::2] | sets[1::2]
    rows[1:] |= sets[1:-1:2]
    out = rows[:, 0::2] | rows[:, 1::2]
    out[:, 1:] |= rows[:, 1:-1:2]
    return out


@dataclass(frozen=True)
class TokenView:
    """A label map seen by the decoder.

    Attributes:
        box: tokens that get a prompt embedding of their own (DPE).
        boundary: (h, w) bool, tokens that get full attention and a routed expert.
    """

    box: Box
    boundary: np.ndarray


def view_tokens(label: np.ndarray, whole: bool, routing: str) -> TokenView:
    """Return box and boundary tokens of a label map (specification, sections 5.1 and 5.2).

    The released test for label variation in a 7x7 window fires on rounding noise wherever a window holds a
    label other than 0; `routing="executed"` is that, in exact arithmetic, and `"intended"` what was evidently
    meant.

    Args:
        label: (H, W) uint8, H and W multiples of 16.
        whole: take the whole image as the box (DPE off).
        routing: "intended" (more than one label near the token) or "executed" (any label but 0 near it).
            Tokens that hold an unknown pixel are boundary tokens in both.
    """
    own, near = label_sets(label)
    only_background = own == 1 << MAYBE_BACKGROUND
    height, width = own.shape
    box = Box(0, 0, width, height) if whole else bounding_box(~only_background, margin=1)
    varied = near != 1 << BACKGROUND if routing == "executed" else several(near)
    varied |= (own & (1 << UNKNOWN)) != 0
    boundary = np.zeros((height, width), bool)
    boundary[box.slices] = varied[box.slices]
    return TokenView(box, boundary)
