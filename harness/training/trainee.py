"""What the training loop needs of a model: encode a batch once, decode it at every click, name the losses.

A segmenter is trainable if it offers `trainee()` returning such an object; Inter2Former's is here, as the model must
not know the harness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.segmenter import Click

Keep = Callable[[nn.Module, Tensor, Callable[[], tuple[Tensor, ...]]], tuple[Tensor, ...]]
"""As `harness.training.features.Features`."""


class Prompts(Protocol):
    """What has been said so far about each image of a batch."""

    def add_clicks(self, clicks: Sequence[Click | None]) -> None:
        """Note the next click of every image; None: no click there."""
        ...

    def add_predictions(self, logits: Tensor) -> None:
        """Note the answer (B, 1, H, W)."""
        ...


class Trainee(Protocol):
    """A model in training."""

    module: nn.Module
    keep: Keep | None
    """Remembers what frozen parts made of a batch (`harness.training.features`); None: everything is computed."""

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Everything that is computed once per image, from (B, 3, H, W) RGB in 0..255; gradients flow through it."""
        ...

    def prompts(self, batch: int, height: int, width: int) -> Prompts:
        """Fresh prompts."""
        ...

    def decode(self, encoded: tuple[Tensor, ...], prompts: Any, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, 1, H, W) and the loss terms, to be summed; target (B, 1, H, W) uint8: 1, 0 and 255 (ignored)."""
        ...


def trainee_of(segmenter: Any, precision: str, name: str = "this variant") -> Trainee:
    """The training side of a segmenter.

    Raises:
        UserError: it has none.
    """
    if hasattr(segmenter, "trainee"):
        return segmenter.trainee(precision)
    module = getattr(segmenter, "module", None)
    if module is not None and hasattr(module, "decode_for_training"):
        return Inter2FormerTrainee(module, precision)
    raise UserError(
        f"{name} cannot be trained: its segmenter has no `trainee(precision)`. Trainable are inter2former_lite and the "
        "lite baselines dense_lite and sam_lite."
    )


class Inter2FormerTrainee:
    """Inter2Former: label maps, training forms of attention and experts.

    Args:
        module: an `inter2former.model.Inter2Former`.
        precision: of the convolutions; the blocks stay in float32.
    """

    def __init__(self, module: Any, precision: str = "fp32"):
        self.module = module
        self.keep: Keep | None = None
        self._half = precision == "bf16"

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        from inter2former import batched
        from inter2former.inputs import MEAN, STD

        mean, std = (images.new_tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (MEAN, STD))
        x = ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)
        with self._autocast(x.device):
            return batched.encode(self.module, x, self.keep)

    def prompts(self, batch: int, height: int, width: int) -> LabelMaps:
        return LabelMaps(batch, height, width, self.module.config.click_radius)

    def decode(
        self, encoded: tuple[Tensor, ...], prompts: LabelMaps, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        from inter2former import batched

        with self._autocast(target.device):
            output = batched.decode(self.module, encoded, prompts.labels)
        return output.logits, self.module.loss(output, target)

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self._half)


class LabelMaps:
    """Label maps of a batch, (B, H, W) uint8."""

    def __init__(self, batch: int, height: int, width: int, radius: int):
        from inter2former.label_map import new_label_map

        self.labels = [new_label_map(height, width) for _ in range(batch)]
        self._radius = radius

    def add_clicks(self, clicks: Sequence[Click | None]) -> None:
        from inter2former.label_map import add_clicks

        for label, click in zip(self.labels, clicks, strict=True):
            if click is not None:
                add_clicks(label, [click], inner=self._radius)

    def add_predictions(self, logits: Tensor) -> None:
        from inter2former.label_map import add_prediction

        predictions = np.ascontiguousarray((logits.detach()[:, 0] > 0).cpu().numpy())
        for label, prediction in zip(self.labels, predictions, strict=True):
            add_prediction(label, prediction)
