"""CannyNet: edge maps at four scales, once per image, that give the upsampled mask its sharp borders.

Canny's operator, without hysteresis, gives five maps (gradient magnitude, its orientation, and three thinnings); a
small residual network turns them into features at strides 1, 2, 4 and 8.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.convolution import MIN_WINOGRAD_CHANNELS, Conv3x3, can_reuse_memory
from inter2former.inputs import MEAN, STD
from inter2former.winograd import Winograd

THRESHOLD = 2.0
"""Magnitudes below it are dropped from the last two maps."""
_SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
_CLOCKWISE = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))


class CannyMaps(NamedTuple):
    """The five maps, each (B, H, W): magnitude, orientation in degrees (multiples of 45 in [0, 360]),
    thinned magnitude, thinned and thresholded, only thresholded."""

    magnitude: Tensor
    orientation: Tensor
    thin: Tensor
    thresholded: Tensor
    early: Tensor


def _fixed_filter(values: Tensor) -> nn.Module:
    """Return a module holding one constant `weight`, under the name that the released checkpoint has for
    it."""
    module = nn.Module()
    module.weight = nn.Parameter(values, requires_grad=False)
    return module


def _weighted_sum(padded: Tensor, taps: list[tuple[int, int, float]]) -> Tensor:
    """Return the sum of `tap * padded[..., i:, j:]` over taps (i, j, tap), each cut to the size of the last.

    One fused multiply-add per tap, in row-major order: what a direct convolution does. The order matters, since a
    gradient within rounding of two octants moves the orientation map by 45 degrees.
    """
    bottom, right = max(i for i, _, _ in taps), max(j for _, j, _ in taps)
    height, width = padded.shape[-2] - bottom, padded.shape[-1] - right
    (i, j, tap), *rest = taps
    total = padded[..., i : i + height, j : j + width] * tap
    for i, j, tap in rest:
        total.add_(padded[..., i : i + height, j : j + width], alpha=tap)
    return total


def _neighbours(x: Tensor, dy: int, dx: int) -> Tensor:
    """Return the neighbours of x (B, H + 2, W + 2), padded by one, in direction (dy, dx): (B, H, W)."""
    return x[:, 1 + dy : x.shape[1] - 1 + dy, 1 + dx : x.shape[2] - 1 + dx]


class Canny(nn.Module):
    """Canny's edge operator on a normalised RGB image.

    The filters are constants; they are entries of the state dict since the released checkpoint lists them.
    """

    def __init__(self) -> None:
        super().__init__()
        taps = torch.exp(-0.5 * torch.arange(-2.0, 3.0, dtype=torch.float64) ** 2)
        taps = (taps / taps.sum()).float()
        sobel = torch.tensor(_SOBEL)
        differences = torch.zeros(8, 1, 3, 3)
        differences[:, 0, 1, 1] = 1.0
        for direction, (dy, dx) in enumerate(_CLOCKWISE):
            differences[direction, 0, 1 + dy, 1 + dx] = -1.0
        self.g_h = _fixed_filter(taps.view(1, 1, 1, 5))
        self.g_v = _fixed_filter(taps.view(1, 1, 5, 1))
        self.sobh = _fixed_filter(sobel.view(1, 1, 3, 3))
        self.sobv = _fixed_filter(sobel.T.reshape(1, 1, 3, 3).clone())
        self.dirf = _fixed_filter(differences)
        self._taps: list[float] = taps.tolist()

    def blur(self, x: Tensor) -> Tensor:
        """Undo the normalisation of x (B, 3, H, W), bring it to [0, 1] and blur it; zeros lie outside."""
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        image = x.mul(std).add_(mean).div_(255.0).clamp_(0.0, 1.0)
        across = _weighted_sum(F.pad(image, (2, 2)), [(0, k, tap) for k, tap in enumerate(self._taps)])
        return _weighted_sum(F.pad(across, (0, 0, 2, 2)), [(k, 0, tap) for k, tap in enumerate(self._taps)])

    def gradients(self, blurred: Tensor) -> tuple[Tensor, Tensor]:
        """Return Sobel's two gradients (B, 3, H, W) of a blurred image: left minus right, upper minus
        lower."""
        padded = F.pad(blurred, (1, 1, 1, 1))
        taps = [(i, j, tap) for i, row in enumerate(_SOBEL) for j, tap in enumerate(row) if tap]
        turned = sorted((j, i, tap) for i, j, tap in taps)
        return _weighted_sum(padded, taps), _weighted_sum(padded, turned)

    @torch.no_grad()
    def forward(self, x: Tensor) -> CannyMaps:
        """Compute the maps of a normalised image (B, 3, H, W)."""
        across, down = self.gradients(self.blur(x))
        angle = torch.atan2(down.sum(1), across.sum(1))
        magnitude = across.square_().add_(down.square_()).sqrt_().sum(1)
        octant = angle.mul_(180.0 / math.pi).add_(180.0).div_(45.0).round_()
        # A pixel is kept when it is above both neighbours along its gradient; opposite octants share the
        # pair.
        padded = F.pad(magnitude, (1, 1, 1, 1))
        axis = octant.remainder(4.0)
        highest: Tensor | None = None
        for number, (dy, dx) in enumerate(_CLOCKWISE[:4]):
            pair = torch.maximum(_neighbours(padded, dy, dx), _neighbours(padded, -dy, -dx))
            highest = pair if highest is None else torch.where(axis == number, pair, highest)
        assert highest is not None
        thin = magnitude * (magnitude > highest)
        return CannyMaps(
            magnitude,
            octant.mul_(45.0),
            thin,
            thin * (thin >= THRESHOLD),
            magnitude * (magnitude >= THRESHOLD),
        )


def stack_maps(maps: CannyMaps) -> Tensor:
    """Return the maps, each divided by its L2 norm over all pixels, as (B, 5, H, W) in channels-last memory.

    Values shrink with the image (1 / sqrt(H W)): the released network was trained so.
    """
    stacked = torch.stack(maps, dim=-1)
    # PyTorch's float32 norm of the large orientation values is 2.5e-4 too small at a million pixels. The
    # released network
    # has always seen that, and the goldens hold it to 1e-4, so the sum is not made more exact here.
    norms = [torch.linalg.vector_norm(m.flatten(1), dim=-1) for m in maps]
    return stacked.div_(torch.stack(norms, dim=-1).clamp_min(1e-12)[:, None, None]).permute(0, 3, 1, 2)


class NormSiLU(nn.Module):
    """GroupNorm with one group, then SiLU.

    Takes its own statistics: `nn.GroupNorm` on channels-last maps loses four digits at a million pixels.
    """

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) in channels-last memory to the same shape; into `out` if given, which may be x."""
        batch, _, height, width = x.shape
        # Rows of W * C values: long enough for fast loops, short enough for exact float32 sums.
        rows = x.permute(0, 2, 3, 1).reshape(batch, height, -1)
        mean = rows.mean(-1).double().mean(1).to(x.dtype)[:, None, None]
        target = None if out is None else out.permute(0, 2, 3, 1).view(batch, height, -1)
        centred = torch.sub(rows, mean, out=target)
        variance = torch.linalg.vector_norm(centred, dim=-1).double().square().mean(1) / rows.shape[2]
        scale = (variance + self.eps).rsqrt().to(x.dtype)[:, None] * self.weight
        scale, shift = scale.repeat(1, width)[:, None], self.bias.repeat(width)
        result = torch.addcmul(shift, centred, scale, out=target)
        result = F.silu(result, inplace=target is not None)
        return result.view(batch, height, width, -1).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = NormSiLU(channels)
        self.conv1 = Conv3x3(channels, channels)
        self.norm2 = NormSiLU(channels)
        self.conv2 = Conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.conv2(self.norm2(self.conv1(self.norm1(x))))

    def update(self, x: Tensor, buffers: tuple[Tensor, Tensor], scratch: Winograd | None) -> None:
        """Replace x (B, C, H, W), channels-last, by the block's result; buffers of its shape are
        overwritten."""
        first, second = buffers
        self.conv1.write(self.norm1(x, out=first), second, scratch)
        self.conv2.add(self.norm2(second, out=second), x, scratch)


