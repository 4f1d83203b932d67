"""SAM 2.1 and SAM 3's tracker from transformers' classes: configurations, and what a module without weights lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import Sam2Config, Sam2Model

from baselines._images import MEAN, STD


@dataclass(frozen=True)
class Trunk:
    """Sizes of a Hiera trunk.

    Attributes:
        width, heads: of the first stage; both double from stage to stage.
        depths: blocks of the four stages.
        whole: blocks with attention over the whole map, from 0.
        windows: sides of the others' windows, per stage.
        table: side of the position table that is resized to the map.
    """

    width: int
    heads: int
    depths: tuple[int, int, int, int]
    whole: tuple[int, int, int]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    table: int = 7

    @property
    def widths(self) -> list[int]:
        """Channels of the four stages."""
        return [self.width * 2**stage for stage in range(4)]


TRUNKS = {
    "hiera_tiny": Trunk(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "hiera_small": Trunk(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "hiera_base_plus": Trunk(112, 2, (2, 3, 16, 3), (12, 16, 20), table=14),
    "hiera_large": Trunk(144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8)),
}


@dataclass(frozen=True)
class Release:
    """What the networks of one release share.

    Attributes:
        title: of the system, for messages.
        size: side of the square input of the released weights.
        patch: input pixels per cell of the coarse embedding.
        multiple: of which another side must be.
        mean, std: of RGB values in 0..255.
    """

    title: str
    size: int
    patch: int
    multiple: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


SAM2 = Release("SAM 2.1", 1024, 16, 32, MEAN, STD)
SAM3 = Release("SAM 3 tracker", 1008, 14, 1008, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


def build_sam2(model: str, size: int) -> nn.Module:
    """Return transformers' Sam2Model with a trunk of `TRUNKS` for a square input, without trained weights."""
    trunk = TRUNKS[model]
    backbone = {
        "hidden_size": trunk.width,
        "num_attention_heads": trunk.heads,
        "embed_dim_per_stage": trunk.widths,
        "num_attention_heads_per_stage": [trunk.heads * 2**stage for stage in range(4)],
        "blocks_per_stage": list(trunk.depths),
        "global_attention_blocks": list(trunk.whole),
        "window_size_per_stage": list(trunk.windows),
        "window_positional_embedding_background_size": [trunk.table, trunk.table],
        "image_size": [size, size],
    }
    vision = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
        "backbone_channel_list": trunk.widths[::-1],
        "backbone_feature_sizes": [[size // stride] * 2 for stride in (4, 8, 16)],
    }
    vision["model_type"] = "sam2_vision_model"
    return Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config={"image_size": size}))


def build_sam3() -> nn.Module:
    """Return transformers' Sam3TrackerModel as released with SAM 3, without trained weights."""
    from transformers import Sam3TrackerConfig, Sam3TrackerModel  # younger than SAM 2 in transformers

    return Sam3TrackerModel(Sam3TrackerConfig())


def complete(module: nn.Module) -> None:
    """Compute SAM 3's rotary tables, which no weight file holds and a module built without memory has empty."""
    for layer in module.modules():
        rotary: Any = getattr(layer, "rotary_emb", None)
        if rotary is not None:
            inner: Any = layer
            inner.rotary_emb = type(rotary)(rotary.config)
            inner.position_ids = inner.precompute_positions(inner.config, inner.window_size)
