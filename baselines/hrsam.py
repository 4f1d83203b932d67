"""HRSAM and HRSAM++: window attention with a cycle scan through all tokens, and SAM's prompt encoder and decoder.

Clicks are sparse tokens, so a click costs 1.9 GMACs at 1024 whatever the encoder; the encoder costs 450 or 626.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines import _weights
from baselines._hrsam_windows import DIM, HEADS, Grid, WindowBlock, window_cells
from baselines._images import bilinear, mask_logits, mask_plane, normalised, pad_to, up_to_multiple
from baselines._sam_decoder import MaskDecoder
from baselines._sam_prompts import PromptEncoder, click_tensors
from baselines._scan import ScanBlock
from baselines._segmenter import NetworkSegmenter
from baselines._vit import PatchEmbed
from inter2former.encoders.hrsam import window_rotations
from inter2former.encoders.linear import Linear

PATCH, DEPTH, OUT = 16, 12, 256
TAPS = (2, 5, 8, 11)
SECOND_SCALE = 512
DIVISOR = 32


class Backbone(nn.Module):
    """Image encoder: (B, 3, H, W) -> (B, 256, H / 16, W / 16)."""

    def __init__(self, plusplus: bool, skip_padded: bool = False) -> None:
        super().__init__()
        self.plusplus = plusplus
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + 14 * 14, DIM))
        self.patch_embed = PatchEmbed(DIM, PATCH)
        self.rope = nn.Module()
        pairs = DIM // HEADS // 2
        self.rope.register_buffer("freqs", torch.zeros(pairs // 2))
        self.blocks = nn.ModuleList(WindowBlock(skip_padded) for _ in range(DEPTH))
        for name in ("ss_mamba_blocks", "ms_mamba_blocks") if plusplus else ("mamba_blocks",):
            self.add_module(name, nn.ModuleList(ScanBlock(DIM) for _ in TAPS))
        if plusplus:
            self.multi_scale_fusion: Any = nn.ModuleList(nn.Sequential(nn.LayerNorm(DIM)) for _ in TAPS)
        wide = 2 * DIM if plusplus else DIM
        self.lateral_convs: Any = nn.ModuleList(
            nn.Sequential(Linear(wide, OUT, bias=False), nn.LayerNorm(OUT)) for _ in TAPS
        )
        depthwise = nn.Conv2d(OUT, OUT, 3, padding=1, groups=OUT, bias=False)
        self.out_conv: Any = nn.Sequential(depthwise, nn.Identity(), nn.LayerNorm(OUT))

    def embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Return tokens (B, h * w, DIM) of one scale with positions added, and its grid."""
        grid = image.shape[2] // PATCH, image.shape[3] // PATCH
        table = self.pos_embed[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
        table = bilinear(table, *grid).flatten(2).transpose(1, 2)
        return self.patch_embed(image).view(image.shape[0], -1, DIM) + table, grid

    def forward(self, image: Tensor, trace: dict[str, Tensor] | None = None) -> Tensor:
        """Encode a normalised image, H and W multiples of 16; `trace` collects tokens after each step by name."""
        batch = image.shape[0]
        tokens, grid = self.embed(image)
        grids: tuple[Grid, ...] = (grid,)
        if self.plusplus:
            second, second_grid = self.embed(bilinear(image, SECOND_SCALE, SECOND_SCALE))
            tokens, grids = torch.cat([tokens, second], dim=1), (grid, second_grid)
        lengths = tuple(h * w for h, w in grids)
        rotations = window_rotations(self.rope.get_buffer("freqs"), HEADS, tokens.dtype)
        scans: Any = self.get_submodule("ss_mamba_blocks" if self.plusplus else "mamba_blocks")
        joint: Any = self.get_submodule("ms_mamba_blocks") if self.plusplus else None
        steps = {} if trace is None else trace
        fused: Tensor | None = None
        for number, block in enumerate(self.blocks):
            tap = TAPS.index(number) if number in TAPS else None
            if tap is not None:
                tokens = steps[f"mamba{tap}"] = scans[tap](tokens, lengths)
            cells = window_cells(batch, grids, odd=number % 2 == 1)
            tokens = block(tokens.flatten(0, 1), cells, rotations).view(tokens.shape)
            steps[f"block{number}"] = tokens
            if tap is not None:
                if joint is not None:
                    tokens = steps[f"ms_mamba{tap}"] = joint[tap](tokens, (sum(lengths),))
                part = self.lateral(tap, tokens, grids)
                fused = part if fused is None else fused + part
            if trace is None:
                steps.clear()
        assert fused is not None
        planes = self.out_conv[0](fused.view(batch, *grid, OUT).permute(0, 3, 1, 2))
        return self.out_conv[2](planes.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()

    def lateral(self, tap: int, tokens: Tensor, grids: tuple[Grid, ...]) -> Tensor:
        """Return (B, h * w, 256) of the tokens after a tap; the second scale is enlarged and joined by channels."""
        project, norm = self.lateral_convs[tap]
        if self.plusplus:
            fine, coarse = tokens.split([h * w for h, w in grids], dim=1)
            planes = coarse.unflatten(1, grids[1]).permute(0, 3, 1, 2)
            wide = bilinear(planes, *grids[0]).permute(0, 2, 3, 1).flatten(1, 2)
            shared = self.multi_scale_fusion[tap]
            tokens = torch.cat([shared(fine), shared(wide)], dim=2)
        return norm(project(tokens.flatten(0, 1))).view(tokens.shape[0], -1, OUT)


class HRSAMNet(nn.Module):
    """The network, with the parameter names of the released checkpoints."""

    def __init__(self, plusplus: bool = False, skip_padded: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(plusplus, skip_padded)
        self.neck = PromptEncoder(OUT)
        self.decode_head = MaskDecoder(OUT)

    def decode(
        self, image: Tensor, code: Tensor, points: Tensor, kinds: Tensor, previous: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return mask logits (B, 4, 4h, 4w) and quality predictions (B, 4).

        Args:
            image: (B, 256, h, w) embedding; code: (1, 256, h, w) position code of its grid.
            points, kinds: (B, n, 2) row and column in network pixels, and (B, n) int64, 1 positive, 0 negative.
            previous: (B, 1, 4h, 4w) logits of mask 0 of the last click, None at the first.
        """
        batch, _, h, w = image.shape
        sparse = self.neck.sparse(points, kinds, (PATCH * h, PATCH * w))
        return self.decode_head(image, code, sparse, self.neck.dense(previous, batch, h, w))


@dataclass(frozen=True)
class Frame:
    """How an image lies in the network input: its size, padded to multiples of 32, and then resized."""

    height: int
    width: int
    padded: Grid
    resized: Grid

    @staticmethod
    def of(height: int, width: int, size: int) -> Frame:
        """Return the frame of an image in a square network input."""
        padded = up_to_multiple(height, DIVISOR), up_to_multiple(width, DIVISOR)
        scale = size / max(padded)
        return Frame(height, width, padded, (int(scale * padded[0] + 0.5), int(scale * padded[1] + 0.5)))

    def place(self, planes: Tensor, height: int, width: int) -> Tensor:
        """Put planes (B, C, H, W) of the image into the network input (B, C, height, width), 0 elsewhere."""
        return pad_to(bilinear(pad_to(planes, *self.padded), *self.resized), height, width)


@dataclass(frozen=True)
class Embedding:
    """An encoded image: map and position code (1, 256, h, w), and its frame."""

    image: Tensor
    code: Tensor
    frame: Frame


class HRSAM(NetworkSegmenter[HRSAMNet]):
    """Segmenter: HRSAM or HRSAM++ with click prompts.

    Args:
        variant: "hrsam" or "hrsam_plusplus".
        weights: a released .pth or a saved .safetensors file; None for seeded random values.
        size: side of the square network input (1024, 2048, …).
        channels: "rgb" or "bgr" planes; the released evaluation feeds bgr planes by its loader's default.
        padded_cells: "executed" projects padded window cells and drops the results, as released; "skipped" leaves
            that out, with the same result up to rounding.
        seed: of random weights.
    """

    threshold = 0.0

    def __init__(
        self,
        variant: str = "hrsam_plusplus",
        weights: str | None = None,
        size: int = 1024,
        channels: str = "rgb",
        padded_cells: str = "executed",
        seed: int = 0,
    ) -> None:
        for name, value, allowed in (
            ("variant", variant, ("hrsam", "hrsam_plusplus")),
            ("channels", channels, ("rgb", "bgr")),
            ("padded_cells", padded_cells, ("executed", "skipped")),
        ):
            if value not in allowed:
                raise ValueError(f"hrsam {name}={value!r}: choose {' or '.join(allowed)}")
        if size < PATCH or size % PATCH:
            raise ValueError(f"hrsam size={size}: choose a multiple of {PATCH}, e.g. 1024")
        self.size, self.channels = size, channels
        pairs = DIM // HEADS // 2
        module, status = _weights.prepare(
            lambda: HRSAMNet(variant == "hrsam_plusplus", padded_cells == "skipped"),
            weights,
            seed,
            "HRSAM++" if variant == "hrsam_plusplus" else "HRSAM",
            initial={
                "rope.freqs": lambda shape, _: 10000.0 ** (-torch.arange(0, pairs, 2).float() / pairs),
                "pos_embed": _weights.normal(0.02),
                "As_log": lambda shape, _: torch.arange(1.0, shape[1] + 1.0).log().expand(shape),
                "ssm_proj_bias": lambda shape, _: torch.full(shape, -4.0),
                ".Ds": lambda shape, _: torch.ones(shape),
                ".gamma": lambda shape, _: torch.full(shape, 1.0 / shape[1]),
            },
        )
        super().__init__(module, status)
        # The position code is a part of the embedding and belongs to the prompt encoder.
        self.encoder_key = " ".join(
            (
                f"{variant} {size} {channels} {padded_cells}",
                _weights.digest(module.backbone),
                _weights.digest(module.neck.position),
            )
        )
        self.parts: dict[str, nn.Module] = {
            "encoder": module.backbone,
            "prompt": module.neck,
            "decoder": module.decode_head,
        }

    @staticmethod
    def would_fit(shapes: _weights.Shapes, variant: str = "hrsam_plusplus", **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(HRSAMNet, variant == "hrsam_plusplus"))

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image."""
        planes = normalised(image, self.channels)
        frame = Frame.of(image.shape[0], image.shape[1], self.size)
        embedding = self.module.backbone(frame.place(planes, self.size, self.size))
        return Embedding(embedding, self.module.neck.grid_code(*embedding.shape[2:]), frame)

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Session:
    """One episode: its clicks in network pixels and the last low-resolution logits."""

    def __init__(self, segmenter: HRSAM, embedding: Embedding) -> None:
        self.net, self.embedding = segmenter.module, embedding
        self.clicks: list[tuple[float, float, bool]] = []
        self.previous: Tensor | None = None

    @torch.inference_mode()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 logits after a further (y, x, positive), or None to decode again."""
        frame, image = self.embedding.frame, self.embedding.image
        if click is not None:
            y, x, positive = click
            scaled = (y * frame.resized[0] / frame.padded[0], x * frame.resized[1] / frame.padded[1])
            self.clicks.append((*scaled, bool(positive)))
        points, kinds = click_tensors(self.clicks)
        masks, _ = self.net.decode(image, self.embedding.code, points, kinds, self.previous)
        self.previous = masks[:, :1]
        whole = bilinear(self.previous, PATCH * image.shape[2], PATCH * image.shape[3])
        cropped = whole[:, :, : frame.resized[0], : frame.resized[1]]
        return bilinear(cropped, *frame.padded)[0, 0, : frame.height, : frame.width].clone().numpy()

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        h, w = self.embedding.image.shape[2:]
        placed = self.embedding.frame.place(mask_plane(mask), PATCH * h, PATCH * w)
        self.previous = mask_logits(bilinear(placed, 4 * h, 4 * w))