class CannyNet(nn.Module):
    """Edge detector: normalised image (B, 3, H, W) -> four maps, coarsest first.

    Args:
        widths: channels of the outputs at strides 8, 4, 2, 1.
        blocks: residual blocks at each stride.

    State-dict names are those of the released checkpoint's `edge_detector.`. Output layers start at zero, as in the
    paper: a fresh detector leaves the upsampling as it is.
    """

    def __init__(self, widths: tuple[int, ...] = (256, 64, 16, 4), blocks: int = 4) -> None:
        super().__init__()
        self.widths = levels = tuple(reversed(widths))
        self.canny = Canny()
        self.conv1 = Conv3x3(len(CannyMaps._fields), levels[0])
        self.block_list = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(blocks))) for width in levels
        )
        laterals = [nn.Conv2d(width, width, 1) for width in levels]
        self.lateral_convs = nn.ModuleList(laterals)
        self.downsamplers = nn.ModuleList(Conv3x3(fine, coarse, stride=2) for fine, coarse in pairwise(levels))
        for lateral in laterals:
            for parameter in lateral.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return maps (B, width, H / stride, W / stride) at strides 8, 4, 2, 1; H and W multiples of 8."""
        if x.dim() != 4 or x.shape[1] != 3 or x.shape[2] % 8 or x.shape[3] % 8:
            raise ValueError(f"image of shape {tuple(x.shape)}: need (B, 3, H, W), H and W multiples of 8")
        stack = stack_maps(self.canny(x))
        return self._forward_in_buffers(stack) if can_reuse_memory(x) else self._forward(stack)

    def _forward(self, stack: Tensor) -> list[Tensor]:
        features = self.conv1(stack)
        outputs: list[Tensor] = []
        for level, (blocks, lateral) in enumerate(zip(self.block_list, self.lateral_convs, strict=True)):
            features = blocks(features)
            outputs.insert(0, lateral(features))
            if level < len(self.downsamplers):
                features = self.downsamplers[level](features)
        return outputs

    def _forward_in_buffers(self, stack: Tensor) -> list[Tensor]:
        """Do the same in three buffers, each large enough for any level."""
        batch, _, height, width = stack.shape
        shapes = [(batch, height >> level, width >> level, channels) for level, channels in enumerate(self.widths)]
        memory = [stack.new_empty(max(map(math.prod, shapes))) for _ in range(3)]
        previous = stack
        outputs: list[Tensor] = []
        enters = [self.conv1, *self.downsamplers]
        for shape, enter, blocks, lateral in zip(shapes, enters, self.block_list, self.lateral_convs, strict=True):
            views = [part[: math.prod(shape)].view(shape).permute(0, 3, 1, 2) for part in memory]
            features, first, second = views
            assert isinstance(enter, Conv3x3)
            enter.write(previous, features)
            channels = shape[3]
            scratch = Winograd(shape[1], shape[2], channels) if channels >= MIN_WINOGRAD_CHANNELS else None
            for block in blocks.children():
                assert isinstance(block, ResidualBlock)
                block.update(features, (first, second), scratch)
            outputs.insert(0, lateral(features))
            previous = features
            memory = [memory[1], memory[0], memory[2]]
        return outputs
