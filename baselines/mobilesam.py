"""MobileSAM: SAM's prompt encoder and decoder on a distilled TinyViT, encoded once, decoded at every click."""

from __future__ import annotations

from typing import Any

from torch import nn

from baselines import _sam_weights, _weights
from baselines._sam_net import SamNet
from baselines._sam_segmenter import SamSegmenter
from baselines._tinyvit import TinyViT


class MobileSamNet(SamNet):
    """The network, with the names of the released file."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = TinyViT()

    @property
    def encoder(self) -> nn.Module:
        """The image encoder."""
        return self.image_encoder


class MobileSam(SamSegmenter):
    """Segmenter: MobileSAM by clicks.

    Args:
        weights: the released mobile_sam.pt or a saved .safetensors file; None: random.
        feedback: give the last low-resolution logits to the decoder from the second click on.
        multimask: choose among three masks by predicted IoU at "every" click, only at the "first", or "never".
        threshold: logit above which a pixel is object.
        size: side of the square network input (1024 as released).
        seed: of random weights.

    Raises:
        ValueError: unknown switch, or a size that is no multiple of 16.
        WeightsError: the weights do not fit.
    """

    @staticmethod
    def would_fit(shapes: _weights.Shapes, **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(MobileSamNet))

    def __init__(
        self,
        weights: str | None = None,
        feedback: bool = True,
        multimask: str = "every",
        threshold: float = 0.0,
        size: int = 1024,
        seed: int = 0,
    ) -> None:
        initial = {**_sam_weights.INITIAL, "attention_biases": _weights.normal(0.1)}

        def make() -> tuple[MobileSamNet, str]:
            return _weights.prepare(MobileSamNet, weights, seed, "MobileSAM", initial)

        super().__init__(make, "MobileSam", feedback, multimask, threshold, size)
