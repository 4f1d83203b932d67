"""DHA, dynamic hybrid attention: every token looks at all tokens, but only boundary tokens look closely.

`full`  softmax attention with rotary positions (RoPE).
`bsq`   keys are quantised to 8 signs, so that there are only 256 different keys; attention over codes that
        remember how many tokens they stand for costs the same for any image size. No positions.
`vq`    the same with 256 learned vectors and the nearest of them as a key's code.
`on`    DHA: `full` for boundary tokens (where labels change or are unknown), `bsq` for all others. Both share
        one projection to queries, keys and values and one back.

There is a single head of 32 channels. In training, quantised keys pass the gradient straight through, and a
commitment loss draws keys to their codes; the values are the same as at inference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.derived import Derived, with_bias
from inter2former.encoders.linear import Linear
from inter2former.losses import COMMITMENT, commitment_loss


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Return `torch.stack`, without a copy if there is one part."""
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0][None]


@lru_cache(maxsize=16)
def rotations(height: int, width: int, channels: int) -> Tensor:
    """Return the RoPE factors of a token grid, (height * width, channels / 2) complex64.

    Channel pairs (2n, 2n+1) are complex numbers; the first half of the pairs turns by -row/2 * f_n, the
    second by -column/2 * f_n, with f_n = 10000 ** (-2n / (channels / 2)).
    """
    half = channels // 2
    frequencies = 10000.0 ** (-torch.arange(0, half, 2, dtype=torch.float32) / half)
    rows = (torch.arange(height) * 0.5)[:, None] * frequencies
    columns = (torch.arange(width) * 0.5)[:, None] * frequencies
    angle = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1).flatten(0, 1)
    return torch.polar(torch.ones_like(angle), -angle)


def rotate(x: Tensor, factors: Tensor) -> Tensor:
    """Turn channel pairs of x (N, C) by factors (N, C / 2) complex."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * factors.to(x.device)).flatten(-2)


def full_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(query key' / sqrt(C)) value for (N, C), (L, C), (L, C)."""
    return F.scaled_dot_product_attention(query[None, None], key[None, None], value[None, None])[0, 0]


def code_attention(query: Tensor, keys: Tensor, codes: Tensor, value: Tensor) -> Tensor:
    """Return attention to quantised keys: one softmax over the codes, each weighted by how many tokens have
    it.

    Args:
        query: (N, C).
        keys: (K, C), the key of each code.
        codes: (L,) int64, the code of each token.
        value: (L, C).

    Returns:
        (N, C), equal to softmax(query keys[codes]' / sqrt(C)) value.
    """
    counts = torch.bincount(codes, minlength=len(keys)).to(value.dtype)
    sums = value.new_zeros(len(keys), value.shape[1]).index_add_(0, codes, value.contiguous())
    means = sums / counts.clamp_min(1)[:, None]
    # Codes that no token has get a bias of log 0: no weight.
    bias = counts.log().expand(1, 1, len(query), -1)
    return F.scaled_dot_product_attention(query[None, None], keys[None, None], means[None, None], bias)[0, 0]


