"""EfficientSAM (Ti, S): a small plain ViT, and a decoder that takes up to six points and no previous mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import _weights
from baselines._efficientsam_decoder import FILLER, EfficientDecoder, PointEncoder
from baselines._images import bilinear, check_image
from baselines._sam_prompts import sam_neck
from baselines._segmenter import NetworkSegmenter
from baselines._vit import Block, PatchEmbed

PATCH, DEPTH, TABLE_SIDE = 16, 12, 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTHS = {"ti": 192, "s": 384}
"""Model -> width of the image encoder, 64 a head."""
AT_ZERO = float(np.nextafter(np.float32(0), np.float32(-1)))
"""The published rule is logit >= 0, the harness's logit > threshold: the largest float32 below 0."""

_INITIAL = {
    end: _weights.normal(scale)
    for end, scale in (
        ("gaussian_matrix", 1.0),
        ("_token.weight", 1.0),
        ("_tokens.weight", 1.0),
        ("pos_embed", 0.02),
        ("_points.weight", 0.3),
        ("_embeddings.weight", 0.3),
    )
}


class Encoder(nn.Module):
    """Image encoder: (B, 3, T, T) -> (B, 256, T / 16, T / 16); every block attends over the whole image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(width, PATCH)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TABLE_SIDE**2, width))
        self.blocks = nn.ModuleList(Block(width, width // 64, 1e-6) for _ in range(DEPTH))
        self.neck = sam_neck(width)

    def forward(self, image: Tensor) -> Tensor:
        """Encode a normalised image, T a multiple of 16."""
        batch, side = image.shape[0], image.shape[2] // PATCH
        width = self.pos_embed.shape[2]
        table = self.pos_embed[:, 1:].unflatten(1, (TABLE_SIDE, TABLE_SIDE)).permute(0, 3, 1, 2)
        table = F.interpolate(table, (side, side), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
        tokens = self.patch_embed(image) + table.reshape(-1, width).repeat(batch, 1)
        for block in self.blocks:
            tokens = block(tokens, batch)
        return self.neck(tokens.view(batch, side, side, width).permute(0, 3, 1, 2)).contiguous()


class EfficientSamNet(nn.Module):
    """The network, with the names of the released files."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_encoder = Encoder(width)
        self.prompt_encoder = PointEncoder()
        self.mask_decoder = EfficientDecoder()

    def decode(self, image: Tensor, code: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask logits (B, 4, 4h, 4w) and predicted IoU (B, 4) of the four mask tokens.

        Args:
            image, code: (B, 256, h, w) embedding, and the position code of its grid.
            points, labels: as for `PointEncoder`.
        """
        return self.mask_decoder(image, code, self.prompt_encoder(points, labels, PATCH * image.shape[2]), None)


@dataclass(frozen=True)
class Embedding:
    """An encoded image: embedding and position code (1, 256, h, w), and the original height and width."""

    image: Tensor
    code: Tensor
    height: int
    width: int


def prepare(image: np.ndarray, size: int = 1024) -> Tensor:
    """Return the network input (1, 3, size, size) of an (H, W, 3) uint8 RGB image.

    Both sides become `size`, whatever the image's shape, without antialiasing; then normalisation.
    """
    planes = torch.from_numpy(np.ascontiguousarray(check_image(image))).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (bilinear(planes, size, size) - mean) / std


class EfficientSam(NetworkSegmenter[EfficientSamNet]):
    """Segmenter: EfficientSAM by clicks.

    The answer depends on the set of clicks only: there is no previous mask. Negative clicks are points without an
    embedding, which the released networks were not trained with.

    Args:
        model: "ti" or "s".
        weights: a released .pt or a saved .safetensors file; None: random.
        points: so many points always enter, missing ones filled up; of more clicks the FIRST ones count (6 as
            released). Another number changes every answer.
        threshold: logit above which a pixel is object; None for the published "at least 0".
        size: side of the square network input (1024 as released).
        seed: of random weights.

    Raises:
        ValueError: unknown model, no points, or a size that is no multiple of 16.
        WeightsError: the weights do not fit.
    """

    def __init__(
        self,
        model: str = "ti",
        weights: str | None = None,
        points: int = 6,
        threshold: float | None = None,
        size: int = 1024,
        seed: int = 0,
    ) -> None:
        if model not in WIDTHS:
            raise ValueError(f"EfficientSam model={model!r}: choose one of {', '.join(WIDTHS)}")
        if points < 1:
            raise ValueError(f"EfficientSam points={points}: must be at least 1; 6 as released")
        if size < PATCH or size % PATCH:
            raise ValueError(f"EfficientSam size={size}: must be a positive multiple of {PATCH}")
        self.points, self.size = int(points), size
        self.threshold = AT_ZERO if threshold is None else float(threshold)
        module, status = _weights.prepare(
            lambda: EfficientSamNet(WIDTHS[model]), weights, seed, f"EfficientSAM {model}", _INITIAL
        )
        super().__init__(module, status)
        self.encoder_key = f"EfficientSam {self.weights_digest} {size}"
        self.parts: dict[str, nn.Module] = {
            "encoder": module.image_encoder,
            "prompt": module.prompt_encoder,
            "decoder": module.mask_decoder,
        }

    @staticmethod
    def would_fit(shapes: _weights.Shapes, model: str = "ti", **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(EfficientSamNet, WIDTHS[model]))

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image."""
        embedding = self.module.image_encoder(prepare(image, self.size))
        code = self.module.prompt_encoder.pe_layer.grid(*embedding.shape[2:])
        return Embedding(embedding, code, *image.shape[:2])

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Session:
    """One episode: its clicks in image pixels."""

    def __init__(self, segmenter: EfficientSam, embedding: Embedding) -> None:
        self.segmenter, self.embedding = segmenter, embedding
        self.clicks: list[tuple[float, float, bool]] = []

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 logits after a further (y, x, positive), or None to decode again."""
        if click is not None:
            y, x, positive = click
            self.clicks.append((y, x, bool(positive)))
        embedding = self.embedding
        masks, quality = self.segmenter.module.decode(embedding.image, embedding.code, *self.prompts())
        best = 1 + int(quality[0, 1:].argmax())
        size = embedding.height, embedding.width
        return F.interpolate(masks[:, best : best + 1], size, mode="bicubic", align_corners=False)[0, 0].numpy()

    def prompts(self) -> tuple[Tensor, Tensor]:
        """Return points (1, n, 2) in network pixels and labels (1, n): the first clicks, filled up."""
        count, size = self.segmenter.points, self.segmenter.size
        points = torch.full((1, count, 2), float(FILLER))
        labels = torch.full((1, count), FILLER)
        for number, (y, x, positive) in enumerate(self.clicks[:count]):
            points[0, number, 0] = y * size / self.embedding.height
            points[0, number, 1] = x * size / self.embedding.width
            labels[0, number] = int(positive)
        return points, labels
