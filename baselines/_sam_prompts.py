"""SAM's prompt encoder for any grid: clicks become tokens, the last logits a dense map.

Its parts have the names of HRSAM's checkpoints, or those of SAM's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines._images import bilinear

TABLE_SIDE = 64
"""HRSAM computes the grid code for this grid and resizes it to others."""


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, h, w), eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, h, w)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def last(self, x: Tensor) -> Tensor:
        """Normalise x (…, C)."""
        return super().forward(x)


def sam_neck(width: int, out: int = 256) -> nn.Sequential:
    """Return what follows an image encoder of SAM's kind: (B, width, h, w) -> (B, out, h, w)."""
    return nn.Sequential(
        nn.Conv2d(width, out, 1, bias=False),
        LayerNorm2d(out),
        nn.Conv2d(out, out, 3, padding=1, bias=False),
        LayerNorm2d(out),
    )


class PositionCode(nn.Module):
    """Random Fourier features of points in the unit square."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(2, dim // 2))

    def forward(self, points: Tensor) -> Tensor:
        """Encode (x, y) in [0, 1], (..., 2) -> (..., dim)."""
        matrix = self.get_buffer("positional_encoding_gaussian_matrix")
        turns = 2.0 * math.pi * ((2.0 * points - 1.0) @ matrix)
        return torch.cat([turns.sin(), turns.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """Return the code (1, dim, height, width) of a grid's cell centres."""
        like = self.get_buffer("positional_encoding_gaussian_matrix")
        rows, columns = ((torch.arange(n, device=like.device) + 0.5) / n for n in (height, width))
        points = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], dim=-1)
        return self(points.to(like.dtype)).permute(2, 0, 1)[None].contiguous()


class PromptEncoder(nn.Module):
    """Clicks to sparse tokens, previous logits to a dense map.

    Args:
        dim: channels of tokens and map.
        kinds: of points: negative, positive and, in released files, two box corners, which clicks have no use for.
        code, points: names of the position code and of the points' embeddings in the checkpoints; SAM's are
            "pe_layer" and "point_embeddings".
        table: side of the grid whose position code is resized to others; None computes it for every grid.
    """

    def __init__(
        self,
        dim: int = 256,
        kinds: int = 4,
        code: str = "pos_embed_layer",
        points: str = "point_embeds",
        table: int | None = TABLE_SIDE,
    ) -> None:
        super().__init__()
        self.code_name, self.points_name, self.table = code, points, table
        self.add_module(code, PositionCode(dim))
        self.add_module(points, nn.ModuleList(nn.Embedding(1, dim) for _ in range(kinds)))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    @property
    def position(self) -> PositionCode:
        """The position code of points and grid."""
        layer = self.get_submodule(self.code_name)
        assert isinstance(layer, PositionCode)
        return layer

    def grid_code(self, height: int, width: int) -> Tensor:
        """Return the position code (1, dim, height, width) of a grid."""
        if self.table is None:
            return self.position.grid(height, width)
        return bilinear(self.position.grid(self.table, self.table), height, width)

    def sparse(self, points: Tensor, kinds: Tensor, size: tuple[int, int]) -> Tensor:
        """Return tokens (B, n + 1, dim): the clicks in order, then one padding token.

        Args:
            points: (B, n, 2) row and column in network pixels, without the half pixel to the centre.
            kinds: (B, n) int64: 1 positive, 0 negative, -1 no click (a padding token).
            size: height and width of the network input.
        """
        kind: Any = self.get_submodule(self.points_name)
        where = (points.flip(-1) + 0.5) / points.new_tensor([size[1], size[0]])
        table = torch.cat([kind[0].weight, kind[1].weight])
        clicks = self.position(where) + table[kinds.clamp_min(0)]
        padding = self.not_a_point_embed.weight
        clicks = torch.where((kinds < 0)[:, :, None], padding, clicks)
        return torch.cat([clicks, padding.expand(points.shape[0], 1, -1)], dim=1)

    def dense(self, previous: Tensor | None, batch: int, height: int, width: int) -> Tensor:
        """Return the dense map (B, dim, height, width) of the previous logits (B, 1, ~4h, ~4w), None for none."""
        if previous is None:
            return self.no_mask_embed.weight[:, :, None, None].expand(batch, -1, height, width)
        return bilinear(self.mask_downscaling(previous), height, width)


def click_tensors(clicks: Sequence[tuple[float, float, bool]]) -> tuple[Tensor, Tensor]:
    """Return points (1, n, 2) float32 and kinds (1, n) int64 of (row, column, positive)."""
    points = torch.tensor([[y, x] for y, x, _ in clicks], dtype=torch.float32).view(1, -1, 2)
    return points, torch.tensor([positive for _, _, positive in clicks], dtype=torch.int64).view(1, -1)
