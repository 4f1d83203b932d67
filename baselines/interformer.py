"""InterFormer "light" (ViT-B): a pyramid stored per image, a label map embedded at stride 4, an I-MSA decoder.

Images run at their own size, padded to multiples of 32. Clicks enter through a five-valued label map alone; between
clicks every prediction moves the labels that no click has fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines import _labels, _weights
from baselines._images import bilinear, mask_plane, normalised, pad_to, up_to_multiple
from baselines._imsa import WIDTHS, AuxiliaryHead, Neck, UPerHead
from baselines._maps import pyramid_levels, run_level
from baselines._relative_bias import CELLS, TABLE_ROWS, Layout, attend, layout
from baselines._segmenter import NetworkSegmenter
from baselines._vit import CHUNK_TOKENS, Attention, PatchEmbed, merge_heads
from inter2former.encoders.linear import Linear

PATCH, DIM, HEADS, DEPTH = 16, 768, 12, 12
DIVISOR = 32


class BiasedAttention(Attention):
    """Global attention with a relative position bias; the class token comes first in every sequence."""

    def __init__(self) -> None:
        super().__init__(DIM, HEADS)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(TABLE_ROWS, HEADS))

    def attend_biased(self, x: Tensor, batch: int, plan: Layout) -> Tensor:
        """Attend: normalised x (batch * (1 + N), C) -> the same, unprojected."""
        query, key, value = self.split(self.qkv(x), batch)
        return merge_heads(attend(query, key, value, self.relative_position_bias_table, plan))


class FeedForward(nn.Module):
    """The MLP, with the nested names of the released checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList([nn.ModuleList([Linear(DIM, 4 * DIM)]), Linear(4 * DIM, DIM)])

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, C)."""
        return self.layers[1](self.layers[0][0](x, gelu=True))


class Layer(nn.Module):
    """x += gamma_1 * Attention(LN(x)); x += gamma_2 * MLP(LN(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.ones(DIM))
        self.gamma_2 = nn.Parameter(torch.ones(DIM))
        self.ln1 = nn.LayerNorm(DIM, eps=1e-6)
        self.attn = BiasedAttention()
        self.ln2 = nn.LayerNorm(DIM, eps=1e-6)
        self.ffn = FeedForward()

    def forward(self, x: Tensor, batch: int, plan: Layout) -> Tensor:
        """Map x (batch * (1 + N), C)."""
        attended = self.attn.proj(self.attn.attend_biased(self.ln1(x), batch, plan))
        x = torch.addcmul(x, self.gamma_1, attended)
        parts = [torch.addcmul(part, self.gamma_2, self.ffn(self.ln2(part))) for part in x.split(CHUNK_TOKENS)]
        return torch.cat(parts)


class Pyramid(nn.Module):
    """Four maps of strides 4, 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.rescale_ops = nn.ModuleList(pyramid_levels(DIM, WIDTHS))

    def forward(self, x: Tensor, height: int, width: int) -> list[Tensor]:
        """Map tokens (B, height * width, 768) to four maps (B, h, w, C), finest first."""
        return [run_level(level, x, height, width) for level in self.rescale_ops]  # type: ignore[arg-type]


class Backbone(nn.Module):
    """Plain ViT-B with a class token and global attention in every block, then the pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, CELLS + 1, DIM))
        self.patch_embed = PatchEmbed(DIM, PATCH, name="projection")
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))
        self.fpn = Pyramid()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode a normalised image (B, 3, H, W), H and W multiples of 32, to the four pyramid maps (B, h, w, C)."""
        batch, _, height, width = image.shape
        h, w = height // PATCH, width // PATCH
        plan = layout(h, w)
        patches = self.patch_embed(image).view(batch, h * w, DIM)[:, plan.order]
        patches = patches + self.pos_embed[:, 1:][:, plan.cells]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        x = torch.cat([first, patches], dim=1).view(-1, DIM)
        for layer in self.layers:
            x = layer(x, batch, plan)
        return self.fpn(x.view(batch, -1, DIM)[:, 1:][:, plan.inverse], h, w)


class InterFormerNet(nn.Module):
    """The network, with the parameter names of the released checkpoints (without their index buffers)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = Neck()
        self.decode_head = UPerHead()
        self.auxiliary_head = AuxiliaryHead()

    def decode(self, level: Tensor, stored: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return logits (B, 2, H / 4, W / 4) from pyramid level 0, stored tokens, and labels (B, H, W)."""
        return self.decode_head(self.neck(level, stored, labels))


DERIVED = ("relative_position_index",)
"""Ends of keys of a released file that follow from the architecture."""


@dataclass(frozen=True)
class Embedding:
    """An encoded image.

    Attributes:
        pyramid: four maps (1, h, w, C), strides 4 to 32.
        stored: tokens (1, keys, C) that the first block of each stage attends to.
        height, width: of the image before padding.
    """

    pyramid: tuple[Tensor, ...]
    stored: tuple[Tensor, ...]
    height: int
    width: int


class InterFormer(NetworkSegmenter[InterFormerNet]):
    """Segmenter: InterFormer.

    Args:
        variant: "light", the released ViT-B model (the one called "tiny" is larger and not built here).
        weights: a released .pth or a saved .safetensors file; None for seeded random values.
        seed: of random weights.
    """

    threshold = 0.0

    def __init__(self, variant: str = "light", weights: str | None = None, seed: int = 0) -> None:
        if variant != "light":
            raise ValueError(f"interformer variant={variant!r}: choose light")
        module, status = _weights.prepare(
            InterFormerNet,
            weights,
            seed,
            "InterFormer light",
            initial={
                "gamma_1": lambda shape, _: torch.ones(shape),
                "gamma_2": lambda shape, _: torch.ones(shape),
                "pos_embed": _weights.normal(0.02),
                "cls_token": _weights.normal(0.02),
                "relative_position_bias_table": _weights.normal(0.02),
                "neck.patch_embed": _weights.normal(1.0),
            },
            derived=DERIVED,
        )
        super().__init__(module, status)
        # The embedding holds pooled tokens of the neck, so the whole network decides who can share it.
        self.encoder_key = f"interformer {self.weights_digest}"
        self.parts: dict[str, nn.Module] = {
            "encoder": module.backbone,
            "neck": module.neck,
            "head": module.decode_head,
        }

    @staticmethod
    def would_fit(shapes: _weights.Shapes, **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(InterFormerNet), DERIVED)

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image at its own size."""
        planes = normalised(image)
        height, width = (up_to_multiple(size, DIVISOR) for size in planes.shape[2:])
        pyramid = self.module.backbone(pad_to(planes, height, width))
        stored = self.module.neck.pool(pyramid)
        return Embedding(tuple(pyramid), tuple(stored), image.shape[0], image.shape[1])

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Session:
    """One episode: its label map at the padded size."""

    def __init__(self, segmenter: InterFormer, embedding: Embedding) -> None:
        self.net, self.embedding = segmenter.module, embedding
        _, h, w, _ = embedding.pyramid[0].shape
        self.labels = _labels.start(4 * h, 4 * w)

    @torch.inference_mode()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 logit differences after a further (y, x, positive), or None to decode again."""
        if click is not None:
            y, x, positive = click
            self.labels = _labels.after_click(self.labels, int(y), int(x), bool(positive))
        embedding = self.embedding
        head = self.net.decode(embedding.pyramid[0], embedding.stored, self.labels[None])
        logits = bilinear(head, *self.labels.shape)
        scores = logits[0, 1] - logits[0, 0]
        self.labels = _labels.after_prediction(self.labels, scores > 0.0)
        return scores[: embedding.height, : embedding.width].clone().numpy()

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer, as if it had stood: clicked pixels keep their label."""
        stood = pad_to(mask_plane(mask), *self.labels.shape)[0, 0] > 0.5
        for _ in range(2):  # a flipped prediction passes through "unknown" and settles at the next step
            self.labels = _labels.after_prediction(self.labels, stood)
