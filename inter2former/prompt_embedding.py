"""DPE, dynamic prompt embedding: the label map becomes an embedding only where something is known or open.

Outside a box around all labels other than "possibly background" every token gets one vector, the embedding of a map
that is "possibly background" everywhere. Inside, a stem of four stride-2 convolutions embeds the cropped map. The
crop is padded by zeros, so that the first token row and column differ from what the whole map would give: the
released model does so, and so do we.

At inference the crop goes through `sparse_stem`, which does only the work near changes of label.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.derived import Derived
from inter2former.label_map import MAYBE_BACKGROUND
from inter2former.label_tokens import TOKEN, Box
from inter2former.sparse_stem import KINDS, LABELS, Level, prepare, sparse_stem

_BACKGROUND_ROW = KINDS * MAYBE_BACKGROUND


class ReferenceStem(nn.Module):
    """Four 3x3 convolutions of stride 2 and ReLU: (B, label_dim, H, W) -> (B, dim, H / 16, W / 16)."""

    def __init__(self, label_dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((label_dim, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        self.stem = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x)


class PromptEmbedding(nn.Module):
    """Adds the embedding of a label map to the tokens of an image.

    Args:
        label_dim: channels of the label embedding.
        widths: of the stem's four levels; the last is the token width.
        whole: embed the whole map by plain convolutions (DPE off).
    """

    def __init__(self, label_dim: int, widths: tuple[int, ...], whole: bool = False) -> None:
        super().__init__()
        self.whole = whole
        self.ref_embeds = nn.Embedding(LABELS, label_dim)
        self.ref_conv = ReferenceStem(label_dim, widths)
        self._derived = Derived()

    def forward(self, x: Tensor, label: np.ndarray, box: Box) -> Tensor:
        """Return x plus the embedding of the label map.

        Args:
            x: tokens of one image, (h * w, dim), row by row.
            label: (16 h, 16 w) uint8.
            box: tokens to embed; the rest gets the background vector. Ignored when `whole`.
        """
        if self.whole:
            return x + self.dense(label).flatten(1).t()
        grid = label.shape[0] // TOKEN, label.shape[1] // TOKEN
        crop = np.ascontiguousarray(label[(box * TOKEN).slices])
        if not torch.is_grad_enabled():
            weights = [*self.ref_conv.parameters(), self.ref_embeds.weight]
            levels = self._derived.get("levels", weights, self._levels)
            stem = sparse_stem(crop, self.ref_embeds.weight, levels)
            if stem is not None:
                rows, table = stem
                background = table[_BACKGROUND_ROW]
                out = x + background
                out.view(*grid, -1)[box.slices] += F.embedding(rows.to(x.device), table - background)
                return out
        embedding = self.background().expand(*grid, -1).clone()
        embedding[box.slices] = self.dense(crop).permute(1, 2, 0)
        return x + embedding.flatten(0, 1)

    def dense(self, label: np.ndarray) -> Tensor:
        """Return the stem of a whole label map (H, W) uint8 as (dim, H / 16, W / 16)."""
        weight = self.ref_embeds.weight
        labels = torch.from_numpy(np.ascontiguousarray(label)).to(weight.device, torch.int64)
        return self.ref_conv(F.embedding(labels, weight).permute(2, 0, 1)[None])[0]

    def background(self) -> Tensor:
        """Return the vector (dim,) of tokens outside the box."""
        size = 3 * TOKEN
        return self.dense(np.full((size, size), MAYBE_BACKGROUND, np.uint8))[:, 1, 1]

    def _levels(self) -> list[Level]:
        convolutions = [layer for layer in self.ref_conv.stem if isinstance(layer, nn.Conv2d)]
        return prepare(self.ref_embeds.weight, convolutions)
