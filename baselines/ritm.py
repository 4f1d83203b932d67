"""RITM HRNet18s (Sofiiuk et al. 2021): image, clicks and last mask go through the whole network at every click.

What "no encode-once" costs: nothing is kept between clicks but the last probability map. The switches are those of
the published evaluation: zoom-in to the object from the second click on, and averaging with the mirrored image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import _weights
from baselines._hrnet import HRNet
from baselines._images import check_image, mask_plane

RADIUS = 5
THRESHOLD = 0.49
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OBJECT = 0.5  # probability from which a pixel counts for the zoom-in region
_REUSE = 0.5  # overlap with the new region from which the old one stays

Point = tuple[float, float, bool]
Region = tuple[int, int, int, int]
"""First and last row, first and last column, all inside."""


class Scale(nn.Module):
    """Multiplies by the magnitude of one learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.05))

    def forward(self, x: Tensor) -> Tensor:
        """Return |scale| x."""
        return self.scale.abs() * x


class RitmNet(nn.Module):
    """The network, with the parameter names of the released checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.maps_transform = nn.Sequential(nn.Conv2d(3, 16, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 64, 3, 2, 1), Scale())
        self.feature_extractor = HRNet()

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        """Return logits (B, 1, H, W).

        Args:
            image: (B, 3, H, W) RGB in 0..1.
            maps: (B, 3, H, W): last probabilities, positive discs, negative discs.
        """
        mean, std = image.new_tensor(MEAN).view(3, 1, 1), image.new_tensor(STD).view(3, 1, 1)
        logits, _ = self.feature_extractor((image - mean) / std, self.maps_transform(maps))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)


def draw_discs(points: Sequence[Point], height: int, width: int) -> Tensor:
    """Return (2, height, width) discs of radius 5 around (row, column, positive), positive first; centres unrounded."""
    rows = torch.arange(height, dtype=torch.float32)[:, None]
    columns = torch.arange(width, dtype=torch.float32)
    maps = torch.zeros(2, height, width)
    for y, x, positive in points:
        disc = (rows - y) ** 2 + (columns - x) ** 2 <= RADIUS**2
        maps[0 if positive else 1][disc] = 1.0
    return maps


@dataclass(frozen=True)
class Embedding:
    """The image (1, 3, H, W) in 0..1: there is nothing else to keep."""

    image: Tensor


class Ritm:
    """Segmenter: RITM with the HRNet18s backbone.

    Args:
        weights: a released .pth or a saved .safetensors file; None for seeded random values.
        zoom_in: from the second click on, run on a crop around the object.
        flip: average the logits of the image and the mirrored image.
        target_size: longer side of the crop in the network (the published evaluation takes 600 on DAVIS).
        expansion: of the object's bounding box.
        min_crop: least side of the crop in image pixels.
        seed: of random weights.
    """

    threshold = THRESHOLD

    def __init__(
        self,
        weights: str | None = None,
        zoom_in: bool = True,
        flip: bool = True,
        target_size: int = 400,
        expansion: float = 1.4,
        min_crop: int = 200,
        seed: int = 0,
    ) -> None:
        if target_size < 32:
            raise ValueError(f"ritm target_size={target_size}: at least 32 pixels (400; 600 on DAVIS)")
        if expansion < 1 or min_crop < 1:
            raise ValueError(f"ritm expansion={expansion}, min_crop={min_crop}: both must be 1 or more")
        self.zoom_in, self.flip = bool(zoom_in), bool(flip)
        self.target_size, self.expansion, self.min_crop = target_size, expansion, min_crop
        module, self.weights_status = _weights.prepare(
            RitmNet, weights, seed, "RITM HRNet18s", {"scale": lambda shape, _: torch.full(shape, 0.05)}
        )
        assert isinstance(module, RitmNet)
        self.module = module
        self.parameters = _weights.count(module)
        self.weights_digest = _weights.digest(module)
        self.encoder_key = "ritm image"  # no network before the first click: all variants share it
        self.parts: dict[str, nn.Module] = {
            "clicks": module.maps_transform,
            "network": module.feature_extractor,
        }

    def save(self, path: str) -> None:
        """Write the weights to a .safetensors file that `weights` takes back."""
        _weights.save(self.module, path, self.weights_status)

    def encode(self, image: np.ndarray) -> Embedding:
        """Turn (H, W, 3) uint8 RGB into planes."""
        pixels = torch.from_numpy(np.ascontiguousarray(check_image(image)))
        return Embedding(pixels.permute(2, 0, 1)[None].float() / 255)

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Session:
    """One episode: its clicks, the last probabilities, and the region that the zoom-in holds on to."""

    def __init__(self, segmenter: Ritm, embedding: Embedding) -> None:
        self.segmenter, self.image = segmenter, embedding.image
        self.points: list[Point] = []
        self.previous = torch.zeros(1, 1, *self.image.shape[2:])
        self.region: Region | None = None

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 probabilities after a further (y, x, positive), or None to run again."""
        if click is not None:
            self.points.append((float(click[0]), float(click[1]), bool(click[2])))
        self._choose_region()
        if self.region is None:
            self.previous = torch.sigmoid(self._logits(self.image, self.previous, self.points))
        else:
            self._answer_in(self.region)
        return self.previous[0, 0].clone().numpy()

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        self.previous = mask_plane(mask)

    def _choose_region(self) -> None:
        owner = self.segmenter
        if not owner.zoom_in or len(self.points) < 2:
            return
        new = object_region(self.previous[0, 0] > _OBJECT, self.points, owner.expansion, owner.min_crop)
        if (
            new is None  # nothing to zoom in on: the whole image
            or self.region is None
            or not holds(self.region, self.points)
            or overlap(new, self.region) < _REUSE
        ):
            self.region = new

    def _answer_in(self, region: Region) -> None:
        top, bottom, left, right = region
        height, width = bottom - top + 1, right - left + 1
        scale = self.segmenter.target_size / max(height, width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        both = torch.cat([self.image, self.previous], dim=1)[:, :, top : bottom + 1, left : right + 1]
        both = F.interpolate(both, size, mode="bilinear", align_corners=True)
        points = [
            (size[0] * (y - top) / height, size[1] * (x - left) / width, positive) for y, x, positive in self.points
        ]
        inner = torch.sigmoid(self._logits(both[:, :3], both[:, 3:], points))
        inner = F.interpolate(inner, (height, width), mode="bilinear", align_corners=True)
        self.previous = torch.zeros_like(self.previous)
        self.previous[:, :, top : bottom + 1, left : right + 1] = inner

    def _logits(self, image: Tensor, previous: Tensor, points: Sequence[Point]) -> Tensor:
        height, width = image.shape[2:]
        maps = torch.cat([previous, draw_discs(points, height, width)[None]], dim=1)
        if not self.segmenter.flip:
            return self.segmenter.module(image, maps)
        mirrored = [(y, width - 1 - x, positive) for y, x, positive in points]
        other = torch.cat([previous.flip(3), draw_discs(mirrored, height, width)[None]], dim=1)
        logits = self.segmenter.module(torch.cat([image, image.flip(3)]), torch.cat([maps, other]))
        # Before the sigmoid, as the released evaluation does and protocols.md says; the model's own text says after it.
        return (logits[:1] + logits[1:].flip(3)) / 2


def object_region(mask: Tensor, points: Sequence[Point], expansion: float, least: int) -> Region | None:
    """Return the bounding box of a mask (H, W) and the positive clicks, expanded; None for an empty mask."""
    if not bool(mask.any()):
        return None
    limits = []
    for axis, size in enumerate(mask.shape):
        inside = torch.nonzero(mask.any(dim=1 - axis))[:, 0]
        at = [int(point[axis]) for point in points if point[2]]
        first, last = min([int(inside[0]), *at]), max([int(inside[-1]), *at])
        middle, half = (first + last) / 2, max(expansion * (last - first + 1), least) / 2
        limits.append((max(0, round(middle - half)), min(size - 1, round(middle + half))))
    (top, bottom), (left, right) = limits
    return top, bottom, left, right


def holds(region: Region, points: Sequence[Point]) -> bool:
    """Whether all positive clicks lie in a region; its last row and column do not count, as in the released code."""
    top, bottom, left, right = region
    return all(top <= y < bottom and left <= x < right for y, x, positive in points if positive)


def overlap(a: Region, b: Region) -> float:
    """Return the product of the two one-dimensional intersections over unions."""
    result = 1.0
    for i in (0, 2):
        common = max(0, min(a[i + 1], b[i + 1]) - max(a[i], b[i]) + 1)
        result *= common / (max(a[i + 1], b[i + 1]) - min(a[i], b[i]) + 1)
    return result
