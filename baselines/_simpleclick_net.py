"""SimpleClick's network: ViT over image + clicks, a four-level neck and a light head, with the released names.

A map of n tokens is kept as (n, C) rows. The ViT attends in windows and, in the last block of each group, over
all tokens; windows come one after another, so that only the number of sequences differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._maps import one_group, run_level
from baselines._segmentation_head import ConvModule, join_levels
from baselines._vit import Block, PatchEmbed, unwindows, windows

TRAINED_SIZE = 448
_WINDOW_PIXELS = 224
"""Side of a window as configured; it only counts the windows, which then share the side evenly."""


@dataclass(frozen=True)
class Layout:
    """What tells one SimpleClick from another.

    Attributes:
        dim, depth, heads: of the ViT.
        patch: side of a token in pixels.
        levels: channels of the neck's levels at 4, 2, 1 and 1/2 times the grid of tokens.
        head: channels of the head.
    """

    dim: int
    depth: int
    heads: int
    patch: int
    levels: tuple[int, int, int, int]
    head: int

    @property
    def global_blocks(self) -> tuple[int, ...]:
        """Numbers from 0 of the blocks that attend over all tokens: the last of each group."""
        group = 6 if self.depth == 12 else self.depth // 4
        return tuple(range(group - 1, self.depth, group))

    def window(self, size: int) -> int:
        """Return the side of a window in tokens at a network size in pixels; ValueError where none fits."""
        side, count = size // self.patch, (size // self.patch) // (_WINDOW_PIXELS // self.patch)
        if count < 1 or side % count or size % (2 * self.patch):
            raise ValueError(
                f"simpleclick size={size}: {side} tokens of {self.patch} px a side do not divide into windows; "
                f"choose {TRAINED_SIZE}, or 672 as published on DAVIS"
            )
        return side // count


LAYOUTS = {
    "vit_b": Layout(768, 12, 12, 16, (128, 256, 512, 1024), 256),
    "vit_l": Layout(1024, 24, 16, 16, (192, 384, 768, 1536), 256),
    "vit_h": Layout(1280, 32, 16, 14, (240, 480, 960, 1920), 256),
    "vit_xtiny": Layout(160, 8, 4, 16, (96, 192, 288, 384), 128),
}


class Backbone(nn.Module):
    """Plain ViT with window and global attention, no class token and no final norm."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        dim, side = layout.dim, TRAINED_SIZE // layout.patch
        self.layout = layout
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))  # this, fc_norm and head: in every released file, unused
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2 + 1, dim))
        self.patch_embed = PatchEmbed(dim, layout.patch)
        self.blocks = nn.ModuleList(Block(dim, layout.heads, eps=1e-6) for _ in range(layout.depth))
        self.fc_norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 1000)
        self._table: tuple[tuple[Any, ...], Tensor] | None = None

    def positions(self, size: int) -> Tensor:
        """Return the position table (N, dim) for inputs of `size` pixels; resized once for each size and weights."""
        source = self.pos_embed
        key = (size, id(source), source._version, source.dtype, source.device)
        if self._table is None or self._table[0] != key:
            old, new = TRAINED_SIZE // self.layout.patch, size // self.layout.patch
            table = source.detach()[:, 1:]
            if new != old:
                planes = table.view(1, old, old, -1).permute(0, 3, 1, 2)
                planes = F.interpolate(planes, (new, new), mode="bicubic", align_corners=False)
                table = planes.flatten(2).transpose(1, 2)
            self._table = key, table[0].contiguous()
        return self._table[1]

    def forward(self, image: Tensor, prompt: Tensor) -> Tensor:
        """Return tokens (B * N, dim), row-major, of a normalised image (B, 3, S, S) and prompt tokens (B * N, dim)."""
        batch, side = image.shape[0], image.shape[3] // self.layout.patch
        window = self.layout.window(image.shape[3])
        x = self.patch_embed(image) + prompt
        x = (x.view(batch, -1, self.layout.dim) + self.positions(image.shape[3])).view(x.shape)
        x = windows(x, batch, side, window)
        for number, block in enumerate(self.blocks):
            # Attention does not see the order of its tokens, so global blocks run in window order too.
            x = block(x, batch if number in self.layout.global_blocks else batch * (side // window) ** 2)
        return unwindows(x, batch, side, window)


class Neck(nn.Module):
    """Four maps from the tokens, at 4, 2, 1 and 1/2 times their grid; names by the stride at a patch of 16."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        dim, (c0, c1, c2, c3) = layout.dim, layout.levels
        n0, n1, n3 = max(2 * c0, dim // 2), max(c1, dim // 2), max(c3, 2 * dim)
        self.down_4 = nn.Sequential(
            nn.ConvTranspose2d(dim, n0, 2, 2),
            one_group(n0),
            nn.GELU(),
            nn.ConvTranspose2d(n0, n0 // 2, 2, 2),
            one_group(n0 // 2),
            nn.Conv2d(n0 // 2, c0, 1),
            one_group(c0),
            nn.GELU(),
        )
        self.down_8 = nn.Sequential(
            nn.ConvTranspose2d(dim, n1, 2, 2), one_group(n1), nn.Conv2d(n1, c1, 1), one_group(c1), nn.GELU()
        )
        self.down_16 = nn.Sequential(nn.Conv2d(dim, c2, 1), one_group(c2), nn.GELU())
        self.down_32 = nn.Sequential(
            nn.Conv2d(dim, n3, 2, 2), one_group(n3), nn.Conv2d(n3, c3, 1), one_group(c3), nn.GELU()
        )

    def forward(self, x: Tensor, side: int) -> list[Tensor]:
        """Map tokens (B, side * side, dim) to four maps (B, h, w, C), finest first."""
        levels = (self.down_4, self.down_8, self.down_16, self.down_32)
        return [run_level(level, x, side, side) for level in levels]


def _upsampler(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(into, out, 2, 2), one_group(out), nn.Conv2d(out, out, 1), one_group(out))


class Head(nn.Module):
    """Joins the four levels at the finest and gives one logit per pixel of it."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        width = layout.head
        self.conv_seg = nn.Conv2d(width, 1, 1)
        self.convs = nn.ModuleList(ConvModule(channels, width) for channels in layout.levels)
        self.fusion_conv = ConvModule(4 * width, width)
        self.up_conv1 = _upsampler(width, width // 2)  # in every released file, not used by default
        self.up_conv2 = _upsampler(width // 2, width // 4)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map four maps (B, h, w, C), finest first, to logits (B, 1, h_0, w_0)."""
        return join_levels(levels, self.convs, self.fusion_conv, self.conv_seg)


class SimpleClickNet(nn.Module):
    """The network, with the parameter names of the released checkpoints."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.patch_embed_coords = PatchEmbed(layout.dim, layout.patch)
        self.backbone = Backbone(layout)
        self.neck = Neck(layout)
        self.head = Head(layout)

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        """Return logits (B, 1, S, S).

        Args:
            image: (B, 3, S, S), normalised RGB.
            maps: (B, 3, S, S): last probabilities, positive discs, negative discs.
        """
        side = image.shape[3] // self.backbone.layout.patch
        x = self.backbone(image, self.patch_embed_coords(maps))
        logits = self.head(self.neck(x.view(image.shape[0], side**2, -1), side))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)
