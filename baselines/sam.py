"""SAM and SAM-HQ (ViT-B/L/H): the released networks as transformers has them, encoded once, decoded at every click.

All clicks go in as points. Published click numbers of SAM differ in three choices that are switches here: whether the
last low-resolution logits are fed back, when one of several masks is chosen, and the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import SamConfig, SamHQConfig, SamHQModel, SamModel

from baselines import _sam_weights, _weights
from baselines._images import bilinear, check_image, mask_logits, mask_plane, pad_to

PATCH = 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """Sizes of an image encoder: width, depth, heads, and the blocks with attention over the whole image."""

    width: int
    depth: int
    heads: int
    whole: tuple[int, ...]


ARCHITECTURES: dict[str, Architecture] = {
    "vit_b": Architecture(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": Architecture(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": Architecture(1280, 32, 16, (7, 15, 23, 31)),
}


def build(model: str, size: int = 1024, quality: bool = False) -> nn.Module:
    """Return transformers' SamModel (SamHQModel if `quality`) of an architecture without trained weights."""
    sizes = ARCHITECTURES[model]
    vision = {
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.depth,
        "num_attention_heads": sizes.heads,
        "global_attn_indexes": list(sizes.whole),
        "image_size": size,
        "patch_size": PATCH,
    }
    prompt = {"image_size": size, "patch_size": PATCH}
    network: Any
    if quality:
        decoder = {"vit_dim": sizes.width}
        network = SamHQModel(
            SamHQConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
        )
    else:
        network = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt))
    for owner in (network.shared_image_embedding, network.prompt_encoder.shared_embedding):
        code = owner.positional_embedding.detach()
        # Random and never trained: a buffer in the released model, a parameter in some versions of transformers.
        del owner.positional_embedding
        owner.register_buffer("positional_embedding", code)
    return network


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
    the bottom and the right: the steps of SAM's own predictor and of transformers' SamImageProcessor.
    """
    height, width = check_image(image).shape[:2]
    scale = size / max(height, width)
    frame = Frame(height, width, max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
    small = Image.fromarray(np.ascontiguousarray(image)).resize(
        (frame.inner_width, frame.inner_height), Image.Resampling.BILINEAR
    )
    pixels = (torch.from_numpy(np.array(small)).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    square = torch.zeros(1, 3, size, size)
    square[0, :, : frame.inner_height, : frame.inner_width] = pixels.permute(2, 0, 1)
    return square, frame


@dataclass(frozen=True)
class Embedding:
    """An encoded image: decoder inputs that no click changes, and the frame."""

    maps: Mapping[str, Any]
    frame: Frame


class Sam:
    """Segmenter: SAM by clicks.

    Args:
        model: "vit_b", "vit_l" or "vit_h".
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
        if model not in ARCHITECTURES:
            raise ValueError(f"{title} model={model!r}: choose one of {', '.join(ARCHITECTURES)}")
        if multimask not in ("every", "first", "never"):
            raise ValueError(f"{title} multimask={multimask!r}: choose every, first or never")
        if size < PATCH or size % PATCH:
            raise ValueError(f"{title} size={size}: must be a positive multiple of {PATCH}")
        self.model, self.size = model, size
        self.feedback, self.multimask, self.threshold = bool(feedback), multimask, float(threshold)
        # Any: transformers' classes are not typed.
        self.module: Any
        self.module, self.weights_status = _sam_weights.prepare(
            lambda: build(model, size, self.quality), weights, seed, f"{title} {model} at {size}"
        )
        self.parameters = _weights.count(self.module)
        self.weights_digest = _weights.digest(self.module)
        self.encoder_key = f"{title} {self.weights_digest} {size}"
        self.parts: dict[str, nn.Module] = {
            "encoder": self.module.vision_encoder,
            "prompt": self.module.prompt_encoder,
            "decoder": self.module.mask_decoder,
        }

    def save(self, path: str) -> None:
        """Write the weights to a .safetensors file that `weights` takes back."""
        _weights.save(self.module, path, self.weights_status)

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Embedding:
        """Encode an (H, W, 3) uint8 RGB image."""
        square, frame = prepare(image, self.size)
        encoded = self.module.vision_encoder(square)
        maps = {
            "image_embeddings": encoded.last_hidden_state,
            "image_positional_embeddings": self.module.get_image_wide_positional_embeddings(),
            **self._further(encoded),
        }
        return Embedding(maps, frame)

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)

    def _further(self, encoded: Any) -> dict[str, Any]:
        return {}


class SamHQ(Sam):
    """Segmenter: SAM-HQ by clicks.

    Args:
        model, weights, feedback, multimask, threshold, size, seed: as for `Sam`.
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
        self.encoder_key += f" {self.hq_token_only}"

    def _further(self, encoded: Any) -> dict[str, Any]:
        # The decoder reads the first of the global blocks only.
        first = encoded.intermediate_embeddings[:1]
        return {"intermediate_embeddings": first, "hq_token_only": self.hq_token_only}


class Session:
    """One episode: its clicks in network pixels and the last low-resolution logits."""

    def __init__(self, segmenter: Sam, embedding: Embedding) -> None:
        self.segmenter, self.embedding = segmenter, embedding
        self.points: list[tuple[float, float]] = []
        self.labels: list[int] = []
        self.previous: Tensor | None = None
        self.answers = 0

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 logits after a further (y, x, positive), or None to decode again."""
        frame, owner = self.embedding.frame, self.segmenter
        if click is not None:
            y, x, positive = click
            across, down = frame.inner_width / frame.width, frame.inner_height / frame.height
            self.points.append((x * across, y * down))
            self.labels.append(int(positive))
        module = owner.module
        sparse, dense = module.prompt_encoder(
            input_points=torch.tensor(self.points)[None, None] if self.points else None,
            input_labels=torch.tensor(self.labels)[None, None] if self.points else None,
            input_boxes=None,
            input_masks=self.previous if owner.feedback else None,
        )
        several = owner.multimask == "every" or (owner.multimask == "first" and self.answers == 0)
        masks, quality = module.mask_decoder(
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            **self.embedding.maps,
        )
        self.answers += 1
        best = int(quality[0, 0].argmax()) if several else 0
        best = min(best, masks.shape[2] - 1)  # the high-quality token alone is one mask
        self.previous = masks[:, 0, best : best + 1]
        return self._restore(self.previous)

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
