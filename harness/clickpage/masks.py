"""Masks as they travel to the browser: the lengths of runs inside the mask's box."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Runs:
    """A mask in few bytes.

    Attributes:
        height, width: of the whole mask.
        box: (top, left, height, width) of its object; zeros where it is empty.
        runs: lengths of the runs in the box, row by row, background first (0 where the box begins with object).
    """

    height: int
    width: int
    box: tuple[int, int, int, int]
    runs: tuple[int, ...]


def encode(mask: np.ndarray) -> Runs:
    """Runs of a (H, W) bool mask."""
    height, width = mask.shape
    pixels = np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    left, top, box_width, box_height = cv2.boundingRect(pixels)
    if box_width == 0:
        return Runs(height, width, (0, 0, 0, 0), ())
    inside = np.ascontiguousarray(pixels[top : top + box_height, left : left + box_width]).ravel()
    changes = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts = np.concatenate([[0], changes, [inside.size]])
    lengths = np.diff(starts).tolist()
    return Runs(height, width, (top, left, box_height, box_width), tuple([0, *lengths] if inside[0] else lengths))


def decode(runs: Runs) -> np.ndarray:
    """The (H, W) bool mask again."""
    mask = np.zeros((runs.height, runs.width), dtype=bool)
    top, left, height, width = runs.box
    if height:
        values = np.arange(len(runs.runs)) % 2 == 1
        mask[top : top + height, left : left + width] = np.repeat(values, runs.runs).reshape(height, width)
    return mask


def digest(mask: np.ndarray) -> str:
    """Short hash of a (H, W) bool mask, equal exactly for equal masks."""
    hashed = hashlib.sha256(repr(mask.shape).encode())
    hashed.update(np.packbits(mask).tobytes())
    return hashed.hexdigest()[:16]


def resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A (H, W) bool mask at another (height, width), by nearest pixels."""
    if mask.shape == size:
        return mask
    pixels = np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    return cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST).astype(bool)
