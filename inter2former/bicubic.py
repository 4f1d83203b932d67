"""Doubling a map by bicubic interpolation as matrices, alone and together with a 3x3 convolution after it.

Bicubic doubling is linear and separable, so it commutes with everything that mixes channels only. A 3x3
convolution of a doubled map is therefore (a) nine channel mixings at the low resolution, whose results are
doubled, shifted and summed by one matrix per axis (`strips`), or (b) one 5x5 convolution at the low
resolution that gives the 2x2 new pixels as channels (`doubling_kernel`). Both do fewer operations than
convolving the doubled map, and never build it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

A = -0.75
"""Free parameter of the cubic, PyTorch's."""
STRIP = 8
"""Low-resolution positions per strip: shorter strips waste less on the zeros of a band matrix."""


def _taps(fraction: float) -> tuple[float, float, float, float]:
    """Return the weights of positions -1, 0, 1, 2 for a point `fraction` to the right of position 0."""

    def near(x: float) -> float:
        return ((A + 2) * x - (A + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A

    return far(1 + fraction), near(fraction), near(1 - fraction), far(2 - fraction)


def doubling_rows(positions: Sequence[int], size: int) -> Tensor:
    """Return the rows of the doubling matrix for high-resolution positions, which may lie outside: (len,
    size) float64.

    Low-resolution positions are clamped to the map, as at its edges.
    """
    rows = torch.zeros(len(positions), size, dtype=torch.float64)
    for row, position in zip(rows, positions, strict=True):
        start, fraction = (position // 2 - 1, 0.75) if position % 2 == 0 else (position // 2, 0.25)
        for tap, weight in enumerate(_taps(fraction), start=start - 1):
            row[min(max(tap, 0), size - 1)] += weight
    return rows


BEYOND = (sum(_taps(0.25)[:3]), _taps(0.25)[3])
"""Weights of the outermost and the next position for the high-resolution position just outside a map."""


class Strip(NamedTuple):
    """A block of a band matrix: high-resolution positions `out` from low-resolution positions `into`.

    `parts` (3, out, into) are the matrices of the three maps; `matrix` (out, 3 into) is the same for maps that lie
    position by position.
    """

    into: slice
    out: slice
    parts: Tensor
    matrix: Tensor

    @property
    def threefold(self) -> slice:
        """`into` where every position holds its three maps."""
        return slice(3 * self.into.start, 3 * self.into.stop)


@cache
def _strip_matrices(before: int, count: int, after: int) -> tuple[Tensor, Tensor]:
    """Return the matrices of a strip of `count` positions that has this many (0 to 2) more on either side."""
    size = before + count + after
    doubled = doubling_rows(range(2 * size), size)
    whole = torch.zeros(3, 2 * size, size, dtype=torch.float64)
    whole[0, 1:] = doubled[:-1]
    whole[1] = doubled
    whole[2, :-1] = doubled[1:]
    parts = whole[:, 2 * before : 2 * (before + count)].float()
    return parts.contiguous(), parts.permute(1, 2, 0).flatten(1).contiguous()


def strips(size: int) -> Iterator[Strip]:
    """Yield the matrix that doubles three maps and sums them shifted by -1, 0, 1 (zero outside), in strips.

    out[y] = sum over d of doubled_d[y + d], for `size` low-resolution and 2 size high-resolution positions.
    """
    for start in range(0, size, STRIP):
        stop = min(start + STRIP, size)
        before, after = min(start, 2), min(size - stop, 2)
        matrices = _strip_matrices(before, stop - start, after)
        yield Strip(slice(start - before, stop + after), slice(2 * start, 2 * stop), *matrices)


def doubling_kernel(weight: Tensor, factor: int) -> Tensor:
    """Return the kernel that is a doubling followed by the convolution `weight`, for maps folded into
    channels.

    A map folded by `factor` f has the f x f pixels of a cell as channels (row, column, channel). The kernel takes a
    map folded by f, with two low-resolution pixels replicated on each side in place of its normal padding, to the
    result folded by 2 f. It is exact but for the outermost pixels, where the convolution would see zeros outside.

    Args:
        weight: (out, in, 3, 3).
        factor: 1 (kernel 5x5) or 2 (kernel 3x3).

    Returns:
        (4 f f out, f f in, k, k).
    """
    out, into = weight.shape[:2]
    size = factor + 8
    rows = doubling_rows(range(2 * 4 - 1, 2 * (4 + factor) + 1), size)[:, 2 : 6 + factor].to(weight)
    taps = torch.stack([rows[shift : shift + 2 * factor] for shift in range(3)], dim=1)
    kernel = torch.einsum("ocde,pdl,qem->pqolmc", weight, taps, taps)
    cells = (factor + 4) // factor
    kernel = kernel.reshape(4 * factor**2 * out, cells, factor, cells, factor, into)
    return kernel.permute(0, 2, 4, 5, 1, 3).reshape(4 * factor**2 * out, factor**2 * into, cells, cells)


def folded_kernel(weight: Tensor, factor: int) -> Tensor:
    """Return the kernel (f f out, in f f, 3, 3) of a 3x3 convolution between folded maps.

    Input channels are in the order of `torch.pixel_unshuffle` (channel, row, column), outputs (row, column,
    channel).
    """
    out, into = weight.shape[:2]
    taps = torch.zeros(factor, 3, 3 * factor).to(weight)
    for pixel in range(factor):
        for shift in range(3):
            taps[pixel, shift, factor + pixel + shift - 1] = 1
    kernel = torch.einsum("ocde,pdl,qem->pqoclm", weight, taps, taps)
    kernel = kernel.reshape(factor**2 * out, into, 3, factor, 3, factor)
    return kernel.permute(0, 1, 3, 5, 2, 4).reshape(factor**2 * out, into * factor**2, 3, 3)
