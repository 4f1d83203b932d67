"""EfficientSAM's prompt encoder and decoder: SAM's with other residuals, GELU, and a norm over the whole map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._maps import group_norm, one_group
from baselines._sam_decoder import MaskDecoder, TwoWayLayer, children
from baselines._sam_prompts import PositionCode

FILLER = -1
"""Label and coordinates of a point that stands in for a missing one."""


class PointEncoder(nn.Module):
    """Points to tokens; a negative click has no embedding of its own."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.pe_layer = PositionCode(dim)
        self.invalid_points = nn.Embedding(1, dim)
        self.point_embeddings = nn.Embedding(1, dim)
        self.bbox_top_left_embeddings = nn.Embedding(1, dim)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, dim)

    def forward(self, points: Tensor, labels: Tensor, size: int) -> Tensor:
        """Return tokens (B, n, dim).

        Args:
            points: (B, n, 2) row and column in network pixels, `FILLER` twice for a filled point.
            labels: (B, n) int64: 1 positive, 0 negative, `FILLER` filled.
            size: side of the network input.
        """
        # A filled point keeps its position code, unlike SAM's padding point.
        code = self.pe_layer((points.flip(-1) + 0.5) / size)
        kinds = (self.invalid_points.weight, torch.zeros_like(self.point_embeddings.weight))
        table = torch.cat([*kinds, self.point_embeddings.weight])
        return code + table[labels + 1]


class GeluMlp(nn.Module):
    """Linear layers with the exact GELU between them.

    Args:
        dim, hidden, out: widths.
        depth: number of hidden layers.
    """

    def __init__(self, dim: int, hidden: int, out: int, depth: int = 2) -> None:
        super().__init__()
        widths = (dim, *[hidden] * depth)
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in zip(widths, widths[1:], strict=False))
        )
        self.fc = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, dim) -> (…, out)."""
        return self.fc(self.layers(x))


class EfficientLayer(TwoWayLayer):
    """A two-way layer whose self-attention keeps its residual; in the second one the position stays in the tokens."""

    def __init__(self, dim: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__(dim, heads, hidden, first)
        self.mlp = GeluMlp(dim, hidden, dim, depth=1)

    def attend_tokens(self, q: Tensor, q_code: Tensor) -> Tensor:
        """Return tokens (B, n, dim) after self-attention and norm."""
        q = q if self.first else q + q_code
        return self.norm1(q + self.self_attn(q, q, q))


class EfficientDecoder(MaskDecoder):
    """The mask decoder, with the names of the released files."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__(dim, layer=EfficientLayer, head=GeluMlp)
        del self.output_upscaling
        self.final_output_upscaling_layers: Any = nn.ModuleList(
            [
                nn.Sequential(nn.ConvTranspose2d(dim, dim // 4, 2, 2), one_group(dim // 4), nn.GELU()),
                nn.Sequential(nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2), nn.GELU()),
            ]
        )

    def upscale(self, pixels: Tensor, skips: Sequence[Tensor] = ()) -> Tensor:
        """Return features (B, 16 * h * w, dim / 8) at four times the resolution, pixels nested within tokens."""
        first, norm = self.final_output_upscaling_layers[0][:2]
        x = F.gelu(group_norm(norm, children(first, pixels)))
        return F.gelu(children(self.final_output_upscaling_layers[1][0], x))
