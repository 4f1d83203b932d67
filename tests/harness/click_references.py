"""Slow, plain forms of the click rules, straight from the descriptions of the released codes.

The distance is SciPy's exact transform in float64 of the whole image with a zero border; nothing is shared with
`harness.clicking.distance`.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt


def padded_distance(error: np.ndarray) -> np.ndarray:
    """(H, W) float64 distance to the nearest zero, with one zero pixel around the image."""
    return distance_transform_edt(np.pad(error, 1))[1:-1, 1:-1]


def ritm_click(
    prediction: np.ndarray, mask: np.ndarray, clicked: list[tuple[int, int]]
) -> tuple[int, int, bool, float]:
    """(y, x, positive, distance) by RITM's rule; (0, 0, False, 0.0) where nothing is wrong."""
    valid = mask != 255
    missed = padded_distance((mask == 1) & ~prediction & valid)
    excess = padded_distance((mask != 1) & prediction & valid)
    for y, x in clicked:
        missed[y, x] = excess[y, x] = 0
    positive = missed.max() > excess.max()
    chosen = missed if positive else excess
    y, x = np.argwhere(chosen == chosen.max())[0]
    return int(y), int(x), bool(positive), float(chosen.max())


def inter2former_candidates(
    prediction: np.ndarray, mask: np.ndarray, clicked: list[tuple[int, int]], k: float
) -> tuple[bool, np.ndarray]:
    """(positive, places) by Inter2Former's rule; no places where nothing is wrong."""
    missed, excess = ~prediction & (mask == 1), prediction & (mask != 1)
    for y, x in clicked:
        missed[y, x] = excess[y, x] = False
    far, near = padded_distance(missed), padded_distance(excess)
    positive = far.max() > near.max()
    chosen = far if positive else near
    if chosen.max() == 0:
        return bool(positive), np.empty((0, 2), int)
    # Distances are roots of whole numbers, far enough apart for any margin to do in place of the released one.
    bound = chosen.max() / k - 1e-6 if k > 0 else 0.0
    return bool(positive), np.argwhere(chosen > bound)
