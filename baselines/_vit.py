"""Transformer blocks, windows and small maps that several baselines share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.encoders.linear import Linear, Mlp

CHUNK_TOKENS = 1024
"""Tokens of an MLP worked on together: enough for full matrix-product speed, few enough to stay in cache."""


class Attention(nn.Module):
    """Multi-head self-attention with one projection for q, k, v (in this order)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def attend(self, x: Tensor, batch: int) -> Tensor:
        """Attend among the N / batch tokens of each sequence: normalised x (N, C) -> (N, C), unprojected."""
        query, key, value = self.split(self.qkv(x), batch)
        return merge_heads(F.scaled_dot_product_attention(query, key, value))

    def split(self, qkv: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v as (batch, heads, tokens, head width) of (N, 3 C)."""
        parts = qkv.view(batch, qkv.shape[0] // batch, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]


def merge_heads(x: Tensor) -> Tensor:
    """Return (batch, heads, tokens, head width) as (batch * tokens, C)."""
    return x.transpose(1, 2).reshape(x.shape[0] * x.shape[2], -1)


class Block(nn.Module):
    """Pre-norm transformer block: x += Attn(LN(x)); x += Mlp(LN(x)), with names as in timm."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor, batch: int) -> Tensor:
        """Map x (N, C): `batch` sequences of N / batch tokens one after another."""
        x = self.attn.proj(self.attn.attend(self.norm1(x), batch), residual=x)
        return torch.cat([self.mlp(self.norm2(part), part) for part in x.split(CHUNK_TOKENS)])


class PatchEmbed(nn.Module):
    """Patch embedding; the kernel is stored as that of a convolution."""

    def __init__(self, dim: int, patch: int, name: str = "proj") -> None:
        super().__init__()
        self.patch, self.name = patch, name
        self.add_module(name, nn.Conv2d(3, dim, patch, patch))

    def forward(self, image: Tensor) -> Tensor:
        """Return (B * h * w, dim) tokens of an image (B, 3, H, W), row-major."""
        conv = self.get_submodule(self.name)
        assert isinstance(conv, nn.Conv2d)
        batch, channels, height, width = image.shape
        p, h, w = self.patch, height // self.patch, width // self.patch
        patches = image.reshape(batch, channels, h, p, w, p).permute(0, 2, 4, 1, 3, 5).reshape(batch * h * w, -1)
        return F.linear(patches, conv.weight.flatten(1), conv.bias)


def windows(x: Tensor, batch: int, side: int, window: int) -> Tensor:
    """Reorder tokens (B * side * side, C) so that each window x window square is contiguous."""
    n = side // window
    return x.view(batch, n, window, n, window, -1).transpose(2, 3).reshape(x.shape)


def unwindows(x: Tensor, batch: int, side: int, window: int) -> Tensor:
    """Undo `windows`."""
    n = side // window
    return x.view(batch, n, n, window, window, -1).transpose(2, 3).reshape(x.shape)