class BSQ(nn.Module):
    """Binary spherical quantisation of keys.

    Args:
        dim: key channels.
        bits: signs per code.
    """

    def __init__(self, dim: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.codebook = nn.Parameter(torch.randn(2 * bits, dim) * 0.5)
        self.code_proj = nn.Linear(dim, bits)
        self._derived = Derived()

    def _all_keys(self) -> Tensor:
        index = torch.arange(2**self.bits, device=self.codebook.device)
        shifts = torch.arange(self.bits - 1, -1, -1, device=self.codebook.device)
        signs = (index[:, None] >> shifts & 1).to(self.codebook.dtype)
        return torch.cat([signs, 1 - signs], dim=1) @ self.codebook.detach()

    def keys(self) -> Tensor:
        """Return the key of every code, (2 ** bits, dim): of each bit, one of two codebook rows."""
        return self._derived.get("keys", [self.codebook], self._all_keys)

    def codes(self, key: Tensor) -> Tensor:
        """Return the codes (L,) int64 of keys (L, dim); the first output is the most significant bit."""
        bits = (self.code_proj(key) >= 0).to(key.dtype)
        weights = 2.0 ** torch.arange(self.bits - 1, -1, -1, dtype=key.dtype, device=key.device)
        return (bits @ weights).long()

    def quantise(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Training form: quantised keys (L, dim) with straight-through gradient, and the commitment loss."""
        code = F.normalize(self.code_proj(key), dim=-1, eps=1e-12)
        scale = math.sqrt(self.bits)
        signs = torch.where(code >= 0, 1 / scale, -1 / scale).to(code.dtype)
        half = (code + (signs - code).detach()) * (scale / 2) + 0.5
        return torch.cat([half, 1 - half], dim=-1) @ self.codebook, commitment_loss(code, signs)


class VQ(nn.Module):
    """Vector quantisation of keys: a learned codebook (count, dim), the nearest vector is a key's code."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.randn(count, dim) * 0.5)

    def keys(self) -> Tensor:
        """Return the key of every code, (count, dim)."""
        return self.codebook

    def codes(self, key: Tensor) -> Tensor:
        """Return the index of the nearest vector for each key (L, dim) as (L,) int64."""
        distance = self.codebook.square().sum(-1) - 2 * key @ self.codebook.t()
        return distance.argmin(-1)

    def quantise(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Training form: quantised keys with straight-through gradient; a loss for codebook and keys."""
        nearest = self.codebook[self.codes(key)]
        loss = F.mse_loss(nearest, key.detach()) + COMMITMENT * F.mse_loss(key, nearest.detach())
        return key + (nearest - key).detach(), loss


class Attention(nn.Module):
    """The attention of a decoder block, residual excluded.

    Args:
        dim: token width.
        head_dim: width of the head.
        bits: of a BSQ code.
        kind: "on", "full", "bsq" or "vq".
    """

    def __init__(self, dim: int, head_dim: int, bits: int, kind: str) -> None:
        super().__init__()
        self.head_dim, self.kind = head_dim, kind
        self.qkv_proj = Linear(dim, 3 * head_dim)
        self.o_proj = nn.Linear(head_dim, dim)
        if kind == "vq":
            self.vq_attn = VQ(head_dim, 2**bits)
        else:
            self.bsq_attn = BSQ(head_dim, bits)
        self._derived = Derived()

    @property
    def quantiser(self) -> BSQ | VQ:
        """The quantiser of this kind."""
        return self.vq_attn if self.kind == "vq" else self.bsq_attn

    def forward(self, x: Tensor, z: Tensor, grid: tuple[int, int], boundary: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return x plus what its tokens attend to, and the quantiser's loss (zero outside training).

        Args:
            x: residual stream (B, h * w, dim); overwritten unless gradients are wanted.
            z: the same normalised.
            grid: (h, w).
            boundary: for each image (n,) int64, tokens that get full attention when the kind is "on".
        """
        parts = [self.attend(tokens, grid, rows) for tokens, rows in zip(z, boundary, strict=True)]
        attended = stack([part for part, _ in parts])
        loss = torch.stack([loss for _, loss in parts]).mean()
        if torch.is_grad_enabled():
            return x + self.o_proj(attended), loss
        kernel = self._derived.get("out", [self.o_proj.weight, self.o_proj.bias], lambda: with_bias(self.o_proj))
        x.view(-1, x.shape[-1]).addmm_(F.pad(attended.flatten(0, 1), (0, 1), value=1.0), kernel)
        return x, loss

    def attend(self, z: Tensor, grid: tuple[int, int], boundary: Tensor) -> tuple[Tensor, Tensor]:
        """Return for the tokens z (h * w, dim) of one image the attention (h * w, head_dim), and the loss."""
        query, key, value = self.qkv_proj(z).chunk(3, dim=-1)
        loss = z.new_zeros(())
        if self.kind == "full" or (self.kind == "on" and len(boundary) == len(z) and not self.training):
            factors = rotations(*grid, self.head_dim)
            return full_attention(rotate(query, factors), rotate(key, factors), value), loss
        if self.training:
            quantised, loss = self.quantiser.quantise(key)
            out = full_attention(query, quantised, value)
            if self.kind == "on" and len(boundary):
                out = out.index_copy(0, boundary, self._close(query, key, value, grid, boundary))
            return out, loss
        codes = self.quantiser.codes(key)
        if self.kind != "on" or not len(boundary):
            return code_attention(query, self.quantiser.keys(), codes, value), loss
        if 2 * len(boundary) < len(z):
            out = code_attention(query, self.quantiser.keys(), codes, value)
        else:
            rest = torch.ones(len(z), dtype=torch.bool, device=z.device)
            rest[boundary] = False
            rows = rest.nonzero()[:, 0]
            part = code_attention(query[rows], self.quantiser.keys(), codes, value)
            out = z.new_empty(len(z), self.head_dim).index_copy(0, rows, part)
        return out.index_copy(0, boundary, self._close(query, key, value, grid, boundary)), loss

    def _close(self, query: Tensor, key: Tensor, value: Tensor, grid: tuple[int, int], rows: Tensor) -> Tensor:
        """Return full attention for the queries `rows`."""
        factors = rotations(*grid, self.head_dim)
        return full_attention(rotate(query[rows], factors[rows.to(factors.device)]), rotate(key, factors), value)
