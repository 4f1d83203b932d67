"""Images on their way into a network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
_MASK_LOGIT = 10.0


def check_image(image: np.ndarray) -> np.ndarray:
    """Return the image; ValueError unless it is (H, W, 3) uint8 with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image of shape {image.shape} and type {image.dtype}: need (H, W, 3) uint8 RGB")
    return image


def normalised(image: np.ndarray, channels: str = "rgb") -> Tensor:
    """Return (1, 3, H, W) float32 (image - mean) / std of an (H, W, 3) uint8 RGB image.

    With channels "bgr" the planes are swapped but not the statistics, as some released evaluations do.
    """
    planes = check_image(image)[:, :, ::-1] if channels == "bgr" else check_image(image)
    pixels = torch.from_numpy(np.ascontiguousarray(planes)).float()
    return ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None].contiguous()


def mask_plane(mask: np.ndarray) -> Tensor:
    """Return an (H, W) bool mask as (1, 1, H, W) float32 of 0 and 1."""
    return torch.from_numpy(np.asarray(mask, dtype=np.float32))[None, None]


def mask_logits(plane: Tensor) -> Tensor:
    """Return logits that stand in for an answer: from -10 at 0 to 10 at 1; SAM's own reach about that far."""
    return (plane * 2 - 1) * _MASK_LOGIT


def pad_to(x: Tensor, height: int, width: int) -> Tensor:
    """Pad (B, C, H, W) with 0 at the bottom and the right."""
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))


def up_to_multiple(size: int, divisor: int) -> int:
    """Return the smallest multiple of `divisor` that is at least `size`."""
    return -(-size // divisor) * divisor


def bilinear(x: Tensor, height: int, width: int, align_corners: bool = False) -> Tensor:
    """Resize (B, C, H, W) bilinearly, without antialiasing."""
    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=align_corners)
