"""The stem of the prompt embedding, computed only where labels change.

Four 3x3 convolutions of stride 2 see 31x31 pixels. Where these hold one label the result is one of twenty
vectors: five labels, times whether the position lies in the first row or column, next to the zero padding. A
level is therefore a table of vectors (the twenty, a zero, and one for each position that sees several labels)
and a map of row numbers; the next level gathers nine rows for each of its own positions that see several
labels, and multiplies. Same sums as the convolution, and after a click on an object almost none of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.label_tokens import halve, several, to_sets

LABELS = 5
KINDS = 4
"""Interior, first column, first row, corner."""
CONSTANT = LABELS * KINDS
ZERO = CONSTANT
_PROBE = 48
_LABEL_ROW = np.zeros(256, np.int32)
_LABEL_ROW[[1 << label for label in range(LABELS)]] = KINDS * np.arange(LABELS)


@dataclass(frozen=True)
class Level:
    """What one convolution needs.

    Attributes:
        weight: (9 * in, out) kernel, tap after tap.
        bias: (out,).
        constant: (21, out) output where the input holds one label, by label and kind, then a row of zeros.
    """

    weight: Tensor
    bias: Tensor
    constant: Tensor

    @property
    def cost(self) -> int:
        """Multiply-adds per position."""
        return self.weight.numel()


def prepare(embedding: Tensor, convolutions: Sequence[nn.Conv2d]) -> list[Level]:
    """Return the levels of a stem whose input is embedding (5, C), one vector per label."""
    x = embedding.detach()[:, :, None, None].expand(-1, -1, _PROBE, _PROBE)
    levels = []
    for convolution in convolutions:
        x = F.relu(convolution(x)).detach()
        kinds = torch.stack([x[:, :, 1, 1], x[:, :, 1, 0], x[:, :, 0, 1], x[:, :, 0, 0]], dim=1)
        weight = convolution.weight.detach().permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        constant = F.pad(kinds.flatten(0, 1), (0, 0, 0, 1))
        assert convolution.bias is not None
        levels.append(Level(weight, convolution.bias.detach(), constant))
    return levels


def _row_numbers(sets: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """Return the table rows of a level, (h + 1, w + 1) int32, with the padding as first row and column."""
    rows = np.full((sets.shape[0] + 1, sets.shape[1] + 1), ZERO, np.int32)
    inner = rows[1:, 1:]
    np.take(_LABEL_ROW, sets, out=inner, mode="clip")
    inner[0] += 2
    inner[:, 0] += 1
    inner[np.divmod(patterns, sets.shape[1])] = np.arange(ZERO + 1, ZERO + 1 + len(patterns), dtype=np.int32)
    return rows


def _gather(positions: np.ndarray, rows: np.ndarray, width: int) -> Tensor:
    """Return the table rows under the kernel at each position (N,) of a map of `width`, as (N, 9) int64."""
    y, x = np.divmod(positions, width)
    corner = 2 * (y * rows.shape[1] + x)
    taps = (np.arange(3)[:, None] * rows.shape[1] + np.arange(3)).ravel()
    return torch.from_numpy(rows.ravel()[corner[:, None] + taps].astype(np.int64))


def sparse_stem(
    crop: np.ndarray, embedding: Tensor, levels: Sequence[Level], most: float = 0.5
) -> tuple[Tensor, Tensor] | None:
    """Return the stem's output for a label map as (row numbers, table).

    Args:
        crop: (H, W) uint8 labels, H and W multiples of 16.
        embedding: (5, C) vector of each label.
        levels: of `prepare`.
        most: give up, and return None, when more than this share of the convolutions' work would be needed.

    Returns:
        Row numbers (H / 16, W / 16) int64 and table (rows, dim), whose first 21 rows are the last level's
        constants.
    """
    sets, maps = to_sets(crop), []
    for _ in levels:
        sets = halve(sets)
        maps.append((sets, np.flatnonzero(several(sets))))
    needed = sum(level.cost * len(patterns) for level, (_, patterns) in zip(levels, maps, strict=True))
    if needed > most * sum(level.cost * s.size for level, (s, _) in zip(levels, maps, strict=True)):
        return None
    rows = np.full((crop.shape[0] + 1, crop.shape[1] + 1), LABELS, np.uint8)
    rows[1:, 1:] = crop
    table = F.pad(embedding.detach(), (0, 0, 0, 1))
    for level, (sets, patterns) in zip(levels, maps, strict=True):
        taps = _gather(patterns, rows, sets.shape[1]).to(table.device)
        seen = F.embedding(taps, table).flatten(1)
        table = torch.cat([level.constant, torch.addmm(level.bias, seen, level.weight).relu_()])
        rows = _row_numbers(sets, patterns)
    return torch.from_numpy(rows[1:, 1:].astype(np.int64)), table
