"""Feature maps kept as pixels x channels: one-group norms, resizing and the four-level pyramid.

A map (B, h * w, C) with the channels last turns 1x1 convolutions, 2x2 transposed convolutions and 2x2
convolutions of stride 2 into plain matrix products. After a transposed convolution the pixels stay nested (parent
pixel, then its 2x2 children) until the end, since nothing in between looks at a pixel's neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def group_affine(norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and shift (B, C) of a one-group norm of x (B, pixels, C): norm(x) = x * scale + shift.

    `nn.GroupNorm` loses its statistics on large channels-last maps (relative error 3e-4 at 1024x1024); here
    rows are summed in float32 and the rows' sums in float64.
    """
    x = x.float() if x.dtype == torch.bfloat16 else x
    size = x.shape[1] * x.shape[2]
    mean = x.sum(dim=2).sum(dim=1, dtype=torch.float64) / size
    square = torch.linalg.vector_norm(x, dim=2).double().square().sum(dim=1) / size
    deviation = ((square - mean.square()).clamp_min(0.0) + norm.eps).rsqrt()
    scale = norm.weight * deviation[:, None]
    shift = norm.bias - mean[:, None] * scale
    return scale.to(x.dtype), shift.to(x.dtype)


def group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Return the one-group norm of x (B, pixels, C)."""
    scale, shift = group_affine(norm, x)
    return torch.addcmul(shift[:, None].to(x.dtype), x, scale[:, None].to(x.dtype))


def group_norm_linear(norm: nn.GroupNorm, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return norm(x) @ weight.T + bias for x (B, pixels, C), weight (D, C), bias (D,), with the norm folded in."""
    scale, shift = group_affine(norm, x)
    assert bias is not None
    folded = weight.T * scale[:, :, None]
    return torch.baddbmm((bias + shift @ weight.T)[:, None], x, folded)


def one_group(channels: int) -> nn.GroupNorm:
    """Return the norm over all channels and pixels of a sample."""
    return nn.GroupNorm(1, channels)


def pyramid_levels(dim: int, widths: tuple[int, int, int, int]) -> list[nn.Sequential]:
    """Return the layers of four levels (strides 4, 8, 16, 32) from a map of stride 16 with `dim` channels.

    The layers hold the weights, with the names of the released checkpoints; `run_level` computes.
    """
    half, quarter = dim // 2, dim // 4
    return [
        nn.Sequential(
            nn.ConvTranspose2d(dim, half, 2, 2),
            one_group(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2),
            one_group(quarter),
            nn.Conv2d(quarter, widths[0], 1),
            one_group(widths[0]),
            nn.GELU(),
        ),
        nn.Sequential(
            nn.ConvTranspose2d(dim, half, 2, 2),
            one_group(half),
            nn.Conv2d(half, widths[1], 1),
            one_group(widths[1]),
            nn.GELU(),
        ),
        nn.Sequential(nn.Conv2d(dim, widths[2], 1), one_group(widths[2]), nn.GELU()),
        nn.Sequential(
            nn.Conv2d(dim, 2 * dim, 2, 2),
            one_group(2 * dim),
            nn.Conv2d(2 * dim, widths[3], 1),
            one_group(widths[3]),
            nn.GELU(),
        ),
    ]


def run_level(layers: nn.Sequential, x: Tensor, height: int, width: int) -> Tensor:
    """Run one pyramid level on x (B, height * width, dim) -> (B, height', width', channels)."""
    batch = x.shape[0]
    doublings = 0
    norm: nn.GroupNorm | None = None
    for layer in layers:
        if isinstance(layer, nn.GroupNorm):
            norm = layer
        elif isinstance(layer, nn.GELU):
            assert norm is not None
            x, norm = F.gelu(group_norm(norm, x)), None
        elif isinstance(layer, nn.ConvTranspose2d):
            assert layer.bias is not None
            weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
            x = F.linear(x, weight, layer.bias.repeat(4)).view(batch, -1, layer.out_channels)
            doublings += 1
        elif isinstance(layer, nn.Conv2d):
            if layer.kernel_size == (2, 2):
                x = x.view(batch, height // 2, 2, width // 2, 2, -1).transpose(2, 3)
                height, width = height // 2, width // 2
                x = x.reshape(batch, height * width, -1)
            weight = layer.weight.permute(0, 2, 3, 1).flatten(1)
            if norm is None:
                x = F.linear(x, weight, layer.bias)
            else:
                x, norm = group_norm_linear(norm, x, weight, layer.bias), None
    return unnest(x, height, width, doublings)


def unnest(x: Tensor, height: int, width: int, doublings: int) -> Tensor:
    """Bring (B, height * width * 4 ** doublings, C) from nested to row-major order, as a map."""
    shape = [x.shape[0], height, width, *([2, 2] * doublings), x.shape[2]]
    rows = [1, *range(3, 3 + 2 * doublings, 2)]
    columns = [2, *range(4, 4 + 2 * doublings, 2)]
    nested = x.view(shape).permute(0, *rows, *columns, len(shape) - 1)
    return nested.reshape(x.shape[0], height * 2**doublings, width * 2**doublings, -1)


def nest(x: Tensor, doublings: int) -> Tensor:
    """Bring a map (B, h, w, C) into nested order: (B, h * w, C), the way back of `run_level`'s last step."""
    batch, height, width, channels = x.shape
    twos = [2] * doublings
    x = x.reshape(batch, height >> doublings, *twos, width >> doublings, *twos, channels)
    pairs = [axis for number in range(doublings) for axis in (2 + number, 3 + doublings + number)]
    return x.permute(0, 1, 2 + doublings, *pairs, x.ndim - 1).reshape(batch, height * width, channels)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Resize a map (B, h, w, C) bilinearly, without antialiasing."""
    if x.shape[1:3] == (height, width):
        return x
    out = F.interpolate(x.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False)
    return out.permute(0, 2, 3, 1)
