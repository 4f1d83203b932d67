"""SAM's prompt encoder and mask decoder for any grid, with the names of HRSAM's checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._images import bilinear

MASKS = 4
TABLE_SIDE = 64
"""The grid code is computed for this grid and resized to others."""


def to_planes(x: Tensor, height: int, width: int) -> Tensor:
    """Return tokens (B, h * w, C) as a map (B, C, h, w)."""
    return x.view(x.shape[0], height, width, -1).permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, h, w), eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, h, w)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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


class PromptEncoder(nn.Module):
    """Clicks to sparse tokens, previous logits to a dense map."""

    def __init__(self, dim: int = 256, kinds: int = 4) -> None:
        super().__init__()
        self.pos_embed_layer = PositionCode(dim)
        # Negative, positive and, in released files, two box corners, which clicks have no use for.
        self.point_embeds: Any = nn.ModuleList(nn.Embedding(1, dim) for _ in range(kinds))
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

    def grid_code(self, height: int, width: int) -> Tensor:
        """Return the position code (1, dim, height, width) of a grid."""
        device = self.no_mask_embed.weight.device
        centre = (torch.arange(TABLE_SIDE, device=device) + 0.5) / TABLE_SIDE
        points = torch.stack([centre.expand(TABLE_SIDE, -1), centre[:, None].expand(-1, TABLE_SIDE)], dim=-1)
        code = self.pos_embed_layer(points).permute(2, 0, 1)[None].contiguous()
        return bilinear(code, height, width)

    def sparse(self, points: Tensor, kinds: Tensor, size: tuple[int, int]) -> Tensor:
        """Return tokens (B, n + 1, dim): the clicks in order, then one padding token.

        Args:
            points: (B, n, 2) row and column in network pixels, without the half pixel to the centre.
            kinds: (B, n) int64: 1 positive, 0 negative, -1 no click (a padding token).
            size: height and width of the network input.
        """
        where = (points.flip(-1) + 0.5) / points.new_tensor([size[1], size[0]])
        table = torch.cat([self.point_embeds[0].weight, self.point_embeds[1].weight])
        clicks = self.pos_embed_layer(where) + table[kinds.clamp_min(0)]
        padding = self.not_a_point_embed.weight
        clicks = torch.where((kinds < 0)[:, :, None], padding, clicks)
        return torch.cat([clicks, padding.expand(points.shape[0], 1, -1)], dim=1)

    def dense(self, previous: Tensor | None, batch: int, height: int, width: int) -> Tensor:
        """Return the dense map (B, dim, height, width) of the previous logits (B, 1, ~4h, ~4w), None for none."""
        if previous is None:
            return self.no_mask_embed.weight[:, :, None, None].expand(batch, -1, height, width)
        return bilinear(self.mask_downscaling(previous), height, width)


class DownAttention(nn.Module):
    """Multi-head attention whose inner width may be smaller."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend: query (B, n, dim), key and value (B, m, dim) -> (B, n, dim)."""
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TokenMlp(nn.Module):
    """Two layers with ReLU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, dim)."""
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayLayer(nn.Module):
    """Tokens attend to each other and to the image, then the image to the tokens."""

    def __init__(self, dim: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = DownAttention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = DownAttention(dim, heads, dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = TokenMlp(dim, hidden)
        self.norm3 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = DownAttention(dim, heads, dim // 2)
        self.norm4 = nn.LayerNorm(dim)

    def forward(self, q: Tensor, k: Tensor, q_code: Tensor, k_code: Tensor) -> tuple[Tensor, Tensor]:
        """Update tokens q (B, n, dim) and image k (B, h * w, dim); the first layer replaces q, without position."""
        if self.first:
            q = self.norm1(self.self_attn(q, q, q))
        else:
            q = self.norm1(q + self.self_attn(q + q_code, q + q_code, q))
        q = self.norm2(q + self.cross_attn_token_to_image(q + q_code, k + k_code, k))
        q = self.norm3(q + self.mlp(q))
        return q, self.norm4(k + self.cross_attn_image_to_token(k + k_code, q + q_code, q))


class TwoWayTransformer(nn.Module):
    """Two layers and a last look of the tokens at the image."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(dim, heads, hidden, first=number == 0) for number in range(2))
        self.final_attn_token_to_image = DownAttention(dim, heads, dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, image: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens (B, n, dim) and image (B, h * w, dim) with its position code (1, h * w, dim)."""
        q, k = tokens, image
        for layer in self.layers:
            q, k = layer(q, k, tokens, code)
        q = self.norm_final_attn(q + self.final_attn_token_to_image(q + tokens, k + code, k))
        return q, k


class SmallMlp(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        widths = (dim, hidden, hidden, out)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, dim) -> (…, out)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Two-way transformer, upscaling by 4, and one linear classifier per mask token.

    Args:
        dim: channels of the embedding.
        heads: of every attention.
        hidden: width of the token MLP.
        masks: number of mask tokens.
        quality: predict the masks' quality.
    """

    def __init__(
        self, dim: int = 256, heads: int = 8, hidden: int = 2048, masks: int = MASKS, quality: bool = True
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(dim, heads, hidden)
        self.masks = masks
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(SmallMlp(dim, dim, dim // 8) for _ in range(masks))
        self.iou_prediction_head = SmallMlp(dim, dim, masks) if quality else None

    def forward(
        self,
        image: Tensor,
        code: Tensor,
        sparse: Tensor,
        dense: Tensor,
        skips: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Decode.

        Args:
            image, dense: (B, dim, h, w) embedding and dense prompt.
            code: (1, dim, h, w) position code of the grid.
            sparse: (B, n, dim) click tokens.
            skips: fine maps to add while upscaling, in nested order: (B, 4 h w, dim / 4), (B, 16 h w, dim / 8).

        Returns:
            Mask logits (B, masks, 4h, 4w) and quality predictions (B, masks), None without that head.
        """
        batch, _, height, width = image.shape
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(batch, -1, -1), sparse], dim=1)
        pixels = (image + dense).flatten(2).transpose(1, 2)
        tokens, pixels = self.transformer(tokens, pixels, code.flatten(2).transpose(1, 2))
        fine = self.upscale(pixels, skips)
        classifiers = [mlp(tokens[:, 1 + m]) for m, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = fine @ torch.stack(classifiers, dim=2)
        # From nested (token, its 2x2 children, their 2x2 children) to row-major order.
        nested = masks.view(batch, height, width, 2, 2, 2, 2, self.masks).permute(0, 7, 1, 3, 5, 2, 4, 6)
        quality = None if self.iou_prediction_head is None else self.iou_prediction_head(tokens[:, 0])
        return nested.reshape(batch, self.masks, 4 * height, 4 * width), quality

    def upscale(self, pixels: Tensor, skips: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return features (B, 16 * h * w, dim / 8) at four times the resolution, pixels nested within tokens."""
        first, norm, _, second, _ = self.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        x = children(first, pixels)
        x = x if skips is None else x + skips[0]
        x = F.gelu(F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
        x = children(second, x)
        return F.gelu(x if skips is None else x + skips[1])


def children(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a transposed convolution of kernel and stride 2 to pixels (B, n, C): (B, 4 n, D), children in a row."""
    assert isinstance(conv, nn.ConvTranspose2d) and conv.bias is not None
    weight = conv.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return F.linear(x, weight, conv.bias.repeat(4)).view(x.shape[0], -1, conv.out_channels)


def click_tensors(clicks: Sequence[tuple[float, float, bool]]) -> tuple[Tensor, Tensor]:
    """Return points (1, n, 2) float32 and kinds (1, n) int64 of (row, column, positive)."""
    points = torch.tensor([[y, x] for y, x, _ in clicks], dtype=torch.float32).view(1, -1, 2)
    return points, torch.tensor([positive for _, _, positive in clicks], dtype=torch.int64).view(1, -1)
