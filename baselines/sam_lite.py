"""A SAM-style decoder on Inter2Former-lite's encoder: clicks are tokens, the last mask is the only dense prompt.

SAM's prompt encoder and two-way decoder at the width of Inter2Former-lite, one mask. As in SAM 2, the encoder's fine
maps at strides 8 and 4 join the upscaling, so that the decoder sees what the other lite decoders see there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines import _lite, _weights
from baselines._images import bilinear, mask_logits, mask_plane
from baselines._lite import DIM, PATCH, Frame, LiteSegmenter, LiteTrainee
from baselines._maps import nest
from baselines._sam_decoder import MaskDecoder
from baselines._sam_prompts import PromptEncoder, click_tensors
from inter2former.encoders.lite import LiteEncoder

FINE = (96, 32)
"""Channels of the encoder's maps at strides 8 and 4; masks at stride 4 have no use for a finer one."""
HEADS, HIDDEN = 3, 8 * DIM

_INITIAL = {
    end: _weights.normal(1.0)
    for end in (
        "gaussian_matrix",
        "point_embeds.0.weight",
        "point_embeds.1.weight",
        "_embed.weight",
        "_token.weight",
        "_tokens.weight",
        # With biases of 0, logits near 0 would leave LayerNorm nothing but rounding to enlarge.
        "mask_downscaling.0.bias",
        "mask_downscaling.3.bias",
    )
}


