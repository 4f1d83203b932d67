"""SegNext (ViT-B, one or two fusion blocks): a dense prompt map is fused with the image tokens at every click.

The image is distorted to a square, whatever its aspect ratio. Each click draws all discs so far and the last
probability map into three channels, embeds them like an image, adds them to the image tokens and runs global
attention over all of them: 105 or 159 GMACs per click at 1024, beside 466 per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines import _weights
from baselines._images import bilinear, check_image, mask_plane
from baselines._maps import pyramid_levels, run_level
from baselines._segmentation_head import ConvModule, join_levels
from baselines._segmenter import NetworkSegmenter
from baselines._vit import Block, PatchEmbed, unwindows, windows

PATCH, DIM, HEADS, DEPTH = 16, 768, 12, 12
WINDOW_TOKENS = 14
"""Side of a window as configured; it only counts the windows, which then share the side evenly."""
GLOBAL_BLOCKS = (2, 5, 8, 11)
RADIUS = 5
THRESHOLD = 0.49
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Plain ViT-B with 8 window and 4 global attention blocks, no class token and no final norm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.side = size // PATCH
        self.window = self.side // (self.side // WINDOW_TOKENS)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.side**2 + 1, DIM))
        self.patch_embed = PatchEmbed(DIM, PATCH)
        self.blocks = nn.ModuleList(Block(DIM, HEADS, eps=1e-6) for _ in range(DEPTH))
        self.fc_norm = nn.LayerNorm(DIM)  # in every released file, never used

    def forward(self, image: Tensor) -> Tensor:
        """Encode a normalised image (B, 3, size, size) to tokens (B, N, 768)."""
        batch, side, window = image.shape[0], self.side, self.window
        x = self.patch_embed(image).view(batch, -1, DIM) + self.pos_embed[:, 1:]
        x = windows(x.view(-1, DIM), batch, side, window)
        for number, block in enumerate(self.blocks):
            # Attention does not see the order of its tokens, so global blocks run in window order too.
            x = block(x, batch if number in GLOBAL_BLOCKS else batch * (side // window) ** 2)
        return unwindows(x, batch, side, window).view(batch, -1, DIM)


class Neck(nn.Module):
    """Four maps (strides 4, 8, 16, 32) from the fused one."""

    def __init__(self) -> None:
        super().__init__()
        levels = pyramid_levels(DIM, (128, 256, 512, 1024))
        self.down_4, self.down_8, self.down_16, self.down_32 = levels

    def forward(self, x: Tensor, side: int) -> list[Tensor]:
        """Map tokens (B, side * side, 768) to four maps (B, h, w, C), finest first."""
        levels = (self.down_4, self.down_8, self.down_16, self.down_32)
        return [run_level(level, x, side, side) for level in levels]


class Head(nn.Module):
    """Joins the four levels at stride 4 and gives one logit per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvModule(channels, 256) for channels in (128, 256, 512, 1024))
        self.fusion_conv = ConvModule(1024, 256)
        self.seg_conv = nn.Conv2d(256, 1, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map four maps (B, h, w, C), finest first, to logits (B, 1, h_0, w_0)."""
        return join_levels(levels, self.convs, self.fusion_conv, self.seg_conv)


class SegNextNet(nn.Module):
    """The network, with the parameter names of the released checkpoints.

    Args:
        fusion_depth: 1 (sax1) or 2 (sax2) fusion blocks.
        size: side of the square network input; side / 16 must be divisible into windows.
    """

    def __init__(self, fusion_depth: int = 2, size: int = 1024) -> None:
        super().__init__()
        self.size, self.side = size, size // PATCH
        self.backbone = Backbone(size)
        self.visual_prompts_encoder = PatchEmbed(DIM, PATCH)
        self.fusion_blocks = nn.ModuleList(Block(DIM, HEADS, eps=1e-5) for _ in range(fusion_depth))
        self.neck = Neck()
        self.head = Head()

    def embed_prompt(self, prompt: Tensor) -> Tensor:
        """Embed a prompt map (B, 3, size, size) of last probabilities, positive, negative discs -> (B, N, 768)."""
        return self.visual_prompts_encoder(prompt).view(prompt.shape[0], -1, DIM)

    def fuse(self, image: Tensor, prompt: Tensor) -> Tensor:
        """Run the fusion blocks over image + prompt tokens (B, N, 768)."""
        x = (image + prompt).view(-1, DIM)
        for block in self.fusion_blocks:
            x = block(x, image.shape[0])
        return x.view(image.shape)

    def decode(self, image: Tensor, prompt: Tensor) -> Tensor:
        """Return logits (B, 1, size / 4, size / 4) for image tokens (B, N, 768) and a prompt map."""
        return self.head(self.neck(self.fuse(image, self.embed_prompt(prompt)), self.side))

    def to_original(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Resize head logits to the image: corners aligned up to the network size, not from there on."""
        return bilinear(bilinear(logits, self.size, self.size, align_corners=True), height, width)


def scale_click(y: int, x: int, height: int, width: int, size: int) -> tuple[int, int]:
    """Return a click at network size; it may be one past the end for images above twice that size."""
    return int(y * size / height + 0.5), int(x * size / width + 0.5)


def draw_discs(points: Sequence[tuple[int, int, bool]], size: int) -> Tensor:
    """Draw discs of radius 5 around network-size (row, column, positive) -> (2, size, size), positive first."""
    offset = torch.arange(-RADIUS, RADIUS + 1)
    rows, columns = torch.nonzero(offset[:, None] ** 2 + offset**2 <= RADIUS**2, as_tuple=True)
    maps = torch.zeros(2, size, size)
    for row, column, positive in points:
        y, x = rows + row - RADIUS, columns + column - RADIUS
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        maps[0 if positive else 1, y[inside], x[inside]] = 1.0
    return maps


@dataclass(frozen=True)
class Embedding:
    """An encoded image: tokens (1, N, 768) and the original height and width."""

    tokens: Tensor
    height: int
    width: int


class SegNext(NetworkSegmenter[SegNextNet]):
    """Segmenter: SegNext with the ViT-B backbone.

    Args:
        variant: "sax1" or "sax2": one or two fusion blocks.
        weights: a released .pth or a saved .safetensors file; None for seeded random values.
        size: network side; released weights belong to 1024.
        seed: of random weights.
    """

    threshold = THRESHOLD

    def __init__(self, variant: str = "sax2", weights: str | None = None, size: int = 1024, seed: int = 0) -> None:
        if variant not in ("sax1", "sax2"):
            raise ValueError(f"segnext variant={variant!r}: choose sax1 or sax2")
        side = size // PATCH
        if size % PATCH or side < WINDOW_TOKENS or side % (side // WINDOW_TOKENS):
            raise ValueError(f"segnext size={size}: {side} tokens do not divide into windows; choose 512 or 1024")
        self.variant, self.size = variant, size
        module, status = _weights.prepare(
            lambda: SegNextNet(int(variant[-1]), size),
            weights,
            seed,
            f"SegNext {variant} at {size}",
            initial={"pos_embed": _weights.normal(0.02)},
        )
        super().__init__(module, status)
        self.encoder_key = _weights.digest(module.backbone, f"segnext {size}")
        self.parts: dict[str, nn.Module] = {
            "encoder": module.backbone,
            "prompt": module.visual_prompts_encoder,
            "fusion": module.fusion_blocks,
            "neck": module.neck,
            "head": module.head,
        }

    @staticmethod
    def would_fit(shapes: _weights.Shapes, variant: str = "sax2", size: int = 1024, **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(SegNextNet, int(variant[-1]), size))

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image."""
        pixels = torch.from_numpy(np.ascontiguousarray(check_image(image))).float() / 255.0
        planes = ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None]
        tokens = self.module.backbone(bilinear(planes, self.size, self.size))
        return Embedding(tokens, image.shape[0], image.shape[1])

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Session:
    """One episode: its clicks at network size and the last probability map."""

    def __init__(self, segmenter: SegNext, embedding: Embedding) -> None:
        self.net, self.embedding = segmenter.module, embedding
        self.points: list[tuple[int, int, bool]] = []
        self.previous: Tensor | None = None

    @torch.inference_mode()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 probabilities after a further (y, x, positive), or None to decode again."""
        height, width, size = self.embedding.height, self.embedding.width, self.net.size
        if click is not None:
            y, x, positive = click
            self.points.append((*scale_click(y, x, height, width, size), bool(positive)))
        prompt = torch.zeros(1, 3, size, size)
        prompt[0, 1:] = draw_discs(self.points, size)
        if self.previous is not None:
            prompt[:, :1] = bilinear(self.previous, size, size)
        logits = self.net.decode(self.embedding.tokens, prompt)
        self.previous = torch.sigmoid(self.net.to_original(logits, height, width))
        return self.previous[0, 0].clone().numpy()

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        self.previous = mask_plane(mask)
