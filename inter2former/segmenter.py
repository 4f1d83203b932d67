"""Inter2Former behind the harness's protocol: encode an image once, then answer clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from inter2former.build import build
from inter2former.config import choose, make_config
from inter2former.inputs import Frame, frame_image, prepare
from inter2former.label_map import ClickLike, add_clicks, add_prediction, new_label_map
from inter2former.model import ImageState


@dataclass(frozen=True)
class Embedding:
    """An encoded image: what the decoder needs of it, and how its pixels map to the network's."""

    state: ImageState
    frame: Frame


class Inter2FormerSegmenter:
    """Inter2Former as a segmenter of the harness (structural typing: nothing is imported from there).

    Args:
        preset: "lite" or "vit_b", the paper's.
        dpe, dha, routing, hmoe, dlu: the switches, see `inter2former.config.SWITCHES`.
        weights: checkpoint, released `.pth` or our `.safetensors`; None for seeded random weights.
        channels: order in which the network gets the planes of the RGB image, "rgb" or "bgr" (how the
            released model was evaluated; specification, section 1).
        target_size: side of the square that the image is resized to (a multiple of 256); None keeps the
            image's size.
        precision: of the encoder, "fp32" or "bf16".
        seed: of random weights.

    Attributes:
        encoder_key: equal for segmenters that can share one embedding.
        threshold: object where the score, a logit, is greater.
        weights_status: "released", "trained here" or "untrained".
        weights_digest: short hex of the weights.
        parameters: number of parameters.
        module, parts: everything that computes, and its parts by name.
        keep_trace: keep in `Session.trace` what each click did.

    Raises:
        ValueError: an unknown value, or a checkpoint that does not fit; the message says what to do.
    """

    threshold = 0.0

    def __init__(
        self,
        preset: str = "lite",
        dpe: str | bool = "on",
        dha: str | bool = "on",
        routing: str = "intended",
        hmoe: str | bool = "on",
        dlu: str | bool = "on",
        weights: str | None = None,
        channels: str = "rgb",
        target_size: int | None = None,
        precision: str = "fp32",
        seed: int = 0,
    ) -> None:
        self.config = make_config(preset, dpe=dpe, dha=dha, routing=routing, hmoe=hmoe, dlu=dlu)
        self.channels = choose("channels", channels, ("rgb", "bgr"))
        self.precision = choose("precision", precision, ("fp32", "bf16"))
        self.target_size = target_size
        frame_image(1, 1, target_size=target_size)
        self.model, _ = build(self.config, seed, self.precision, source=("seed", seed))
        self.weights_status = "untrained"
        self.weights_digest = ""
        self.encoder_key = f"inter2former/{preset}/seed={seed}/{self.channels}/{target_size}/{self.precision}"
        self.keep_trace = False

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def module(self) -> nn.Module:
        """The model."""
        return self.model

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """Parts of the model by name."""
        return self.model.parts()

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an image (H, W, 3) uint8 RGB: all work that is needed once per image."""
        tensor, frame = prepare(image, self.config.multiple, self.target_size, self.channels)
        return Embedding(self.model.encode(tensor), frame)

    def start(self, embedding: Embedding) -> Session:
        """Begin a fresh episode on an encoded image."""
        return Session(self, embedding)


class Point(NamedTuple):
    """A click in pixels of the network's input."""

    y: int
    x: int
    positive: bool


class Session:
    """One episode: a label map that clicks and predictions change.

    Attributes:
        label: (H, W) uint8 label map at the network's size.
        trace: what the last click did (when the segmenter keeps it): `dpe_box` and `dlu_box` (left, top,
            right, bottom) in pixels of the network's input, `boundary` (h, w) bool, `experts` (h, w) int, -1
            where none.
    """

    def __init__(self, segmenter: Inter2FormerSegmenter, embedding: Embedding) -> None:
        self._segmenter, self._embedding = segmenter, embedding
        self.label = new_label_map(*embedding.frame.input_size)
        self.trace: dict[str, Any] = {}

    @torch.no_grad()
    def click(self, click: ClickLike | None) -> np.ndarray:
        """Answer a click in image pixels; None runs the decoder again without a new click.

        Returns:
            (H, W) float32 logits at the image's size.

        Raises:
            ValueError: a click outside the image.
        """
        frame, segmenter = self._embedding.frame, self._segmenter
        if click is not None:
            if not (0 <= click.y < frame.height and 0 <= click.x < frame.width):
                raise ValueError(
                    f"click at row {click.y}, column {click.x} lies outside the image of {frame.height} rows and "
                    f"{frame.width} columns"
                )
            y, x = frame.to_input(click.y, click.x)
            add_clicks(self.label, [Point(y, x, click.positive)], segmenter.config.click_radius)
        trace: dict[str, Any] | None = {} if segmenter.keep_trace else None
        logits = segmenter.model.decode(self._embedding.state, self.label, trace=trace)
        add_prediction(self.label, (logits[0, 0] > 0).numpy())
        self.trace = trace or {}
        return frame.restore(logits)[0, 0].numpy()
