"""Inter2Former in training: what a training loop needs of it (structural typing: no loop is imported from anywhere)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inter2former import batched, weights
from inter2former.checkpoints import read_safetensors
from inter2former.encoders.lite import Trunk
from inter2former.encoders.precision import check_precision
from inter2former.inputs import MEAN, STD
from inter2former.label_map import add_clicks, add_prediction, new_label_map

Keep = Callable[[nn.Module, Tensor, Callable[[], tuple[Tensor, ...]]], tuple[Tensor, ...]]
"""Remembers what a frozen part made of a batch: (part, input, how to compute it) -> its outputs."""


class Inter2FormerTrainee:
    """Inter2Former: label maps, training forms of attention and experts.

    Args:
        module: an `inter2former.model.Inter2Former`.
        precision: of the convolutions; the blocks stay in float32.
    """

    def __init__(self, module: Any, precision: str = "fp32"):
        self.module = module
        self.keep: Keep | None = None
        self._half = check_precision(precision) == "bf16"

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the encoder makes of (B, 3, H, W) RGB in 0..255; gradients flow through it."""
        mean, std = (images.new_tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (MEAN, STD))
        x = ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)
        with self._autocast(x.device):
            return batched.encode(self.module, x, self.keep)

    def prompts(self, batch: int, height: int, width: int) -> LabelMaps:
        """Return fresh label maps."""
        return LabelMaps(batch, height, width, self.module.config.click_radius)

    def decode(
        self, encoded: tuple[Tensor, ...], prompts: LabelMaps, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits (B, 1, H, W) and the loss terms; target (B, 1, H, W) uint8 of 1, 0 and 255 (ignored)."""
        with self._autocast(target.device):
            output = batched.decode(self.module, encoded, prompts.labels)
        return output.logits, self.module.loss(output, target)

    def initial(self, name: str) -> dict[str, Tensor]:
        """Return the entries of the weights that `name` stands for, see `initial_entries`."""
        return initial_entries(name)

    def pretrained(self) -> dict[str, Tensor]:
        """Return the entries that a weight file may leave out, see `pretrained_entries`."""
        return pretrained_entries(self.module)

    def metadata(self) -> dict[str, str]:
        """Return what a weight file must say for `inter2former.checkpoints` to read it."""
        return {"format": "inter2former", "config": json.dumps(self.module.config.record())}

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self._half)


class LabelMaps:
    """Label maps of a batch, (B, H, W) uint8."""

    def __init__(self, batch: int, height: int, width: int, radius: int):
        self.labels = [new_label_map(height, width) for _ in range(batch)]
        self._radius = radius

    def add_clicks(self, clicks: Sequence[Any]) -> None:
        """Mark the next (y, x, positive) of every image; None: no click there."""
        for label, click in zip(self.labels, clicks, strict=True):
            if click is not None:
                add_clicks(label, [click], inner=self._radius)

    def add_predictions(self, logits: Tensor) -> None:
        """Mark the answer (B, 1, H, W)."""
        predictions = np.ascontiguousarray((logits.detach()[:, 0] > 0).cpu().numpy())
        for label, prediction in zip(self.labels, predictions, strict=True):
            add_prediction(label, prediction)


def initial_entries(name: str) -> dict[str, Tensor]:
    """Return the entries of a `.safetensors` file, or of the packaged weights of that name (also an encoder alone).

    Raises:
        ValueError: neither a file nor a packaged name, or the file is damaged.
    """
    packaged = weights.FOLDER / f"{name}.safetensors"
    path = packaged if Path(name).name == name and packaged.is_file() else Path(name).expanduser()
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in weights.FOLDER.glob("*.safetensors")))
        raise ValueError(f"no such file. Give the weights.safetensors of a run, or one of {known}")
    return read_safetensors(path)[0]


def pretrained_entries(module: nn.Module) -> dict[str, Tensor]:
    """Return the entries of a lite model's trunk as the package of the pretrained trunk has them.

    The names are those of `module`; empty where that package is not installed, or the module has no such trunk.
    """
    trunk = Trunk()
    values = dict(trunk.state_dict()) if trunk.load_pretrained() else {}
    names = {name: name.rpartition("trunk.")[2] for name in module.state_dict() if "trunk." in name}
    return {name: values[inner] for name, inner in names.items() if inner in values}
