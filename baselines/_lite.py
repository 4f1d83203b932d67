"""What the two lite baselines share: the encoder of Inter2Former-lite, image frames, weights and the training loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import _weights
from baselines._images import MEAN, STD, bilinear, normalised, pad_to, up_to_multiple

DIM = 96
"""Width of the tokens, as in Inter2Former-lite."""
PATCH = 16
DIVISOR = 32
IGNORE = 255


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the input: padded to multiples of 32 or, with a target size, to a square that is resized.

    Attributes:
        height, width: of the image.
        padded: height and width after padding.
        size: height and width of the network's input.
    """

    height: int
    width: int
    padded: tuple[int, int]
    size: tuple[int, int]

    def to_input(self, y: float, x: float) -> tuple[int, int]:
        """Return the input pixel (row, column) of an image pixel."""
        return int(y * self.size[0] / self.padded[0]), int(x * self.size[1] / self.padded[1])

    def restore(self, logits: Tensor) -> np.ndarray:
        """Return (H, W) float32 scores of logits (1, 1, h, w) that cover the input at any resolution."""
        whole = bilinear(bilinear(logits, *self.size), *self.padded)
        return whole[0, 0, : self.height, : self.width].clone().numpy()


def prepare(image: np.ndarray, target_size: int | None) -> tuple[Tensor, Frame]:
    """Return the network's input (1, 3, h, w) for an (H, W, 3) uint8 RGB image, and its frame."""
    planes = normalised(image)
    height, width = planes.shape[2:]
    padded = up_to_multiple(height, DIVISOR), up_to_multiple(width, DIVISOR)
    if target_size is None:
        return pad_to(planes, *padded), Frame(height, width, padded, padded)
    square = max(padded), max(padded)
    size = target_size, target_size
    return bilinear(pad_to(planes, *square), *size), Frame(height, width, square, size)


def check_target_size(target_size: int | None) -> int | None:
    """Return a target size that the encoder takes.

    Raises:
        ValueError: it is not a positive multiple of 32.
    """
    if target_size is not None and (target_size < DIVISOR or target_size % DIVISOR):
        raise ValueError(f"target_size={target_size}: choose a multiple of {DIVISOR}, or null for the image's own size")
    return target_size


def build(
    make: Callable[[], nn.Module],
    weights: str | None,
    seed: int,
    name: str,
    initial: Mapping[str, _weights.Initial],
) -> tuple[nn.Module, str]:
    """Return a lite network in eval mode and its weights status.

    The encoder is the first to draw from the seed, so it starts from the values of Inter2Former-lite's. A weight
    file may lack the pretrained trunk, which comes with its package.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
    for part, child in module.named_children():
        if part != "backbone":
            _weights.initialise(child, seed, initial)
    status = _weights.UNTRAINED
    if weights is not None:
        state, status = _weights.read(weights, name)
        _weights.load(module, state, Path(weights), name, optional="backbone.trunk.")
    return module.eval(), status


def training_images(images: Tensor) -> Tensor:
    """Return normalised images of (B, 3, H, W) RGB in 0..255."""
    mean, std = (images.new_tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (MEAN, STD))
    return (images.float() - mean) / std


def normalised_focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Return the normalised focal loss of logits (B, 1, H, W); target of 1, 0 and 255 (ignored).

    The weights (1 - p_t)^gamma are scaled per image to a mean of 1 over its valid pixels, without gradient; then
    the mean over all valid pixels is taken (inter2former.md section 8).
    """
    valid = target != IGNORE
    positive = target == 1
    margin = torch.where(positive, logits, -logits)
    modulation = torch.sigmoid(-margin).pow(gamma) * valid
    count = valid.sum((1, 2, 3))
    scale = (count / modulation.sum((1, 2, 3)).clamp_min(1e-12)).detach()
    weight = torch.where(positive, alpha, 1 - alpha)
    loss = -(weight * modulation * F.logsigmoid(margin)).sum((1, 2, 3))
    return (loss * scale).sum() / count.sum().clamp_min(1)
