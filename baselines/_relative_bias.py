"""InterFormer's attention bias at any size, without the (heads, N + 1, N + 1) matrix.

The bias belongs to a 32x32 grid; another grid takes that of the nearest cell, so tokens with the same nearest cell
have the same bias as queries and as keys. Tokens are put in an order of *sets*, each holding a cell at most once: the
first members of all cells, then the second members, and so on. The bias of a set of queries is then a selection of
rows of one mask (heads, 1025, N + 1), whose columns are selections of the native matrix, one block per set. At
1024x1024 that mask is a quarter of the full matrix, and with a few heads at a time 52 MB in place of 805.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

GRID = 32
CELLS = GRID * GRID
TABLE_ROWS = (2 * GRID - 1) ** 2 + 3
MASK_ELEMENTS = 13_000_000
"""Size that sets how many heads share a mask: 52 MB, three heads at 1024x1024."""


@dataclass(frozen=True)
class Layout:
    """The order of the tokens of an h x w grid.

    Attributes:
        order: (N,) int64, row-major position of each token.
        inverse: (N,) int64, the way back.
        cells: (N,) int64, native cell of each token in the order.
        sets: per set, row or column of the native matrix of each member, ascending; the first set starts with 0, the
            class token, and the others follow at 1 + cell.
    """

    order: Tensor
    inverse: Tensor
    cells: Tensor
    sets: tuple[Tensor, ...]


def _nearest(size: int) -> tuple[Tensor, Tensor]:
    """Return for each of `size` tokens of a side its native cell and which member of that cell it is.

    The cell is torch's own (float32) nearest neighbour, as the released code resizes its tables by it.
    """
    cell = F.interpolate(torch.arange(float(GRID))[None, None], size, mode="nearest")[0, 0].long()
    first = torch.searchsorted(cell, cell)
    return cell, torch.arange(size) - first


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def layout(height: int, width: int) -> Layout:
    """Return the layout of a grid; one of 1024 tokens is read with the native table whatever its shape."""
    if height * width == CELLS:
        order = torch.arange(CELLS)
        return Layout(order, order, order, (torch.arange(CELLS + 1),))
    row_cell, row_member = _nearest(height)
    column_cell, column_member = _nearest(width)
    cell = (row_cell[:, None] * GRID + column_cell).flatten()
    member = (row_member[:, None] * (int(column_member.max()) + 1) + column_member).flatten()
    order = torch.argsort(member * CELLS + cell)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(order.numel())
    sizes = torch.bincount(member).tolist()
    sets = [1 + part for part in cell[order].split([size for size in sizes if size])]
    sets[0] = torch.cat([torch.zeros(1, dtype=torch.int64), sets[0]])
    return Layout(order, inverse, cell[order], tuple(sets))


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def table_index() -> Tensor:
    """Return the (1025, 1025) int32 rows of the bias table; row and column 0 are the class token."""
    position = torch.arange(CELLS)
    y, x = position // GRID, position % GRID
    index = torch.empty(CELLS + 1, CELLS + 1, dtype=torch.int32)
    span = 2 * GRID - 1
    index[1:, 1:] = (y[:, None] - y + GRID - 1) * span + (x[:, None] - x + GRID - 1)
    index[0, 1:] = TABLE_ROWS - 3
    index[1:, 0] = TABLE_ROWS - 2
    index[0, 0] = TABLE_ROWS - 1
    return index


def native_bias(table: Tensor) -> Tensor:
    """Return the bias (heads, 1025, 1025) of a table (3972, heads)."""
    index = table_index()
    return table.T.contiguous().index_select(1, index.flatten()).view(-1, *index.shape)


def attend(query: Tensor, key: Tensor, value: Tensor, table: Tensor, plan: Layout) -> Tensor:
    """Attend with the bias of a table (3972, heads): q, k, v (B, heads, 1 + N, width), class token first."""
    output = torch.empty_like(query)
    step = max(1, MASK_ELEMENTS // ((CELLS + 1) * key.shape[2]))
    for first in range(0, query.shape[1], step):
        heads = slice(first, min(first + step, query.shape[1]))
        bias = native_bias(table[:, heads])
        mask = torch.cat([_take(bias, members, 2) for members in plan.sets], dim=2)
        start = 0
        for members in plan.sets:
            part = slice(start, start + len(members))
            start += len(members)
            output[:, heads, part] = F.scaled_dot_product_attention(
                query[:, heads, part], key[:, heads], value[:, heads], attn_mask=_take(mask, members, 1)[None]
            )
    return output


def _take(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """Return x.index_select(dim, index), as a view where the ascending index has no gap."""
    first, count = int(index[0]), len(index)
    if int(index[-1]) - first + 1 == count:
        return x.narrow(dim, first, count)
    return x.index_select(dim, index)
