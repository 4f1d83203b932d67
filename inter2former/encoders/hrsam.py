"""HRSAM's ViT-B image encoder: window attention on the image and on a 256-pixel anchor of it.

The image gives one token per 16 pixels; the anchor, the image resized to 256x256, gives 16x16 more. All tokens share
twelve transformer blocks, but attention never leaves a 16x16 window, so the cost grows linearly with the image; the
anchor is how a token can know about the whole. After blocks 2, 5, 8 and 11 the anchor is enlarged and fused in.

Work is done a few windows at a time, attention and MLP together, so that a chunk's activations stay in cache.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.encoders.linear import Linear, Mlp
from inter2former.encoders.precision import check_precision, compute_type, precision_error
from inter2former.encoders.windows import WINDOW, Group, Plan, plan_windows

PATCH = 16
ANCHOR = 256
CHUNK_TOKENS = 1024
"""Tokens worked on together: large enough for full matrix-product speed, small enough to stay in cache."""


def window_rotations(freqs: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """Return the RoPE factors of the 256 cells of a window, (256, heads * 32) complex.

    A head's 64 channels are 32 pairs, taken as complex numbers: 16 turned by the row, 16 by the column. Only
    differences of positions enter the attention, so coordinates within the window serve instead of those in the
    padded grid.
    """
    cell = torch.arange(WINDOW * WINDOW, device=freqs.device)
    rows, columns = (cell // WINDOW)[:, None] * 0.5, (cell % WINDOW)[:, None] * 0.5
    angle = torch.cat([rows * freqs.double(), columns * freqs.double()], dim=1)
    factors = torch.polar(torch.ones_like(angle), -angle).repeat(1, heads)
    return factors.to(torch.complex128 if dtype == torch.float64 else torch.complex64)


def rotate(x: Tensor, factors: Tensor) -> Tensor:
    """Turn channel pairs (2n, 2n+1) of x (..., cells, C) by factors (cells, C / 2) complex; the type of x is
    kept."""
    wide = x.float() if x.dtype == torch.bfloat16 else x
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * factors).flatten(-2).to(x.dtype)


class PatchEmbedding(nn.Module):
    """Holds the projection of a patch, stored as a convolution's kernel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)


class Rope(nn.Module):
    """Holds the frequencies of the rotary positions."""

    freqs: Tensor

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 10000.0 ** (-torch.arange(0, pairs, 2).float() / pairs))


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows whose padded cells all hold one learned vector.

    With `ask_padded` padded cells attend, too, and what they get is dropped.
    """

    def __init__(self, dim: int, heads: int, ask_padded: bool = False) -> None:
        super().__init__()
        self.heads, self.ask_padded = heads, ask_padded
        self.padding = nn.Parameter(torch.zeros(1, dim))
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def padded_cells(self, group: Group, rotations: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Return keys and values (1, heads, padded cells, head width) of the padded cells, then queries if they ask."""
        query, key, value = (
            part.expand(len(group.padded), -1) for part in self.qkv(self.padding.to(dtype)).chunk(3, dim=-1)
        )
        factors = rotations[group.padded]
        parts = [rotate(key, factors), value, *([rotate(query, factors)] if self.ask_padded else [])]
        return [part.reshape(1, len(group.padded), self.heads, -1).transpose(1, 2) for part in parts]

    def forward(self, x: Tensor, group: Group, rotations: Tensor, padded: list[Tensor] | None) -> Tensor:
        """Attend within windows: x (windows, cells, C) normalised tokens -> (windows * cells, C), unprojected."""
        windows, cells, dim = x.shape
        qkv = self.qkv(x.reshape(-1, dim)).view(windows, cells, 3, dim)
        turned = rotate(qkv[:, :, :2], rotations[group.cells][:, None])
        query, key, value = (
            part.view(windows, cells, self.heads, -1).transpose(1, 2)
            for part in (turned[:, :, 0], turned[:, :, 1], qkv[:, :, 2])
        )
        if padded is not None:
            key = torch.cat([key, padded[0].expand(windows, -1, -1, -1)], dim=2)
            value = torch.cat([value, padded[1].expand(windows, -1, -1, -1)], dim=2)
            if self.ask_padded:
                query = torch.cat([query, padded[2].expand(windows, -1, -1, -1)], dim=2)
        out = F.scaled_dot_product_attention(query, key, value)[:, :, :cells]
        return out.transpose(1, 2).reshape(-1, dim)


