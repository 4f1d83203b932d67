"""A dense-token decoder on Inter2Former-lite's encoder: SegNext's idea at lite size.

Every click embeds three full-size maps (last probabilities, positive and negative discs), adds them to the image
tokens, attends among all tokens and upsamples the whole map. Widths are those of Inter2Former-lite: what
differs is that nothing is local, routed or sparse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import _lite, _weights
from baselines._images import bilinear, mask_plane
from baselines._lite import DIM, Frame, LiteSegmenter, LiteTrainee
from baselines._maps import group_norm, one_group, resize
from baselines._vit import Block
from inter2former.encoders.lite import LiteEncoder

STEM = (16, 32, 64, DIM)
FINE = (96, 32, 16)
"""Channels of the encoder's maps at strides 8, 4, 2."""
HEADS, BLOCKS = 3, 2
RADIUS = 5


class Upsampling(nn.Module):
    """Doubles the resolution three times, joining the encoder's fine maps, and predicts at stride 2."""

    def __init__(self) -> None:
        super().__init__()
        widths = (DIM, *FINE[1:], 1)
        self.norms = nn.ModuleList(one_group(width) for width in FINE)
        self.convs = nn.ModuleList(
            nn.Conv2d(into, out, 3, padding=1) for into, out in zip(widths, widths[1:], strict=False)
        )

    def forward(self, x: Tensor, fine: Sequence[Tensor]) -> Tensor:
        """Map tokens (B, h, w, 96) and fine maps (B, C, …) at strides 8, 4, 2 to logits (B, 1, 8h, 8w)."""
        for number, (norm, conv, side) in enumerate(zip(self.norms, self.convs, fine, strict=True)):
            assert isinstance(norm, nn.GroupNorm)
            x = x if number == 0 else F.silu(x)
            x = resize(x, *side.shape[2:]) + side.permute(0, 2, 3, 1)
            x = group_norm(norm, x.flatten(1, 2)).view(x.shape)
            x = conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x.permute(0, 3, 1, 2)


class DenseLiteNet(nn.Module):
    """The network.

    Args:
        precision: of the encoder at inference, "fp32" or "bf16".
    """

    def __init__(self, precision: str = "fp32") -> None:
        super().__init__()
        self.backbone = LiteEncoder(DIM, FINE, precision)
        layers: list[nn.Module] = []
        for into, out in zip((3, *STEM), STEM, strict=False):
            layers += [nn.Conv2d(into, out, 3, 2, 1), nn.ReLU(inplace=True)]
        self.prompt = nn.Sequential(*layers)
        self.blocks = nn.ModuleList(Block(DIM, HEADS, eps=1e-5) for _ in range(BLOCKS))
        self.head = Upsampling()

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a normalised image (B, 3, H, W): tokens (B, 96, h, w) and fine maps at strides 8, 4, 2."""
        tokens, fine = self.backbone(image)
        return self.finish(tokens, fine)

    def finish(self, tokens: Tensor, fine: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the encoding from what the backbone gave."""
        return (tokens, *fine)

    def decode(self, encoded: Sequence[Tensor], discs: Tensor, previous: Tensor) -> Tensor:
        """Return logits (B, 1, H / 2, W / 2) from discs (B, 2, H, W) and last probabilities (B, 1, H, W)."""
        image, *fine = encoded
        x = image + self.prompt(torch.cat([previous, discs], dim=1))
        batch, _, h, w = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(-1, DIM)
        for block in self.blocks:
            tokens = block(tokens, batch)
        return self.head(tokens.view(batch, h, w, DIM), fine)

    def forward(self, image: Tensor, discs: Tensor, previous: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of a normalised image (B, 3, H, W) and its prompt maps."""
        return bilinear(self.decode(self.encode(image), discs, previous), *image.shape[2:])


def draw_disc(discs: Tensor, y: int, x: int, positive: bool) -> None:
    """Draw a disc of radius 5 into prompt maps (2, H, W), positive first, in place."""
    height, width = discs.shape[1:]
    top, left = max(y - RADIUS, 0), max(x - RADIUS, 0)
    rows = torch.arange(top, min(y + RADIUS + 1, height), device=discs.device)[:, None]
    columns = torch.arange(left, min(x + RADIUS + 1, width), device=discs.device)
    inside = (rows - y) ** 2 + (columns - x) ** 2 <= RADIUS**2
    discs[0 if positive else 1, top : top + len(rows), left : left + len(columns)][inside] = 1.0


@dataclass(frozen=True)
class Embedding:
    """An encoded image: `DenseLiteNet.encode`'s maps and the frame."""

    maps: tuple[Tensor, ...]
    frame: Frame


class DenseLite(LiteSegmenter[DenseLiteNet]):
    """Segmenter: dense-token decoder on the lite encoder; trainable by `harness.train`."""

    network = DenseLiteNet
    title = "the dense lite baseline"
    packaged = "dense_lite"

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What FLOPs and time are given for."""
        net = self.module
        return {"encoder": net.backbone, "prompt": net.prompt, "attention": net.blocks, "upsampling": net.head}

    def shared(self) -> str:
        """Name and digest of all that an embedding depends on."""
        return f"lite {_weights.digest(self.module.backbone)}"

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image."""
        planes, frame = _lite.prepare(image, self.target_size)
        return Embedding(self.module.encode(planes), frame)

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self.module, embedding)

    def trainee(self, precision: str = "fp32") -> DenseTrainee:
        """Return the training side."""
        return DenseTrainee(self.module, precision)


