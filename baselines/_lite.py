"""What the two lite baselines share: the encoder of Inter2Former-lite, image frames, weights and the training loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import _weights
from baselines._images import MEAN, STD, bilinear, normalised, pad_to, up_to_multiple
from baselines._segmenter import NetworkSegmenter
from baselines._weights import Net
from inter2former import batched, weightfiles
from inter2former.encoders.precision import check_precision
from inter2former.training import initial_entries, pretrained_entries
from inter2former.weights import find

DIM = 96
"""Width of the tokens, as in Inter2Former-lite."""
PATCH = 16
DIVISOR = 32
IGNORE = 255


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the input: padded to multiples of 32 or, with a target size, to a square that is resized.

    Attributes:
        height, width: of the image.
        padded: height and width after padding.
        size: height and width of the network's input.
    """

    height: int
    width: int
    padded: tuple[int, int]
    size: tuple[int, int]

    def to_input(self, y: float, x: float) -> tuple[int, int]:
        """Return the input pixel (row, column) of an image pixel."""
        return int(y * self.size[0] / self.padded[0]), int(x * self.size[1] / self.padded[1])

    def place(self, planes: Tensor) -> Tensor:
        """Put planes (B, C, H, W) of the image into the network's input (B, C, *size), 0 in the padding."""
        return bilinear(pad_to(planes, *self.padded), *self.size)

    def restore(self, logits: Tensor) -> np.ndarray:
        """Return (H, W) float32 scores of logits (1, 1, h, w) that cover the input at any resolution."""
        whole = bilinear(bilinear(logits, *self.size), *self.padded)
        return whole[0, 0, : self.height, : self.width].clone().numpy()


def prepare(image: np.ndarray, target_size: int | None) -> tuple[Tensor, Frame]:
    """Return the network's input (1, 3, h, w) for an (H, W, 3) uint8 RGB image, and its frame."""
    planes = normalised(image)
    height, width = planes.shape[2:]
    padded = up_to_multiple(height, DIVISOR), up_to_multiple(width, DIVISOR)
    frame = Frame(height, width, padded, padded)
    if target_size is not None:
        frame = Frame(height, width, (max(padded), max(padded)), (target_size, target_size))
    return frame.place(planes), frame


def check_target_size(target_size: int | None) -> int | None:
    """Return a target size that the encoder takes.

    Raises:
        ValueError: it is not a positive multiple of 32.
    """
    if target_size is not None and (target_size < DIVISOR or target_size % DIVISOR):
        raise ValueError(f"target_size={target_size}: choose a multiple of {DIVISOR}, or null for the image's own size")
    return target_size


def build(
    make: Callable[[], nn.Module],
    weights: str | None,
    seed: int,
    name: str,
    initial: Mapping[str, _weights.Initial],
    packaged: str = "",
) -> tuple[nn.Module, str]:
    """Return a lite network in eval mode and its weights status.

    The encoder is the first to draw from the seed, so it starts from the values of Inter2Former-lite's. A weight
    file may lack the pretrained trunk, which comes with its package.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
    for part, child in module.named_children():
        if part != "backbone":
            _weights.initialise(child, seed, initial)
    located = find(weights, [packaged])
    if located is None:
        return module.eval(), _weights.UNTRAINED
    path = Path(located)
    state, status = _read(path, name, module)
    try:
        _weights.load(module, state, path, name, optional=TRUNK)
    except _weights.WeightsError as error:
        error.shapes = {key: tuple(value.shape) for key, value in state.items()}
        raise
    return module.eval(), status


TRUNK = "backbone.trunk."
"""Beginning of the pretrained trunk's entries, which a file may leave out."""
_OF_OTHER_DECODERS = ("backbone.levels.", "edge_detector.")


def _read(path: Path, name: str, module: nn.Module) -> tuple[dict[str, Tensor], str]:
    try:
        file = weightfiles.read(path)
    except weightfiles.WeightFileError as error:
        raise _weights.WeightsError(f"weights {weightfiles.shown(path, 300)} of {name}: {error}") from error
    state = dict(file.state)
    if weightfiles.BASE in file.metadata:
        # The encoder that several decoders share has maps and parts that this one has no use for.
        own = module.state_dict()
        state = {key: value for key, value in state.items() if key in own or not key.startswith(_OF_OTHER_DECODERS)}
    return state, file.metadata.get("weights_status", _weights.RELEASED)


