"""SAM 2.1 (Hiera) and SAM 3's tracker on one image: transformers' networks, encoded once, decoded at every click."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import _sam2_weights, _weights
from baselines._images import bilinear, check_image, mask_logits, mask_plane
from baselines._sam2_build import SAM2, SAM3, TRUNKS, Release, build_sam2, build_sam3
from baselines._sam_segmenter import check_multimask
from baselines._segmenter import NetworkSegmenter

LIMIT = 32.0
"""Largest size of a logit that goes back into the network."""


@dataclass(frozen=True)
class Embedding:
    """An encoded image.

    Attributes:
        fine: maps of stride 4 and 8, for the decoder's upscaling.
        coarse: (1, 256, h, w).
        code: (1, 256, h, w) position codes of the coarse map.
        height, width: of the image.
    """

    fine: tuple[Tensor, ...]
    coarse: Tensor
    code: Tensor
    height: int
    width: int


def prepare(image: np.ndarray, size: int, release: Release) -> Tensor:
    """Return the network input (1, 3, size, size) of an (H, W, 3) uint8 RGB image.

    Both sides become `size`, whatever the aspect ratio, by an antialiased bilinear resize of floats: the official
    predictor's step. (transformers' processor resizes bytes; the difference is at most half a grey level.)
    """
    pixels = torch.from_numpy(np.ascontiguousarray(check_image(image))).permute(2, 0, 1)[None].float() / 255
    square = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) / 255 for values in (release.mean, release.std))
    return (square - mean) / std


class _Segmenter(NetworkSegmenter[Any]):  # Any: transformers' classes are not typed
    """What SAM 2.1 and SAM 3's tracker share."""

    def __init__(
        self,
        release: Release,
        title: str,
        build: Callable[[], nn.Module],
        weights: str | None,
        options: tuple[bool, str, bool, float],
        size: int,
        seed: int,
    ) -> None:
        feedback, multimask, stability, threshold = options
        check_multimask(multimask, title)
        if size < release.multiple or size % release.multiple:
            raise ValueError(f"{title} size={size}: must be a positive multiple of {release.multiple}")
        self.release, self.size = release, size
        self.feedback, self.multimask, self.threshold = bool(feedback), multimask, float(threshold)
        super().__init__(*_sam2_weights.prepare(build, weights, seed, f"{title} at {size}"))
        self.module.mask_decoder.dynamic_multimask_via_stability = bool(stability)
        self.encoder_key = f"{release.title} {self.weights_digest} {size}"
        self.parts: dict[str, nn.Module] = {
            "encoder": self.module.vision_encoder,
            "prompt": self.module.prompt_encoder,
            "decoder": self.module.mask_decoder,
        }

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image."""
        *fine, coarse = self.module.get_image_embeddings(prepare(image, self.size, self.release))
        code = self.module.get_image_wide_positional_embeddings()
        return Embedding(tuple(fine), coarse, code, *image.shape[:2])

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Sam2(_Segmenter):
    """Segmenter: SAM 2.1 by clicks.

    Args:
        model: "hiera_tiny", "hiera_small", "hiera_base_plus" or "hiera_large".
        weights: a folder in transformers' format, or a file (transformers' or the official .pt, of SAM 2.1 or 2.0);
            None: random.
        feedback: give the last low-resolution logits to the decoder from the second click on.
        multimask: choose among three masks by predicted IoU at "every" answer, "first" (as the official interactive
            configuration: with one click at most), or "never".
        stability: where one mask is asked for, take the best of the three if that one is unstable (official default).
        threshold: logit above which a pixel is object.
        size: side of the square network input (1024 for released weights), a multiple of 32.
        seed: of random weights.

    Raises:
        ValueError: unknown model or switch, or a size that does not divide.
        WeightsError: the weights do not fit.
    """

    def __init__(
        self,
        model: str = "hiera_tiny",
        weights: str | None = None,
        feedback: bool = True,
        multimask: str = "first",
        stability: bool = True,
        threshold: float = 0.0,
        size: int = SAM2.size,
        seed: int = 0,
    ) -> None:
        if model not in TRUNKS:
            raise ValueError(f"Sam2 model={model!r}: choose one of {', '.join(TRUNKS)}")
        self.model = model
        options = (feedback, multimask, stability, threshold)
        super().__init__(SAM2, f"SAM 2.1 {model}", lambda: build_sam2(model, size), weights, options, size, seed)

    @staticmethod
    def would_fit(shapes: _weights.Shapes, model: str = "hiera_tiny", size: int = SAM2.size, **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(build_sam2, model, size), named=_sam2_weights.named)


class Sam3Tracker(_Segmenter):
    """Segmenter: the tracker of SAM 3 by clicks on one image, at its only size, 1008.

    Args:
        weights: a folder in transformers' format, or a file; None: random.
        feedback, multimask, stability, threshold, seed: as for `Sam2`.
    """

    def __init__(
        self,
        weights: str | None = None,
        feedback: bool = True,
        multimask: str = "first",
        stability: bool = True,
        threshold: float = 0.0,
        seed: int = 0,
    ) -> None:
        options = (feedback, multimask, stability, threshold)
        super().__init__(SAM3, SAM3.title, build_sam3, weights, options, SAM3.size, seed)

    @staticmethod
    def would_fit(shapes: _weights.Shapes, **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(build_sam3), named=_sam2_weights.named)


class Session:
    """One episode: its clicks in network pixels and the last low-resolution logits."""

    def __init__(self, segmenter: _Segmenter, embedding: Embedding) -> None:
        self.segmenter, self.embedding = segmenter, embedding
        self.points: list[tuple[float, float]] = []
        self.labels: list[int] = []
        self.previous: Tensor | None = None

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 logits after a further (y, x, positive), or None to decode again."""
        owner, embedding = self.segmenter, self.embedding
        if click is not None:
            y, x, positive = click
            self.points.append((x * owner.size / embedding.width, y * owner.size / embedding.height))
            self.labels.append(int(positive))
        # Without a click one point that stands for none, as the whole model's own forward pass does.
        points, labels = (self.points, self.labels) if self.points else ([(0.0, 0.0)], [-1])
        sparse, dense = owner.module.prompt_encoder(
            input_points=torch.tensor(points)[None, None],
            input_labels=torch.tensor(labels)[None, None],
            input_boxes=None,
            input_masks=self.previous if owner.feedback else None,
        )
        several = owner.multimask == "every" or (owner.multimask == "first" and len(self.points) <= 1)
        masks, quality, _, _ = owner.module.mask_decoder(
            image_embeddings=embedding.coarse,
            image_positional_embeddings=embedding.code,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=list(embedding.fine),
        )
        best = int(quality[0, 0].argmax())
        low = masks[:, 0, best : best + 1]
        self.previous = low.clamp(-LIMIT, LIMIT)
        return bilinear(low, embedding.height, embedding.width)[0, 0].contiguous().numpy()

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        side = 4 * (self.segmenter.size // self.segmenter.release.patch)
        self.previous = mask_logits(bilinear(mask_plane(mask), side, side))
