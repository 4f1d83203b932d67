"""InterFormer's I-MSA neck and UPerHead: what runs at every click."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._maps import group_norm, group_norm_linear, one_group, resize

WIDTHS = (32, 64, 128, 256)
BLOCKS = (1, 1, 2, 1)
EXPANSIONS = (8, 8, 4, 4)
HEAD_WIDTH = 32
RATIOS = ((12, 16, 20, 24), (6, 8, 10, 12), (3, 4, 5, 6), (1, 2, 3, 4))
TRAINING_SIDES = (128, 64, 32, 16)
"""Grid sides at the training size 512; they fix the pooled sizes for every image."""
HEAD_CHANNELS = 64
POOLED_SIDES = (1, 2, 3, 6)


def pooled_size(size: int, ratio: int, training_side: int) -> int:
    """Return the pooled side of a grid side; Python's round, half to even, as the official code does."""
    if ratio == 1:
        return size
    return round(size / round(size / min(training_side / ratio, size)))


def as_planes(x: Tensor) -> Tensor:
    """View a map (B, h, w, C) as (B, C, h, w)."""
    return x.permute(0, 3, 1, 2)


class PooledAttention(nn.Module):
    """Attention of every pixel to four poolings of a map."""

    def __init__(self, dim: int, stage: int) -> None:
        super().__init__()
        self.heads, self.stage = dim // HEAD_WIDTH, stage
        self.query_proj = nn.Linear(dim, dim)
        self.key_value_proj = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dconvs = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in RATIOS[stage])

    def pool(self, z: Tensor) -> Tensor:
        """Return the normalised tokens (B, keys, C) of the four poolings of a map z (B, h, w, C)."""
        planes = as_planes(z)
        height, width = planes.shape[2:]
        tokens = []
        for ratio, conv in zip(RATIOS[self.stage], self.dconvs, strict=True):
            side = TRAINING_SIDES[self.stage]
            size = (pooled_size(height, ratio, side), pooled_size(width, ratio, side))
            pooled = planes if size == (height, width) else F.adaptive_max_pool2d(planes, size)
            tokens.append((pooled + conv(pooled)).flatten(2).transpose(1, 2))
        return self.norm(torch.cat(tokens, dim=1))

    def forward(self, query: Tensor, pooled: Tensor) -> Tensor:
        """Attend from projected queries (B, pixels, C) to pooled tokens (B, keys, C)."""
        split = query.unflatten(2, (self.heads, HEAD_WIDTH)).transpose(1, 2)
        projected = self.key_value_proj(pooled)
        key, value = projected.unflatten(2, (2, self.heads, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(split, key, value)
        return self.proj(out.transpose(1, 2).flatten(2))


class ImsaBlock(nn.Module):
    """x += Attention(GN(x), GN(kv)); x += convolutional MLP of GN(x)."""

    def __init__(self, stage: int) -> None:
        super().__init__()
        dim = WIDTHS[stage]
        hidden = EXPANSIONS[stage] * dim
        self.norm1 = one_group(dim)
        self.norm_kv = one_group(dim)
        self.attn = PooledAttention(dim, stage)
        self.norm2 = one_group(dim)
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, hidden, 1),
            nn.Hardswish(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, dim, 1),
        )

    def pool(self, kv: Tensor) -> Tensor:
        """Return the tokens (B, keys, C) of a map (B, h, w, C) that the block attends to."""
        return self.attn.pool(group_norm(self.norm_kv, kv.flatten(1, 2)).view(kv.shape))

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Map x (B, h, w, C)."""
        shape, project = x.shape, self.attn.query_proj
        x = x.flatten(1, 2)
        x = x + self.attn(group_norm_linear(self.norm1, x, project.weight, project.bias), pooled)
        first, _, depthwise, _, last = self.mlp
        assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
        hidden = F.hardswish(group_norm_linear(self.norm2, x, first.weight.flatten(1), first.bias), inplace=True)
        hidden = depthwise(as_planes(hidden.view(*shape[:3], -1))).permute(0, 2, 3, 1)
        hidden = F.linear(F.hardswish(hidden, inplace=True), last.weight.flatten(1), last.bias)
        return x.view(shape) + hidden


class Downsample(nn.Module):
    """3x3 patches of stride 2, normalised and reduced."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(9 * dim)
        self.reduction = nn.Linear(9 * dim, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, h, w, C), h and w even, to (B, h / 2, w / 2, out)."""
        batch, height, width, _ = x.shape
        patches = F.unfold(as_planes(x), 3, padding=1, stride=2).transpose(1, 2)
        return self.reduction(self.norm(patches)).view(batch, -(-height // 2), -(-width // 2), -1)


class Stage(nn.Module):
    """Blocks of one level, and the way to the next."""

    def __init__(self, stage: int) -> None:
        super().__init__()
        self.blocks: Any = nn.ModuleList(ImsaBlock(stage) for _ in range(BLOCKS[stage]))
        if stage + 1 < len(WIDTHS):
            self.downsample = Downsample(WIDTHS[stage], WIDTHS[stage + 1])

    def forward(self, x: Tensor, stored: Tensor) -> Tensor:
        """Map x (B, h, w, C); the first block attends to the stored level, the others to their own input."""
        for number, block in enumerate(self.blocks):
            x = block(x, stored if number == 0 else block.pool(x))
        return x


class Neck(nn.Module):
    """Label embedding and the four I-MSA stages."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Parameter(torch.zeros(5, WIDTHS[0]))
        self.stages: Any = nn.ModuleList(Stage(stage) for stage in range(len(WIDTHS)))
        for stage, width in enumerate(WIDTHS):
            self.add_module(f"norm{stage}", one_group(width))

    def pool(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return the tokens that the first block of each stage attends to: they depend on the image alone."""
        return [stage.blocks[0].pool(level) for stage, level in zip(self.stages, pyramid, strict=True)]

    def embed_labels(self, labels: Tensor) -> Tensor:
        """Embed labels (B, H, W) at stride 4: (B, H / 4, W / 4, 32).

        Bilinear reduction by 4 of the full-size embedding is the mean over the pixels 4i + 1 and 4i + 2.
        """
        table, indices = self.patch_embed, labels.int()
        corners = [indices[:, i::4, j::4] for i in (1, 2) for j in (1, 2)]
        total = F.embedding(corners[0], table)
        for corner in corners[1:]:
            total = total + F.embedding(corner, table)
        return total * 0.25

    def forward(self, level: Tensor, stored: Sequence[Tensor], labels: Tensor) -> list[Tensor]:
        """Return four maps (B, h, w, C) from pyramid level 0, the stored tokens, and labels (B, H, W)."""
        x = level + self.embed_labels(labels)
        outputs = []
        for number, (stage, pooled) in enumerate(zip(self.stages, stored, strict=True)):
            x = stage(x, pooled)
            norm = self.get_submodule(f"norm{number}")
            assert isinstance(norm, nn.GroupNorm)
            outputs.append(group_norm(norm, x.flatten(1, 2)).view(x.shape))
            if number + 1 < len(WIDTHS):
                x = stage.downsample(x)
        return outputs


class ConvModule(nn.Module):
    """Convolution without bias, batch norm by running statistics, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, h, w, C) with the norm folded into the convolution."""
        running_mean, running_var = self.bn.running_mean, self.bn.running_var
        assert running_mean is not None and running_var is not None
        scale = self.bn.weight * (running_var + self.bn.eps).rsqrt()
        weight = self.conv.weight * scale[:, None, None, None]
        bias = self.bn.bias - running_mean * scale
        padding = self.conv.kernel_size[0] // 2
        return F.relu(F.conv2d(as_planes(x), weight, bias, padding=padding)).permute(0, 2, 3, 1)


class UPerHead(nn.Module):
    """Pyramid pooling, top-down path and fusion at stride 4, with 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        channels, deepest = HEAD_CHANNELS, WIDTHS[-1]
        self.conv_seg = nn.Conv2d(channels, 2, 1)
        self.psp_modules: Any = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), ConvModule(deepest, channels, 1)) for side in POOLED_SIDES
        )
        self.bottleneck = ConvModule(deepest + len(POOLED_SIDES) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(width, channels, 1) for width in WIDTHS[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in WIDTHS[:-1])
        self.fpn_bottleneck = ConvModule(len(WIDTHS) * channels, channels, 3)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map four maps (B, h, w, C), finest first, to logits (B, 2, h_0, w_0) of background and object."""
        deepest = levels[-1]
        pooled = [deepest]
        for side, module in zip(POOLED_SIDES, self.psp_modules, strict=True):
            means = F.adaptive_avg_pool2d(as_planes(deepest), side).permute(0, 2, 3, 1)
            pooled.append(resize(module[1](means), *deepest.shape[1:3]))
        maps = [conv(level) for conv, level in zip(self.lateral_convs, levels[:-1], strict=True)]
        maps.append(self.bottleneck(torch.cat(pooled, dim=3)))
        for number in range(len(maps) - 1, 0, -1):
            maps[number - 1] = maps[number - 1] + resize(maps[number], *maps[number - 1].shape[1:3])
        size = maps[0].shape[1:3]
        joined = [conv(x) for conv, x in zip(self.fpn_convs, maps[:-1], strict=True)] + maps[-1:]
        fused = self.fpn_bottleneck(torch.cat([resize(x, *size) for x in joined], dim=3))
        return as_planes(F.linear(fused, self.conv_seg.weight.flatten(1), self.conv_seg.bias))


class AuxiliaryHead(nn.Module):
    """A training head, kept so that released files load strictly; never run here."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(HEAD_CHANNELS, 2, 1)
        self.convs = nn.ModuleList([ConvModule(WIDTHS[2], HEAD_CHANNELS, 3)])
