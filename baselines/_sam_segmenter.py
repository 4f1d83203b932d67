"""Clicks for networks of SAM's kind: the square input, the episode, and the choice among masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from baselines._images import bilinear, check_image, mask_logits, mask_plane, normalised, pad_to
from baselines._sam_net import PATCH, Encoded, SamNet
from baselines._sam_prompts import click_tensors
from baselines._segmenter import NetworkSegmenter

MULTIMASK = ("every", "first", "never")


def check_multimask(multimask: str, title: str) -> None:
    """Raise ValueError unless it is one of the three rules by which SAM and its successors choose among masks."""
    if multimask not in MULTIMASK:
        raise ValueError(f"{title} multimask={multimask!r}: choose every, first or never")


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the square network input: its own size, and its size there (top left, rest padding)."""

    height: int
    width: int
    inner_height: int
    inner_width: int


def prepare(image: np.ndarray, size: int = 1024) -> tuple[Tensor, Frame]:
    """Return the network input (1, 3, size, size) of an (H, W, 3) uint8 RGB image, and its frame.

    The longest side becomes `size` by Pillow's antialiased bilinear resize on bytes, then normalisation, then zeros at
    the bottom and the right: the steps of SAM's own predictor.
    """
    height, width = check_image(image).shape[:2]
    scale = size / max(height, width)
    frame = Frame(height, width, max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
    small = Image.fromarray(np.ascontiguousarray(image)).resize(
        (frame.inner_width, frame.inner_height), Image.Resampling.BILINEAR
    )
    return pad_to(normalised(np.array(small)), size, size), frame


@dataclass(frozen=True)
class Embedding:
    """An encoded image: decoder inputs that no click changes, and the frame."""

    maps: Encoded
    frame: Frame


class SamSegmenter(NetworkSegmenter[SamNet]):
    """Segmenter: a network of SAM's kind by clicks.

    Args:
        make: returns the network with its weights, and the weights' status.
        title: of the system, for messages and for the encoder's key.
        feedback: give the last low-resolution logits to the decoder from the second click on.
        multimask: choose among three masks by predicted IoU at "every" click, only at the "first", or "never".
        threshold: logit above which a pixel is object.
        size: side of the square network input.

    Raises:
        ValueError: unknown switch, or a size that patches do not divide.
        WeightsError: the weights do not fit.
    """

    def __init__(
        self,
        make: Callable[[], tuple[SamNet, str]],
        title: str,
        feedback: bool,
        multimask: str,
        threshold: float,
        size: int,
    ) -> None:
        check_multimask(multimask, title)
        if size < PATCH or size % PATCH:
            raise ValueError(f"{title} size={size}: must be a positive multiple of {PATCH}")
        self.size, self.feedback, self.multimask = size, bool(feedback), multimask
        self.threshold = float(threshold)
        module, status = make()
        super().__init__(module, status)
        self.encoder_key = f"{title} {self.weights_digest} {size}"
        self.parts: dict[str, nn.Module] = {
            "encoder": module.encoder,
            "prompt": module.prompt_encoder,
            "decoder": module.mask_decoder,
        }

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image."""
        square, frame = prepare(image, self.size)
        return Embedding(self.module.encode(square), frame)

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)

    def answer(self, masks: Tensor, quality: Tensor, several: bool) -> Tensor:
        """Return the answer's logits (1, 1, 4h, 4w): the best of masks 1 to 3 if `several`, else mask 0.

        Args:
            masks, quality: (1, 4, 4h, 4w) logits and (1, 4) predicted qualities.
            several: choose by quality.
        """
        best = 1 + int(torch.argmax(quality[0, 1:])) if several else 0
        return masks[:, best : best + 1]


class Session:
    """One episode: its clicks in network pixels and the last low-resolution logits."""

    def __init__(self, segmenter: SamSegmenter, embedding: Embedding) -> None:
        self.segmenter, self.embedding = segmenter, embedding
        self.clicks: list[tuple[float, float, bool]] = []
        self.previous: Tensor | None = None
        self.answers = 0

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 logits after a further (y, x, positive), or None to decode again."""
        frame, owner = self.embedding.frame, self.segmenter
        if click is not None:
            y, x, positive = click
            down, across = frame.inner_height / frame.height, frame.inner_width / frame.width
            self.clicks.append((y * down, x * across, bool(positive)))
        masks, quality = owner.module.decode(
            self.embedding.maps, *click_tensors(self.clicks), self.previous if owner.feedback else None
        )
        several = owner.multimask == "every" or (owner.multimask == "first" and self.answers == 0)
        self.answers += 1
        self.previous = owner.answer(masks, quality, several)
        return self._restore(self.previous)

    def copy(self) -> Session:
        """Return another session in this state; neither changes the other."""
        other = Session(self.segmenter, self.embedding)
        other.clicks, other.previous, other.answers = [*self.clicks], self.previous, self.answers
        return other

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        frame, size = self.embedding.frame, self.segmenter.size
        inner = bilinear(mask_plane(mask), frame.inner_height, frame.inner_width)
        side = 4 * (size // PATCH)
        self.previous = mask_logits(bilinear(pad_to(inner, size, size), side, side))

    def _restore(self, low: Tensor) -> np.ndarray:
        """Resize (1, 1, h, w) to the square, cut the padding off, resize to the image."""
        frame, size = self.embedding.frame, self.segmenter.size
        inner = bilinear(low, size, size)[..., : frame.inner_height, : frame.inner_width]
        return bilinear(inner, frame.height, frame.width)[0, 0].contiguous().numpy()