class LiteSegmenter(NetworkSegmenter[Net]):
    """What the lite segmenters do alike.

    Args:
        weights: a .safetensors or .pth file; "default" for the package's, if it has them; None for a pretrained trunk
            and seeded random values.
        target_size: side of the square that the image is resized to (a multiple of 32); None keeps its size.
        precision: of the encoder, "fp32" or "bf16".
        seed: of random weights.
    """

    threshold = 0.0
    network: ClassVar[Callable[[str], nn.Module]]
    """Makes the network for a precision."""
    title: ClassVar[str]
    packaged: ClassVar[str]
    """Name of the weights in `inter2former/weights`."""
    initial: ClassVar[Mapping[str, _weights.Initial]] = {}

    def __init__(
        self,
        weights: str | None = None,
        target_size: int | None = None,
        precision: str = "fp32",
        seed: int = 0,
    ) -> None:
        self.target_size = check_target_size(target_size)
        kind = type(self)
        # Any: which network it is, only the subclass knows.
        module: Any
        module, status = build(lambda: kind.network(precision), weights, seed, kind.title, kind.initial, kind.packaged)
        super().__init__(module, status)
        self.encoder_key = f"{self.shared()} {target_size} {precision}"

    @classmethod
    def would_fit(cls, shapes: _weights.Shapes, **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's; it may lack the pretrained trunk."""
        own = _weights.skeleton(cls.network, "fp32")
        held = {key: shape for key, shape in shapes.items() if key in own or not key.startswith(_OF_OTHER_DECODERS)}
        return {**{key: own[key] for key in own if key.startswith(TRUNK)}, **held} == own

    def shared(self) -> str:
        """Name and digest of all that an embedding depends on."""
        raise NotImplementedError


class LiteTrainee(Generic[Net]):
    """What the lite trainees do alike: encode a batch once, in half precision where that is asked for."""

    def __init__(self, module: Net, precision: str) -> None:
        self.module = module
        self.keep: Any = None  # of the training loop: remembers what the frozen backbone made
        self._half = check_precision(precision) == "bf16"

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode (B, 3, H, W) RGB in 0..255."""
        module: Any = self.module
        with self.autocast(images.device):
            planes = training_images(images)
            keep = self.keep or batched.compute
            tokens, *fine = keep(module.backbone, planes, lambda: batched.maps_of(module.backbone(planes)))
            encoded: tuple[Tensor, ...] = module.finish(tokens, fine)
        return encoded

    def initial(self, name: str) -> dict[str, Tensor]:
        """Return the entries of the weights that `name` stands for, see `initial_entries`."""
        return initial_entries(name)

    def pretrained(self) -> dict[str, Tensor]:
        """Return the entries that a weight file may leave out, see `pretrained_entries`."""
        return pretrained_entries(self.module)

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context of the network's forward passes."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self._half)


def training_images(images: Tensor) -> Tensor:
    """Return normalised images of (B, 3, H, W) RGB in 0..255."""
    mean, std = (images.new_tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (MEAN, STD))
    return (images.float() - mean) / std


def normalised_focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """Return the normalised focal loss of logits (B, 1, H, W); target of 1, 0 and 255 (ignored).

    The weights (1 - p_t)^gamma are scaled per image to a mean of 1 over its valid pixels, without gradient; then
    the mean over all valid pixels is taken (inter2former.md section 8).
    """
    valid = target != IGNORE
    positive = target == 1
    margin = torch.where(positive, logits, -logits)
    modulation = torch.sigmoid(-margin).pow(gamma) * valid
    count = valid.sum((1, 2, 3))
    scale = (count / modulation.sum((1, 2, 3)).clamp_min(1e-12)).detach()
    weight = torch.where(positive, alpha, 1 - alpha)
    loss = -(weight * modulation * F.logsigmoid(margin)).sum((1, 2, 3))
    return (loss * scale).sum() / count.sum().clamp_min(1)
