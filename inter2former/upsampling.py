"""DLU, dynamic local upsampling: from tokens to pixels, but only where the object may be.

A small MLP gives every token a coarse logit; the bounding box of those above -2 goes through four stages that
double the resolution (GroupNorm, bicubic, edge map, 3x3 convolution), the rest of the image is background at
logit -100. Off: the stages run on the whole map, as in training. The two differ inside the box as well, since
the GroupNorm sees the crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.label_tokens import TOKEN, Box, bounding_box

OUTSIDE = -100.0
"""Logit outside the upsampled box."""


class Stage(nn.Module):
    """Doubles the resolution: act(conv(bicubic(norm(x)) + edge))."""

    def __init__(self, width: int, out: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        """Map x (B, C, h, w) and edge (B, C, 2h, 2w) to (B, C', 2h, 2w)."""
        x = F.interpolate(self.norm(x.contiguous()), scale_factor=2, mode="bicubic", align_corners=False)
        x = self.conv(x + edge)
        return x if self.last else F.silu(x)


class DecodeHead(nn.Module):
    """Upsamples tokens to logits.

    Args:
        widths: input widths of the stages; the last stage gives one channel.
        local: upsample only the box of the coarse mask (DLU).
        threshold: of the coarse logit.
    """

    def __init__(self, widths: tuple[int, ...], local: bool = True, threshold: float = -2.0) -> None:
        super().__init__()
        self.local, self.threshold = local, threshold
        after = (*widths[1:], 1)
        self.upsamplers = nn.ModuleList(
            Stage(width, out, last=index == len(widths) - 1)
            for index, (width, out) in enumerate(zip(widths, after, strict=True))
        )
        layers: list[nn.Module] = []
        for width, out in zip(widths, after, strict=True):
            layers += [nn.Conv2d(width, out, 1), nn.SiLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def coarse(self, x: Tensor) -> Tensor:
        """Return the coarse logits (B, 1, h, w) of tokens x (B, C, h, w)."""
        return self.mlp(x)

    def box(self, coarse: Tensor) -> Box:
        """Return the tokens to upsample given one coarse mask (h, w): all if none exceeds the threshold."""
        return bounding_box((coarse > self.threshold).cpu().numpy())

    def whole(self, x: Tensor, edges: Sequence[Tensor]) -> Tensor:
        """Upsample the whole map: x (B, C, h, w), edge maps coarsest first -> logits (B, 1, 16 h, 16 w)."""
        for stage, edge in zip(self.upsamplers, edges, strict=True):
            x = stage(x, edge)
        return x

    def crop(self, x: Tensor, edges: Sequence[Tensor], box: Box) -> Tensor:
        """Upsample one box: x (1, C, h, w) -> logits (1, 1, 16 box height, 16 box width)."""
        rows, columns = box.slices
        x = x[..., rows, columns]
        for number, (stage, edge) in enumerate(zip(self.upsamplers, edges, strict=True)):
            rows, columns = (box * 2 ** (number + 1)).slices
            x = stage(x, edge[..., rows, columns])
        return x

    def forward(self, x: Tensor, edges: Sequence[Tensor], coarse: Tensor | None = None) -> tuple[Tensor, list[Box]]:
        """Return logits (B, 1, 16 h, 16 w) and the box upsampled for each image.

        Args:
            x: tokens (B, C, h, w).
            edges: edge maps, coarsest first, (B, C_i, 2^(i+1) h, 2^(i+1) w).
            coarse: (B, 1, h, w) logits to take the boxes from, in place of the coarse mask.
        """
        batch, _, h, w = x.shape
        everything = Box(0, 0, w, h)
        if not self.local:
            return self.whole(x, edges), [everything] * batch
        if coarse is None:
            coarse = self.coarse(x)
        boxes = [self.box(mask[0]) for mask in coarse]
        logits = []
        for index, box in enumerate(boxes):
            part = self.crop(x[index : index + 1], [edge[index : index + 1] for edge in edges], box)
            if box != everything:
                around = (box.left, w - box.right, box.top, h - box.bottom)
                part = F.pad(part, [TOKEN * side for side in around], value=OUTSIDE)
            logits.append(part)
        return torch.cat(logits), boxes
