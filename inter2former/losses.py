"""Losses of training: normalised focal loss on masks, commitment loss on quantised keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

COMMITMENT = 0.25
IGNORE = 255


def commitment_loss(code: Tensor, quantised: Tensor) -> Tensor:
    """Return 0.25 times the mean squared distance to the quantised value, which gets no gradient."""
    return COMMITMENT * F.mse_loss(code, quantised.detach())


def normalised_focal_loss(
    logits: Tensor, target: Tensor, alpha: float = 0.5, gamma: float = 2.0, eps: float = 1e-12
) -> Tensor:
    """Return the normalised focal loss: focal loss whose weights sum to one per valid pixel in each image.

    With p_t the probability of the right class, a pixel's loss is -alpha_t (1 - p_t)^gamma log p_t, scaled
    per image by (valid pixels) / (sum of (1 - p_t)^gamma); the scale gets no gradient. alpha_t is alpha for
    the object and 1 - alpha for the background. Returns the mean over all valid pixels, 0 if there are none.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W), 1 object, 0 background, 255 ignored.
    """
    valid = target != IGNORE
    positive = target == 1
    margin = torch.where(positive, logits, -logits)
    modulation = torch.sigmoid(-margin).pow(gamma) * valid
    weight = torch.where(positive, alpha, 1 - alpha)
    dims = tuple(range(1, logits.dim()))
    count = valid.sum(dims)
    scale = (count / modulation.sum(dims).clamp_min(eps)).detach()
    pixel = -weight * modulation * F.logsigmoid(margin)
    return (pixel.sum(dims) * scale).sum() / count.sum().clamp_min(1)


def coarse_target(target: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the target of the coarse mask, (B, 1, h, w): 1 where a token holds object, else 255 or 0."""
    objects = F.adaptive_max_pool2d((target == 1).float(), grid)
    ignored = F.adaptive_max_pool2d((target == IGNORE).float(), grid)
    return torch.where(objects > 0, 1.0, torch.where(ignored > 0, float(IGNORE), 0.0))