class SamLiteNet(nn.Module):
    """The network.

    Args:
        precision: of the encoder at inference, "fp32" or "bf16".
    """

    def __init__(self, precision: str = "fp32") -> None:
        super().__init__()
        self.backbone = LiteEncoder(DIM, FINE, precision)
        self.skips = nn.ModuleList(
            nn.Conv2d(into, out, 1) for into, out in zip(FINE, (DIM // 4, DIM // 8), strict=True)
        )
        self.neck = PromptEncoder(DIM, kinds=2)
        self.decode_head = MaskDecoder(DIM, HEADS, HIDDEN, masks=1, quality=False)

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a normalised image (B, 3, H, W).

        Returns:
            Tokens (B, 96, h, w), and in nested order the fine maps (B, 4 h w, 24) and (B, 16 h w, 12).
        """
        tokens, fine = self.backbone(image)
        return self.finish(tokens, fine)

    def finish(self, tokens: Tensor, fine: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the encoding from what the backbone gave."""
        maps = [conv(side).permute(0, 2, 3, 1) for conv, side in zip(self.skips, fine, strict=True)]
        return tokens, nest(maps[0], 1), nest(maps[1], 2)

    def decode(
        self, encoded: Sequence[Tensor], code: Tensor, points: Tensor, kinds: Tensor, previous: Tensor | None
    ) -> Tensor:
        """Return logits (B, 1, 4h, 4w).

        Args:
            encoded: of `encode`.
            code: (1, 96, h, w) position code of the grid.
            points: (B, n, 2) row and column in input pixels.
            kinds: (B, n) int64: 1 positive, 0 negative, -1 no click.
            previous: the last logits (B, 1, 4h, 4w), None before the first click.
        """
        image, *skips = encoded
        batch, _, h, w = image.shape
        sparse = self.neck.sparse(points, kinds, (PATCH * h, PATCH * w))
        dense = self.neck.dense(previous, batch, h, w)
        return self.decode_head(image, code, sparse, dense, skips)[0]

    def forward(self, image: Tensor, points: Tensor, kinds: Tensor, previous: Tensor | None = None) -> Tensor:
        """Return logits (B, 1, H, W) of a normalised image (B, 3, H, W), its clicks and its last logits."""
        encoded = self.encode(image)
        code = self.neck.grid_code(*encoded[0].shape[2:])
        return bilinear(self.decode(encoded, code, points, kinds, previous), *image.shape[2:])


@dataclass(frozen=True)
class Embedding:
    """An encoded image: `SamLiteNet.encode`'s maps, the position code of their grid, and the frame."""

    maps: tuple[Tensor, ...]
    code: Tensor
    frame: Frame


class SamLite(LiteSegmenter[SamLiteNet]):
    """Segmenter: SAM-style decoder on the lite encoder; trainable by `harness.train`."""

    network = SamLiteNet
    title = "the SAM-style lite baseline"
    packaged = "sam_lite"
    initial = _INITIAL

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What FLOPs and time are given for."""
        return {"encoder": self.module.backbone, "prompt": self.module.neck, "decoder": self.module.decode_head}

    def shared(self) -> str:
        """Name and digest of all that an embedding depends on: also the projected fine maps and the position code."""
        return f"sam_lite {self.weights_digest}"

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image."""
        planes, frame = _lite.prepare(image, self.target_size)
        maps = self.module.encode(planes)
        return Embedding(maps, self.module.neck.grid_code(*maps[0].shape[2:]), frame)

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self.module, embedding)

    def trainee(self, precision: str = "fp32") -> SamTrainee:
        """Return the training side."""
        return SamTrainee(self.module, precision)


class Session:
    """One episode: its clicks in input pixels and the last low-resolution logits."""

    def __init__(self, net: SamLiteNet, embedding: Embedding) -> None:
        self.net, self.embedding = net, embedding
        self.clicks: list[tuple[float, float, bool]] = []
        self.previous: Tensor | None = None

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 logits after a further (y, x, positive), or None to decode again."""
        frame, embedding = self.embedding.frame, self.embedding
        if click is not None:
            y, x, positive = click
            self.clicks.append((*frame.to_input(y, x), bool(positive)))
        points, kinds = click_tensors(self.clicks)
        self.previous = self.net.decode(embedding.maps, embedding.code, points, kinds, self.previous)
        return frame.restore(self.previous)

    def copy(self) -> Session:
        """Return another session in this state; neither changes the other."""
        other = Session(self.net, self.embedding)
        other.clicks, other.previous = [*self.clicks], self.previous
        return other

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        h, w = self.embedding.maps[0].shape[2:]
        self.previous = mask_logits(bilinear(self.embedding.frame.place(mask_plane(mask)), 4 * h, 4 * w))


class SamPrompts:
    """Clicks and last low-resolution logits of a batch in training."""

    def __init__(self, batch: int, device: torch.device) -> None:
        self.points = torch.zeros(batch, 0, 2, device=device)
        self.kinds = torch.zeros(batch, 0, dtype=torch.int64, device=device)
        self.previous: Tensor | None = None
        self.answered: Tensor | None = None

    def add_clicks(self, clicks: Sequence[Any]) -> None:
        """Append the next click of every image; None: no click there."""
        points = [[0, 0] if click is None else [int(click.y), int(click.x)] for click in clicks]
        kinds = [-1 if click is None else int(click.positive) for click in clicks]
        self.points = torch.cat([self.points, self.points.new_tensor(points)[:, None]], dim=1)
        self.kinds = torch.cat([self.kinds, self.kinds.new_tensor(kinds)[:, None]], dim=1)

    def add_predictions(self, logits: Tensor) -> None:
        """Take the answer as the last logits; those of the decoder's own resolution, which the trainee left here."""
        self.previous = self.answered


class SamTrainee(LiteTrainee[SamLiteNet]):
    """What the training loop needs: encode a batch once, decode it at every click, name the losses."""

    def prompts(self, batch: int, height: int, width: int) -> SamPrompts:
        """Return fresh prompts."""
        return SamPrompts(batch, next(self.module.parameters()).device)

    def decode(
        self, encoded: tuple[Tensor, ...], prompts: SamPrompts, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits (B, 1, H, W) and the loss terms; target (B, 1, H, W) of 1, 0 and 255 (ignored)."""
        code = self.module.neck.grid_code(*encoded[0].shape[2:])
        with self.autocast(target.device):
            low = self.module.decode(encoded, code, prompts.points, prompts.kinds, prompts.previous).float()
        prompts.answered = low.detach()
        logits = bilinear(low, *target.shape[2:])
        return logits, {"mask": _lite.normalised_focal_loss(logits, target)}
