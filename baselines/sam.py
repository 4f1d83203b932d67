"""SAM and SAM-HQ (ViT-B/L/H) and SlimSAM: encoded once, decoded at every click.

The image encoder is transformers'; prompt encoder and mask decoders are ours, with the names of the released files.
All clicks go in as points. Published click numbers of SAM differ in three choices that are switches here: whether the
last low-resolution logits are fed back, when one of several masks is chosen, and the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.models.sam_hq.configuration_sam_hq import SamHQVisionConfig
from transformers.models.sam_hq.modeling_sam_hq import SamHQVisionEncoder

from baselines import _sam_weights, _weights
from baselines._sam_hq_decoder import HqMaskDecoder
from baselines._sam_net import PATCH, Encoded, SamNet
from baselines._sam_segmenter import Frame, SamSegmenter, prepare

__all__ = ["ARCHITECTURES", "SLIM", "Architecture", "Frame", "Sam", "SamHQ", "build", "prepare"]


@dataclass(frozen=True)
class Architecture:
    """Sizes of an image encoder.

    Attributes:
        width, depth, heads: of its blocks.
        whole: blocks with attention over the whole image, from 0.
        mlp: hidden width of the MLPs; None: four times the width.
    """

    width: int
    depth: int
    heads: int
    whole: tuple[int, ...]
    mlp: int | None = None


ARCHITECTURES: dict[str, Architecture] = {
    "vit_b": Architecture(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": Architecture(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": Architecture(1280, 32, 16, (7, 15, 23, 31)),
}
# Width and MLP pruned by 50 and 77 %, the same in every layer: the "uniform" releases.
SLIM: dict[str, Architecture] = {
    "slimsam_50": Architecture(384, 12, 12, (2, 5, 8, 11), 1536),
    "slimsam_77": Architecture(168, 12, 12, (2, 5, 8, 11), 696),
}


class VitSam(SamNet):
    """SAM on a plain vision transformer.

    Args:
        sizes: of the image encoder.
        size: side of the square network input.
    """

    def __init__(self, sizes: Architecture, size: int, decoder: HqMaskDecoder | None = None) -> None:
        super().__init__(decoder)
        config = SamHQVisionConfig(
            hidden_size=sizes.width,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.heads,
            mlp_dim=sizes.mlp or 4 * sizes.width,
            global_attn_indexes=list(sizes.whole),
            image_size=size,
            patch_size=PATCH,
        )
        self.vision_encoder = SamHQVisionEncoder(config)

    @property
    def encoder(self) -> nn.Module:
        """The image encoder."""
        return self.vision_encoder

    def encode(self, square: Tensor) -> Encoded:
        """Encode a network input (1, 3, T, T)."""
        return self.encoded(self.vision_encoder(square).last_hidden_state)


class VitSamHQ(VitSam):
    """SAM-HQ: SAM and its decoder's further mask, which also sees an early map of the image encoder."""

    def __init__(self, sizes: Architecture, size: int) -> None:
        super().__init__(sizes, size, HqMaskDecoder(sizes.width))

    def encode(self, square: Tensor) -> Encoded:
        """Encode a network input (1, 3, T, T)."""
        encoded = self.vision_encoder(square)
        image, decoder = encoded.last_hidden_state, self.mask_decoder
        assert isinstance(decoder, HqMaskDecoder)
        # The encoder returns the output of every block that attends to the whole image; the first counts.
        return self.encoded(image, decoder.detail(image, encoded.intermediate_embeddings[0]))


def build(model: str, size: int = 1024, quality: bool = False) -> VitSam:
    """Return the network of SAM (of SAM-HQ if `quality`) of an architecture without trained weights."""
    return VitSamHQ(ARCHITECTURES[model], size) if quality else VitSam({**ARCHITECTURES, **SLIM}[model], size)


class Sam(SamSegmenter):
    """Segmenter: SAM by clicks.

    Args:
        model: "vit_b", "vit_l", "vit_h", "slimsam_50" or "slimsam_77".
        weights: a folder in transformers' format, or a file (transformers' or the original .pth); None: random.
        feedback: give the last low-resolution logits to the decoder from the second click on.
        multimask: choose among three masks by predicted IoU at "every" click, only at the "first", or "never".
        threshold: logit above which a pixel is object.
        size: side of the square network input (1024 for released weights).
        seed: of random weights.

    Raises:
        ValueError: unknown model or switch, or a size that patches do not divide.
        WeightsError: the weights do not fit.
    """

    quality = False

    def __init__(
        self,
        model: str = "vit_b",
        weights: str | None = None,
        feedback: bool = True,
        multimask: str = "every",
        threshold: float = 0.0,
        size: int = 1024,
        seed: int = 0,
    ) -> None:
        title = type(self).__name__
        allowed = ARCHITECTURES if self.quality else {**ARCHITECTURES, **SLIM}
        if model not in allowed:
            raise ValueError(f"{title} model={model!r}: choose one of {', '.join(allowed)}")
        self.model = model

        def make() -> tuple[VitSam, str]:
            name = f"{title} {model} at {size}"
            return _sam_weights.prepare(lambda: build(model, size, self.quality), weights, seed, name)

        super().__init__(make, title, feedback, multimask, threshold, size)

    @classmethod
    def would_fit(cls, shapes: _weights.Shapes, model: str = "vit_b", size: int = 1024, **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(build, model, size, cls.quality), named=_sam_weights.named)


class SamHQ(Sam):
    """Segmenter: SAM-HQ by clicks.

    Args:
        model: "vit_b", "vit_l" or "vit_h".
        weights, feedback, multimask, threshold, size, seed: as for `Sam`.
        hq_token_only: answer with the high-quality token's mask alone instead of its sum with SAM's mask.
    """

    quality = True

    def __init__(
        self,
        model: str = "vit_b",
        weights: str | None = None,
        feedback: bool = True,
        multimask: str = "every",
        threshold: float = 0.0,
        size: int = 1024,
        hq_token_only: bool = False,
        seed: int = 0,
    ) -> None:
        self.hq_token_only = bool(hq_token_only)
        super().__init__(model, weights, feedback, multimask, threshold, size, seed)

    def answer(self, masks: Tensor, quality: Tensor, several: bool) -> Tensor:
        """Return the high-quality mask's logits (1, 1, 4h, 4w), with those of SAM's choice added to them.

        Args:
            masks: (1, 5, 4h, 4w) logits, the high-quality mask last; quality: (1, 4), of SAM's masks only.
            several: whether SAM's choice is among masks 1 to 3, or mask 0.
        """
        best = masks[:, 4:]
        return best if self.hq_token_only else super().answer(masks[:, :4], quality, several) + best
