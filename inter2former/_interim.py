"""Interim stand-ins until the input preparation and the lite encoder are in place; removed then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.inputs import MEAN, STD


class Point(NamedTuple):
    y: int
    x: int
    positive: bool


@dataclass(frozen=True)
class Prepared:
    tensor: Tensor
    height: int
    width: int
    side: int | None = None

    def to_network(self, click):
        if not (0 <= click.y < self.height and 0 <= click.x < self.width):
            raise ValueError(f"click ({click.y}, {click.x}) lies outside the image of {self.height}x{self.width}")
        if self.side is None:
            return Point(click.y, click.x, click.positive)
        scale = self.tensor.shape[-1] / self.side
        return Point(int(scale * click.y), int(scale * click.x), click.positive)

    def to_image(self, logits):
        if self.side is not None and self.side != logits.shape[-1]:
            logits = F.interpolate(logits, (self.side, self.side), mode="bilinear")
        return logits[0, 0, : self.height, : self.width].numpy()


def prepare(image, channels, target_size):
    height, width = image.shape[:2]
    x = (torch.from_numpy(np.ascontiguousarray(image)).float() - torch.tensor(MEAN)) / torch.tensor(STD)
    x = x.permute(2, 0, 1)[None]
    x = F.pad(x, (0, -width % 256, 0, -height % 256))
    side = None
    if target_size is not None:
        side = max(x.shape[-2:])
        x = F.pad(x, (0, side - x.shape[-1], 0, side - x.shape[-2]))
        x = F.interpolate(x, (target_size, target_size), mode="bilinear")
    return Prepared(x.contiguous(), height, width, side)


class LiteEncoder(nn.Module):
    def __init__(self, dim, precision="fp32"):
        super().__init__()
        layers, before = [], 3
        for width in (16, 32, 64, dim):
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)