class Block(nn.Module):
    """One transformer block over tokens in window order."""

    def __init__(self, dim: int, heads: int, hidden: int, ask_padded: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, ask_padded)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden)

    def forward(self, x: Tensor, plan: Plan, rotations: Tensor, dtype: torch.dtype) -> Tensor:
        """Map tokens (N, C) in the plan's order; matrix products run in `dtype`, the residual in that of
        x."""
        done, start = [], 0
        for group in plan.groups:
            padded = self.attn.padded_cells(group, rotations, dtype) if len(group.padded) else None
            cells = len(group.cells)
            step = max(1, CHUNK_TOKENS // cells)
            for first in range(0, group.count, step):
                windows = min(step, group.count - first)
                chunk = x[start : start + windows * cells]
                start += windows * cells
                tokens = self.norm1(chunk).to(dtype).view(windows, cells, -1)
                attended = self.attn(tokens, group, rotations, padded)
                chunk = self.attn.proj(attended, residual=chunk)
                done.append(self.mlp(self.norm2(chunk).to(dtype), chunk))
        return torch.cat(done)


class HRSAMEncoder(nn.Module):
    """Image encoder of HRSAM and Inter2Former: (B, 3, H, W) -> (B, out_channels, H / 16, W / 16).

    Args:
        out_channels: channels of the embedding.
        precision: "fp32", or "bf16" to run matrix products and attention in bfloat16 with a float32 residual stream;
            `precision_error` says what that costs. Ignored while gradients are wanted and for float64 inputs.
        padded_cells: "skipped", or "executed" to let padded cells of windows attend and drop what they get, as the
            released CPU code does: the same result at the released cost.

    State-dict names are those of the released checkpoint's `backbone.`.

    Attributes:
        multiple: the released model pads image sides to multiples of it; the encoder itself takes multiples of 16.
    """

    multiple = 256

    def __init__(
        self,
        out_channels: int = 256,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        fused_after: tuple[int, ...] = (2, 5, 8, 11),
        precision: str = "fp32",
        padded_cells: str = "skipped",
    ) -> None:
        super().__init__()
        if padded_cells not in ("skipped", "executed"):
            raise ValueError(f"padded_cells={padded_cells!r}: choose skipped or executed")
        self.heads, self.precision, self.fused_after = heads, check_precision(precision), fused_after
        self.out_channels = out_channels
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + 14 * 14, dim))
        self.patch_embed = PatchEmbedding(dim)
        self.rope = Rope(dim // heads // 2)
        self.blocks = nn.ModuleList(Block(dim, heads, 4 * dim, padded_cells == "executed") for _ in range(depth))
        self.multi_scale_fusion = nn.ModuleList(nn.Sequential(nn.LayerNorm(dim)) for _ in fused_after)
        self.lateral_convs = nn.ModuleList(
            nn.Sequential(Linear(2 * dim, out_channels, bias=False), nn.LayerNorm(out_channels)) for _ in fused_after
        )
        depthwise = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False)
        self.out_conv = nn.Sequential(depthwise, nn.Identity(), nn.LayerNorm(out_channels))

    def embed(self, image: Tensor) -> Tensor:
        """Return the tokens (B, h * w, dim) of one scale, positions added."""
        batch, _, height, width = image.shape
        h, w = height // PATCH, width // PATCH
        patches = image.view(batch, 3, h, PATCH, w, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(batch, h * w, -1)
        projection = self.patch_embed.proj
        tokens = F.linear(patches, projection.weight.flatten(1), projection.bias)
        table = self.pos_embed[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
        table = F.interpolate(table, (h, w), mode="bilinear", align_corners=False)
        return tokens + table.flatten(2).transpose(1, 2)

    def fuse(self, index: int, fine: Tensor, anchor: Tensor, dtype: torch.dtype) -> Tensor:
        """Join the scales: fine (B, h, w, dim), anchor (B, 16, 16, dim) -> (B, h, w, out_channels)."""
        norm = self.multi_scale_fusion[index]
        project, out_norm = self.lateral_convs[index].children()
        shape = fine.shape[1:3]
        wide = F.interpolate(anchor.permute(0, 3, 1, 2), shape, mode="bilinear", align_corners=False)
        both = torch.cat([norm(fine), norm(wide.permute(0, 2, 3, 1))], dim=-1).to(dtype)
        return out_norm(project(both.flatten(0, 2)).to(fine.dtype)).view(*fine.shape[:3], -1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode a normalised image (B, 3, H, W), H and W multiples of 16, to (B, out_channels, H / 16, W / 16)."""
        batch, channels, height, width = x.shape
        if channels != 3 or height % PATCH or width % PATCH or not height or not width:
            raise ValueError(f"image of shape {tuple(x.shape)}: need (B, 3, H, W), H and W multiples of {PATCH}")
        dtype = compute_type(self.precision, x)
        anchor = F.interpolate(x, (ANCHOR, ANCHOR), mode="bilinear", align_corners=False)
        h, w, side = height // PATCH, width // PATCH, ANCHOR // PATCH
        tokens = torch.cat([self.embed(x), self.embed(anchor)], dim=1)
        sequence = tokens.shape[1]
        tokens = tokens.flatten(0, 1)
        rotations = window_rotations(self.rope.freqs, self.heads, x.dtype)
        fused: Tensor | None = None
        previous: Plan | None = None
        for number, block in enumerate(self.blocks):
            plan = plan_windows(batch, ((h, w), (side, side)), number % 2)
            if plan is not previous:
                tokens = tokens[plan.order if previous is None else previous.inverse[plan.order]]
            tokens, previous = block(tokens, plan, rotations, dtype), plan
            if number in self.fused_after:
                fine, coarse = tokens[plan.inverse].view(batch, sequence, -1).split([h * w, side * side], dim=1)
                index = self.fused_after.index(number)
                part = self.fuse(index, fine.unflatten(1, (h, w)), coarse.unflatten(1, (side, side)), dtype)
                fused = part if fused is None else fused + part
        assert fused is not None
        out = self.out_conv[0](fused.permute(0, 3, 1, 2))
        return self.out_conv[2](out.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def precision_error(self, x: Tensor) -> dict[str, float]:
        """Return what bfloat16 costs on x, see `inter2former.encoders.precision.precision_error`."""
        return precision_error(self, x)
