"""Images on their way into a network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


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