class Session:
    """One episode: discs and last probabilities at the network's size."""

    def __init__(self, net: DenseLiteNet, embedding: Embedding) -> None:
        self.net, self.embedding = net, embedding
        self.discs = torch.zeros(1, 2, *embedding.frame.size)
        self.previous = torch.zeros(1, 1, *embedding.frame.size)

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 logits after a further (y, x, positive), or None to decode again."""
        frame = self.embedding.frame
        if click is not None:
            y, x, positive = click
            draw_disc(self.discs[0], *frame.to_input(y, x), bool(positive))
        logits = bilinear(self.net.decode(self.embedding.maps, self.discs, self.previous), *frame.size)
        self.previous = torch.sigmoid(logits)
        return frame.restore(logits)

    def copy(self) -> Session:
        """Return another session in this state; neither changes the other."""
        other = Session(self.net, self.embedding)
        other.discs, other.previous = self.discs.clone(), self.previous
        return other

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        self.previous = self.embedding.frame.place(mask_plane(mask))


class DensePrompts:
    """Prompt maps of a batch in training."""

    def __init__(self, batch: int, height: int, width: int, device: torch.device) -> None:
        self.discs = torch.zeros(batch, 2, height, width, device=device)
        self.previous = torch.zeros(batch, 1, height, width, device=device)

    def add_clicks(self, clicks: Sequence[Any]) -> None:
        """Draw the next click of every image; None: no click there."""
        # A new tensor: the backward pass of the round before has need of the old one no more, but a reader may.
        self.discs = self.discs.clone()
        for discs, click in zip(self.discs, clicks, strict=True):
            if click is not None:
                draw_disc(discs, int(click.y), int(click.x), bool(click.positive))

    def add_predictions(self, logits: Tensor) -> None:
        """Note the answer (B, 1, H, W)."""
        self.previous = torch.sigmoid(logits.detach().float())


class DenseTrainee(LiteTrainee[DenseLiteNet]):
    """What the training loop needs: encode a batch once, decode it at every click, name the losses."""

    def prompts(self, batch: int, height: int, width: int) -> DensePrompts:
        """Return fresh prompts."""
        return DensePrompts(batch, height, width, next(self.module.parameters()).device)

    def decode(
        self, encoded: tuple[Tensor, ...], prompts: DensePrompts, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits (B, 1, H, W) and the loss terms; target (B, 1, H, W) of 1, 0 and 255 (ignored)."""
        with self.autocast(target.device):
            logits = self.module.decode(encoded, prompts.discs, prompts.previous)
        logits = bilinear(logits.float(), *target.shape[2:])
        return logits, {"mask": _lite.normalised_focal_loss(logits, target)}
