"""What the two methods without weights share: the facts of a system without a network, and the working size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np


class Classical:
    """What a segmenter says of itself that has no network and answers with scores around 0."""

    threshold = 0.0
    weights_status = "no weights"
    weights_digest = ""
    parameters = 0
    module = None


def shrink(image: np.ndarray, longest: int | None, least: int) -> np.ndarray:
    """Return an (H, W, 3) uint8 image whose longest side is at most `longest`; None keeps its size.

    No side becomes shorter than `least`.
    """
    height, width = image.shape[:2]
    scale = 1.0 if longest is None else min(1.0, longest / max(height, width))
    if scale < 1:
        sides = max(least, round(width * scale)), max(least, round(height * scale))
        image = cv2.resize(image, sides, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image)


def working_place(click: Any, shape: tuple[int, int], working: tuple[int, int]) -> tuple[float, float]:
    """Return row and column of a click in the working image; pixel centres of both sizes lie on one another."""
    (height, width), (h, w) = shape, working
    return (click.y + 0.5) * h / height - 0.5, (click.x + 0.5) * w / width - 0.5
