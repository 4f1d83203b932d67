"""From an image to the network's input and back: normalisation, padding, the target-size variant, coordinates.

Normalised first, padded after, so that padding is the mean colour. In the plain variant the input has the image's
scale. In the target-size variant (the published 1024 and 2048 rows) the padded image is padded again to a square and
resized to `target_size`; because of the first padding a 854x480 image becomes 1024x512, then 1024x1024, and nothing is
enlarged at 1024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
CHANNEL_ORDERS = ("rgb", "bgr")


class ImageError(ValueError):
    """An image that cannot be segmented; the message says what it is and what is needed."""


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the network's input.

    Attributes:
        height, width: image size in pixels.
        padded_height, padded_width: after padding to multiples of `multiple`.
        target_size: side of the square input of the target-size variant, None in the plain variant.
    """

    height: int
    width: int
    padded_height: int
    padded_width: int
    target_size: int | None = None

    @property
    def square(self) -> int:
        """Side of the square that the target-size variant resizes."""
        return max(self.padded_height, self.padded_width)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        if self.target_size is None:
            return self.padded_height, self.padded_width
        return self.target_size, self.target_size

    def to_input(self, y: float, x: float) -> tuple[int, int]:
        """Return the input pixel (y, x) of an image pixel: scaled, then truncated (section 1.4).

        Raises:
            ValueError: a point outside the image.
        """
        if not (0 <= y < self.height and 0 <= x < self.width):
            raise ValueError(f"click ({y}, {x}) lies outside the image of {self.height}x{self.width} pixels")
        scale = 1.0 if self.target_size is None else self.target_size / self.square
        return int(scale * y), int(scale * x)

    def to_image(self, y: float, x: float) -> tuple[float, float]:
        """Return image coordinates of an input pixel, the inverse of `to_input` before its truncation."""
        scale = 1.0 if self.target_size is None else self.target_size / self.square
        return y / scale, x / scale

    def place(self, image: Tensor, fill: float = 0.0) -> Tensor:
        """Pad and resize a map (B, C, height, width), such as a normalised image, to the input's size."""
        right, bottom = self.padded_width - self.width, self.padded_height - self.height
        if self.target_size is not None:
            right, bottom = self.square - self.width, self.square - self.height
        padded = F.pad(image, (0, right, 0, bottom), value=fill) if right or bottom else image
        if self.target_size is None or self.target_size == self.square:
            return padded
        return F.interpolate(padded, self.input_size, mode="bilinear", align_corners=False)

    def restore(self, logits: Tensor) -> Tensor:
        """Bring logits (B, C, input height, input width) to the image's size: bilinear to the square, then cropped.

        Logits of another size are first brought to the input's size.
        """
        if tuple(logits.shape[-2:]) != self.input_size:
            logits = F.interpolate(logits, self.input_size, mode="bilinear", align_corners=False)
        if self.target_size is not None and self.target_size != self.square:
            logits = F.interpolate(logits, (self.square, self.square), mode="bilinear", align_corners=False)
        return logits[..., : self.height, : self.width]


def frame_image(height: int, width: int, multiple: int = 256, target_size: int | None = None) -> Frame:
    """Return the frame of an image of (height, width) pixels.

    Args:
        multiple: input sides are multiples of it: 256 for the ViT-B encoder, 32 for the lite one.
        target_size: side of the resized square, None for the plain variant.

    Raises:
        ImageError: no pixels.
        ValueError: a target size that is not a positive multiple of 16.
    """
    if height < 1 or width < 1:
        raise ImageError(f"image of {height}x{width} pixels: need at least 1x1")
    if target_size is not None and (target_size < 16 or target_size % 16):
        raise ValueError(f"target_size={target_size}: need a positive multiple of 16, or none for the plain variant")
    padded_height, padded_width = (-(-side // multiple) * multiple for side in (height, width))
    return Frame(height, width, padded_height, padded_width, target_size)


def check_image(image: np.ndarray) -> np.ndarray:
    """Return the image if it is (H, W, 3) uint8 with at least one pixel.

    Raises:
        ImageError: grey, alpha, float (NaN or not), empty or of another shape; the message says how to convert.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image is a {type(image).__name__}: need a numpy array (H, W, 3), uint8, RGB")
    shape = "x".join(map(str, image.shape)) or "no dimensions"
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        raise ImageError(f"grey image ({shape}): need (H, W, 3) RGB; np.repeat it to three channels")
    if image.ndim == 3 and image.shape[2] == 4:
        raise ImageError(f"image with alpha ({shape}): need (H, W, 3) RGB; drop the fourth channel")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"image of shape {shape}: need (H, W, 3), uint8, RGB")
    if image.shape[0] < 1 or image.shape[1] < 1:
        raise ImageError(f"image of {image.shape[0]}x{image.shape[1]} pixels: need at least 1x1")
    if image.dtype != np.uint8:
        bad = ""
        if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
            bad = " holding NaN or infinity"
        raise ImageError(f"image of type {image.dtype}{bad}: need uint8 values 0..255")
    return image


def normalise(image: np.ndarray, channels: str = "rgb") -> Tensor:
    """Return (1, 3, H, W) float32: (image - mean) / std per plane.

    Args:
        image: (H, W, 3) uint8 RGB.
        channels: order in which the planes reach the network, whose statistics are RGB's in either case. The released
            evaluation feeds `bgr` (section 1.1); whoever loads released weights should try both.
    """
    if channels not in CHANNEL_ORDERS:
        raise ValueError(f"channels={channels!r}: choose rgb or bgr")
    check_image(image)
    planes = image[..., ::-1] if channels == "bgr" else image
    x = torch.from_numpy(np.ascontiguousarray(planes.transpose(2, 0, 1))).float()[None]
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return x.sub_(mean).div_(std)


def prepare(
    image: np.ndarray, multiple: int = 256, target_size: int | None = None, channels: str = "rgb"
) -> tuple[Tensor, Frame]:
    """Return the network's input (1, 3, h, w) for an (H, W, 3) uint8 RGB image, and where the image lies in it."""
    x = normalise(image, channels)
    frame = frame_image(image.shape[0], image.shape[1], multiple, target_size)
    return frame.place(x), frame
