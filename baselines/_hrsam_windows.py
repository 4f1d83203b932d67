"""16x16 windows over several token grids, as HRSAM cuts them: with a learned vector in padded cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._images import up_to_multiple
from baselines._vit import CHUNK_TOKENS, merge_heads
from inter2former.encoders.hrsam import rotate
from inter2former.encoders.linear import Linear, Mlp

DIM, HEADS = 768, 12
WINDOW = 16
Grid = tuple[int, int]


@dataclass(frozen=True)
class Cells:
    """Where tokens lie in padded windows.

    Attributes:
        token: (windows * 256,) int64, token of each cell; the number of tokens for a padded cell.
        cell: (tokens,) int64, cell of each token.
    """

    token: Tensor
    cell: Tensor


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def window_cells(batch: int, grids: tuple[Grid, ...], odd: bool) -> Cells:
    """Return the windows of `batch` sequences that hold the tokens of several grids one after another, row-major.

    Odd blocks put 8 padded rows and columns before each grid, whatever its size; then it is filled up to full windows.
    """
    before = WINDOW // 2 if odd else 0
    sequence = sum(h * w for h, w in grids)
    parts = []
    for sample in range(batch):
        offset = sample * sequence
        for height, width in grids:
            padded = torch.full([up_to_multiple(before + n, WINDOW) for n in (height, width)], batch * sequence)
            inner = padded[before : before + height, before : before + width]
            inner.copy_(offset + torch.arange(height * width).view(height, width))
            offset += height * width
            split = padded.unflatten(0, (-1, WINDOW)).unflatten(2, (-1, WINDOW))
            parts.append(split.transpose(1, 2).flatten())
    token = torch.cat(parts)
    cell = torch.empty(batch * sequence, dtype=torch.int64)
    real = token < batch * sequence
    cell[token[real]] = torch.arange(token.numel())[real]
    return Cells(token, cell)


class WindowAttention(nn.Module):
    """Attention within 16x16 windows; padded cells hold one learned vector and take part as keys and values."""

    def __init__(self, skip_padded: bool) -> None:
        super().__init__()
        self.skip_padded = skip_padded
        self.padding = nn.Parameter(torch.zeros(1, DIM))
        self.qkv = Linear(DIM, 3 * DIM)
        self.proj = Linear(DIM, DIM)

    def forward(self, x: Tensor, cells: Cells, rotations: Tensor, residual: Tensor) -> Tensor:
        """Return residual + attention of normalised tokens x (N, DIM).

        As released, padded cells are projected like tokens and their results dropped; `skip_padded` leaves that out.
        """
        full = torch.cat([x, self.padding])
        qkv = self.qkv(full)[cells.token] if self.skip_padded else self.qkv(full[cells.token])
        qkv = qkv.view(-1, WINDOW * WINDOW, 3, DIM)
        turned = rotate(qkv[:, :, :2], rotations[:, None])
        query, key, value = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (turned[:, :, 0], turned[:, :, 1], qkv[:, :, 2])
        )
        attended = merge_heads(F.scaled_dot_product_attention(query, key, value))
        if self.skip_padded:
            return self.proj(attended[cells.cell], residual=residual)
        return residual + self.proj(attended)[cells.cell]


class WindowBlock(nn.Module):
    """x += WindowAttention(LN(x)); x += Mlp(LN(x))."""

    def __init__(self, skip_padded: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(DIM)
        self.attn = WindowAttention(skip_padded)
        self.norm2 = nn.LayerNorm(DIM)
        self.mlp = Mlp(DIM, 4 * DIM)

    def forward(self, x: Tensor, cells: Cells, rotations: Tensor) -> Tensor:
        """Map tokens x (N, DIM)."""
        x = self.attn(self.norm1(x), cells, rotations, residual=x)
        return torch.cat([self.mlp(self.norm2(part), part) for part in x.split(CHUNK_TOKENS)])
