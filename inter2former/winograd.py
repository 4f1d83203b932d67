"""3x3 convolution by Winograd's F(4x4, 3x3): four output rows and columns at a time, a quarter of the multiplications.

With evaluation points 0, 1, -1, 1/2, -2 and infinity (Barabasz et al., "Error Analysis and Improving the Accuracy of
Winograd Convolution for Deep Neural Networks", 2020) float32 errors are about those of the direct sum. It pays
where channels are many: the transforms cost the same per pixel and channel, the products shrink.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

TILE = 4
PATCH = TILE + 2
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
CHUNK_TILES = 256


@lru_cache(maxsize=1)
def transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (A', G, B') in float64, (4, 6), (6, 3), (6, 6): y = A' [(G g) * (B' d)] for a correlation y = d * g.

    Toom-Cook: B' is the inverse transpose of the Vandermonde matrix of the points, A' and G are its first columns;
    rows of B' are scaled to end in 1, and G takes up the scale.
    """
    vandermonde = np.array([[p**k for k in range(PATCH)] for p in POINTS] + [[0.0] * (PATCH - 1) + [1.0]])
    infinity = np.eye(1, TILE, TILE - 1), np.eye(1, 3, 2)
    output = np.vstack([vandermonde[:-1, :TILE], infinity[0]]).T
    kernel = np.vstack([vandermonde[:-1, :3], infinity[1]])
    data = np.linalg.inv(vandermonde).T
    scale = np.abs([row[np.flatnonzero(np.abs(row) > 1e-12)[-1]] for row in data])[:, None]
    return output, kernel * scale, data / scale


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def _plane_transforms() -> tuple[Tensor, Tensor]:
    """Return the two-dimensional data (36, 36) and output (16, 36) transforms."""
    output, _, data = transforms()
    return torch.from_numpy(np.kron(data, data)).float(), torch.from_numpy(np.kron(output, output)).float()


def transform_kernel(weight: Tensor) -> Tensor:
    """Return the transformed kernel (36, in, out) of a convolution weight (out, in, 3, 3)."""
    kernel = torch.from_numpy(transforms()[1])
    transformed = torch.einsum("ai,bj,ocij->abco", kernel, kernel, weight.detach().double())
    return transformed.flatten(0, 1).float().contiguous()


class Winograd:
    """Scratch memory for maps of one size, and the convolution in bands of tiles that fit a core's share of cache."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        self.height, self.width = height, width
        self.rows, self.columns = -(-height // TILE), -(-width // TILE)
        self.step = max(1, min(self.rows, CHUNK_TILES // self.columns))
        tiles = self.step * self.columns
        self.band = torch.zeros(self.step * TILE + 2, self.columns * TILE + 2, channels)
        self.patches = torch.empty(PATCH**2, tiles, channels)
        self.data = torch.empty(PATCH**2, tiles * channels)
        self.product = torch.empty(PATCH**2, tiles, channels)
        self.tiles = torch.empty(TILE**2, tiles * channels)

    def convolve(self, x: Tensor, kernel: Tensor, bias: Tensor, out: Tensor, add: bool = False) -> None:
        """Write (or add) to out (B, H, W, out) the convolution of x (B, H, W, in) with a transformed kernel."""
        for sample in range(x.shape[0]):
            for row in range(0, self.rows, self.step):
                self._convolve_band(x[sample], kernel, bias, out[sample], add, row * TILE)

    def _convolve_band(self, x: Tensor, kernel: Tensor, bias: Tensor, out: Tensor, add: bool, top: int) -> None:
        first, last = max(top - 1, 0), min(top - 1 + len(self.band), self.height)
        inside = self.band[first - top + 1 : last - top + 1]
        inside[:, 1 : self.width + 1] = x[first:last]
        self.band[: first - top + 1] = 0.0
        self.band[last - top + 1 :] = 0.0
        grid = (TILE, TILE, self.step, self.columns)
        windows = self.band.unfold(0, PATCH, TILE).unfold(1, PATCH, TILE).permute(3, 4, 0, 1, 2)
        to_patch, from_patch = _plane_transforms()
        self.patches.view(PATCH, PATCH, self.step, self.columns, -1).copy_(windows)
        torch.mm(to_patch, self.patches.flatten(1), out=self.data)
        torch.bmm(self.data.view(self.patches.shape), kernel, out=self.product)
        torch.mm(from_patch, self.product.flatten(1), out=self.tiles)
        tiles = self.tiles.view(*grid, -1).add_(bias).permute(2, 0, 3, 1, 4)
        target = out[top : top + self.step * TILE]
        if target.shape[0] == self.step * TILE and self.width == self.columns * TILE:
            target = target.unflatten(0, (-1, TILE)).unflatten(2, (-1, TILE))
        else:
            tiles = tiles.reshape(self.step * TILE, self.columns * TILE, -1)[: target.shape[0], : self.width]
        if add:
            target.add_(tiles)
        else:
            target.copy_(tiles)
