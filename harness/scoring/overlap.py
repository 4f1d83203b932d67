"""Overlap of a prediction with the ground truth: IoU and boundary IoU; the truth's share is computed once."""

from __future__ import annotations

import math

import cv2
import numpy as np


class IoU:
    """Intersection over union with one ground truth; ignored pixels are in neither.

    Args:
        mask: (H, W) uint8: 1 object, 0 background, 255 ignore.
    """

    def __init__(self, mask: np.ndarray):
        self._object = (mask == 1).view(np.uint8)
        ignored = (mask == 255).view(np.uint8)
        self._valid = 1 - ignored if ignored.any() else None
        self._size = cv2.countNonZero(self._object)

    def __call__(self, prediction: np.ndarray) -> float:
        """IoU of a (H, W) bool prediction, 0..1; NaN where prediction and truth are both empty."""
        predicted = _bytes(prediction, self._object.shape)
        if self._valid is not None:
            predicted = cv2.bitwise_and(predicted, self._valid)
        return _ratio(self._object, self._size, predicted)


class BoundaryIoU:
    """Boundary IoU with one ground truth (Cheng et al., "Boundary IoU", CVPR 2021).

    IoU of the two inner boundary regions: pixels of a mask within `d` of its outline, where d is 2 % of the image
    diagonal, rounded, at least 1. Distance is that of `d` erosions by a 3x3 square; the outside of the image counts
    as background, as in the authors' code. Ignored pixels are removed from both masks first, so that what a model
    says there makes no difference.

    Args:
        mask: (H, W) uint8: 1 object, 0 background, 255 ignore.
        dilation: d as a share of the image diagonal.
    """

    def __init__(self, mask: np.ndarray, dilation: float = 0.02):
        object_ = (mask == 1).view(np.uint8)
        ignored = (mask == 255).view(np.uint8)
        self._valid = 1 - ignored if ignored.any() else None
        self.distance = boundary_distance(mask.shape[0], mask.shape[1], dilation)
        self._boundary = _inner_boundary(object_, self.distance)
        self._size = cv2.countNonZero(self._boundary)

    def __call__(self, prediction: np.ndarray) -> float:
        """Boundary IoU of a (H, W) bool prediction, 0..1; NaN where prediction and truth are both empty."""
        predicted = _bytes(prediction, self._boundary.shape)
        if self._valid is not None:
            predicted = cv2.bitwise_and(predicted, self._valid)
        return _ratio(self._boundary, self._size, _inner_boundary(predicted, self.distance))


def iou(prediction: np.ndarray, mask: np.ndarray) -> float:
    """IoU of a (H, W) bool prediction with a (H, W) uint8 mask (1 object, 0 background, 255 ignore); NaN:
    both empty."""
    return IoU(mask)(prediction)


def boundary_iou(prediction: np.ndarray, mask: np.ndarray, dilation: float = 0.02) -> float:
    """Boundary IoU, see `BoundaryIoU`; arguments as in `iou`."""
    return BoundaryIoU(mask, dilation)(prediction)


def boundary_distance(height: int, width: int, dilation: float = 0.02) -> int:
    """Width of the boundary region in pixels, at least 1."""
    return max(1, round(dilation * math.hypot(height, width)))


def _bytes(prediction: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if prediction.shape != shape:
        raise ValueError(f"prediction of {prediction.shape}, ground truth of {shape}: they must be equal")
    return np.ascontiguousarray(prediction, dtype=bool).view(np.uint8)


def _ratio(truth: np.ndarray, truth_size: int, predicted: np.ndarray) -> float:
    common = cv2.countNonZero(cv2.bitwise_and(truth, predicted))
    union = truth_size + cv2.countNonZero(predicted) - common
    return common / union if union else math.nan


def _inner_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    """(H, W) uint8 0/1: pixels of the mask that `distance` erosions by a 3x3 square would remove."""
    left, top, width, height = cv2.boundingRect(mask)
    boundary = np.zeros(mask.shape, np.uint8)  # not `zeros_like`: OpenCV writes rows, MATLAB's masks lie in columns
    if width == 0:
        return boundary
    # Beyond its bounding box the mask is empty, so eroding the box against a zero border is enough.
    box = mask[top : top + height, left : left + width]
    inner = boundary[top : top + height, left : left + width]
    if min(width, height) <= 2 * distance:
        inner[:] = box
        return boundary
    kernel = np.ones((1, 2 * distance + 1), np.uint8)
    kept = cv2.erode(box, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    kept = cv2.erode(kept, kernel.T, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    cv2.subtract(box, kept, dst=inner)
    return boundary
