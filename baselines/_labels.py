"""The five-valued reference label of a pixel: 0 and 4 are clicked, 1 to 3 follow the predictions, all start at 2."""

from __future__ import annotations

import torch
from torch import Tensor

RADIUS = 5
UNKNOWN = 2
# Label after a prediction of 0 (first row) or 1 (second row): possible labels move one step, definite ones stay.
_AFTER = torch.tensor([[0, 1, 1, 2, 4], [0, 2, 3, 3, 4]], dtype=torch.uint8)


def start(height: int, width: int) -> Tensor:
    """Return the label map (H, W) uint8 before the first click."""
    return torch.full((height, width), UNKNOWN, dtype=torch.uint8)


def after_click(labels: Tensor, y: int, x: int, positive: bool) -> Tensor:
    """Return the label map with the disc of radius 5 (81 pixels) of a click written into it."""
    height, width = labels.shape
    top, left = max(y - RADIUS, 0), max(x - RADIUS, 0)
    rows = torch.arange(top, min(y + RADIUS + 1, height))
    columns = torch.arange(left, min(x + RADIUS + 1, width))
    disc = (rows[:, None] - y) ** 2 + (columns - x) ** 2 <= RADIUS**2
    labels = labels.clone()
    labels[top : top + len(rows), left : left + len(columns)][disc] = 4 if positive else 0
    return labels


def after_prediction(labels: Tensor, prediction: Tensor) -> Tensor:
    """Return the label map after a bool prediction (H, W); a pixel that flips passes through 2 for one step."""
    return torch.where(prediction, _AFTER[1][labels.long()], _AFTER[0][labels.long()])
