"""Which tokens share an attention window, and which cells of a window are padding.

HRSAM pads the token grid (8 rows and columns at the top and left when shifted, then up to multiples of 16 at the
bottom and right) and attends within 16x16 windows. Padded cells are keys and values but their own outputs are thrown
away, so here only real tokens are kept: windows are grouped by which of their cells are real.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

WINDOW = 16


@dataclass(frozen=True)
class Group:
    """Windows with the same real cells.

    Attributes:
        count: number of windows.
        cells: (n,) int64, real cells of a window in row-major order, 0..255.
        padded: (256 - n,) int64, the other cells.
    """

    count: int
    cells: Tensor
    padded: Tensor


@dataclass(frozen=True)
class Plan:
    """Order of tokens in which every window is contiguous.

    Attributes:
        order: (tokens,) int64, sequence position of each token in window order.
        inverse: (tokens,) int64, the way back.
        groups: in window order.
    """

    order: Tensor
    inverse: Tensor
    groups: tuple[Group, ...]


def _spans(size: int, shift: int) -> list[tuple[int, int, int]]:
    """Return (first token, tokens, first cell) of each window along one side of `size` tokens."""
    pad = (WINDOW - shift) % WINDOW
    starts = range(-pad, size, WINDOW)
    return [(max(s, 0), min(s + WINDOW, size) - max(s, 0), max(-s, 0)) for s in starts]


def shift_of(block: int, height: int, width: int) -> int:
    """Return the shift of a block on a scale of (height, width) tokens: 8 in odd blocks unless one window holds all."""
    return WINDOW // 2 if block % 2 == 1 and max(height, width) > WINDOW else 0


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def plan_windows(batch: int, scales: tuple[tuple[int, int], ...], block_parity: int) -> Plan:
    """Return the plan for sequences that hold the tokens of several scales one after another, row-major.

    Args:
        batch: samples; tokens are flattened to (batch * tokens,).
        scales: (height, width) in tokens of each scale.
        block_parity: 0 for blocks 0, 2, …; 1 for blocks 1, 3, ….

    Plans are kept; they are made outside inference mode so that a plan from inference also serves training.
    """
    tokens = sum(h * w for h, w in scales)
    members: dict[tuple[int, int, int, int], list[Tensor]] = {}
    offset = 0
    for height, width in scales:
        positions = offset + torch.arange(height * width).view(height, width)
        shift = shift_of(block_parity, height, width)
        for row, rows, top in _spans(height, shift):
            for column, columns, left in _spans(width, shift):
                window = positions[row : row + rows, column : column + columns].reshape(-1)
                members.setdefault((top, rows, left, columns), []).append(window)
        offset += height * width
    order, groups = [], []
    for (top, rows, left, columns), windows in members.items():
        real = torch.zeros(WINDOW, WINDOW, dtype=torch.bool)
        real[top : top + rows, left : left + columns] = True
        groups.append(
            Group(
                count=len(windows) * batch,
                cells=real.flatten().nonzero()[:, 0],
                padded=(~real).flatten().nonzero()[:, 0],
            )
        )
        stacked = torch.stack(windows)
        order.append((torch.arange(batch).view(-1, 1, 1) * tokens + stacked).reshape(-1))
    flat = torch.cat(order)
    inverse = torch.empty_like(flat)
    inverse[flat] = torch.arange(flat.numel())
    return Plan(flat, inverse, tuple(groups))
