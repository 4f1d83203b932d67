"""DLU, dynamic local upsampling: from tokens to pixels, but only where the object may be.

A small MLP gives every token a coarse logit; the bounding box of those above -2 goes through four stages that
double the resolution (GroupNorm, bicubic, edge map, 3x3 convolution), the rest of the image is background at
logit -100. Off: the stages run on the whole map, as in training. The two differ inside the box as well, since
the GroupNorm sees the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.derived import Derived
from inter2former.label_tokens import TOKEN, Box, bounding_box
from inter2former.stages import Stage, edge_terms, run

OUTSIDE = -100.0
"""Logit outside the upsampled box."""


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
        self._derived = Derived()

    def coarse(self, x: Tensor) -> Tensor:
        """Return the coarse logits (B, 1, h, w) of tokens x (B, C, h, w)."""
        batch, _, h, w = x.shape
        y = x.permute(0, 2, 3, 1).flatten(0, 2)
        for index, layer in enumerate(self.mlp):
            if isinstance(layer, nn.Conv2d):
                weight = layer.weight
                kernel = weight.flatten(1).t()
                if not torch.is_grad_enabled():
                    kernel = self._derived.get(index, [weight], kernel.contiguous)
                y = torch.addmm(cast(Tensor, layer.bias), y, kernel)
            else:
                y = F.silu(y)
        return y.view(batch, h, w, 1).permute(0, 3, 1, 2)

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
        x = x[..., box.slices[0], box.slices[1]]
        for number, (stage, edge) in enumerate(zip(self.upsamplers, edges, strict=True)):
            rows, columns = (box * 2 ** (number + 1)).slices
            x = stage(x, edge[..., rows, columns])
        return x

    def edge_terms(self, edges: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return, for each image, what `forward` needs of its edge maps beside themselves: once per image."""
        stages = cast(Sequence[Stage], self.upsamplers)
        return [edge_terms(stages, [edge[i : i + 1] for edge in edges]) for i in range(len(edges[0]))]

    def forward(
        self,
        x: Tensor,
        edges: Sequence[Tensor],
        coarse: Tensor | None = None,
        terms: Sequence[Sequence[Tensor]] | None = None,
    ) -> tuple[Tensor, list[Box]]:
        """Return logits (B, 1, 16 h, 16 w) and the box upsampled for each image.

        Args:
            x: tokens (B, C, h, w).
            edges: edge maps, coarsest first, (B, C_i, 2^(i+1) h, 2^(i+1) w).
            coarse: (B, 1, h, w) logits to take the boxes from, in place of the coarse mask.
            terms: of `edge_terms`; computed here if missing.
        """
        batch, _, h, w = x.shape
        everything = Box(0, 0, w, h)
        if not self.local:
            boxes = [everything] * batch
        else:
            boxes = [self.box(mask[0]) for mask in (self.coarse(x) if coarse is None else coarse)]
        if torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu":
            return self._plain(x, edges, boxes), boxes
        terms = self.edge_terms(edges) if terms is None else terms
        logits = x.new_empty(batch, 1, TOKEN * h, TOKEN * w)
        tokens = x.permute(0, 2, 3, 1)
        stages = cast(Sequence[Stage], self.upsamplers)
        for index, box in enumerate(boxes):
            one = [edge[index : index + 1] for edge in edges]
            part = run(stages, self._derived, tokens[index], terms[index], one, box)
            if box != everything:
                logits[index].fill_(OUTSIDE)
            rows, columns = (box * TOKEN).slices
            logits[index, 0, rows, columns].view(part.shape).copy_(part)
        return logits, boxes

    def _plain(self, x: Tensor, edges: Sequence[Tensor], boxes: Sequence[Box]) -> Tensor:
        """Upsample by the stages as they are written: for gradients and other devices."""
        h, w = x.shape[2:]
        logits = []
        for index, box in enumerate(boxes):
            part = self.crop(x[index : index + 1], [edge[index : index + 1] for edge in edges], box)
            around = (box.left, w - box.right, box.top, h - box.bottom)
            logits.append(F.pad(part, [TOKEN * side for side in around], value=OUTSIDE))
        return torch.cat(logits)
