"""What the training loop needs of a model: encode a batch once, decode it at every click, name the losses.

A segmenter is trainable if it offers `trainee(precision)` returning such an object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

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

    # Optional, looked up by name:
    # initial(name) -> entries of the weights that `init=name` stands for; ValueError if there are none
    # pretrained() -> entries that a weight file leaves out where they have kept these values
    # metadata() -> what a weight file must say of itself for the model's own loader


def trainee_of(segmenter: Any, precision: str, name: str = "this variant") -> Trainee:
    """The training side of a segmenter.

    Raises:
        UserError: it has none.
    """
    if not hasattr(segmenter, "trainee"):
        raise UserError(
            f"{name} cannot be trained: its segmenter has no `trainee(precision)` (docs/extending.md). Trainable are "
            "inter2former_lite and the lite baselines dense_lite and sam_lite."
        )
    trainee: Trainee = segmenter.trainee(precision)
    return trainee
