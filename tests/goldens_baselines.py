"""Weights of the baseline goldens (weight_rule.md beside them), and baselines filled with them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from goldens import BASELINE_GOLDENS, normal

_F = np.float32

Rule = tuple[str, str, float, float]
"""(end of the key, what becomes of its standard normal draw n, gain, offset)"""


def _drawn(*keys: str) -> list[Rule]:
    """Entries that keep their draw."""
    return [(key, "scale", 1.0, 0.0) for key in keys]


_VARIANCES: list[Rule] = [("running_var", "absolute", 0.1, 1.0)]
_TOKENS = _drawn("positional_encoding_gaussian_matrix", "_token.weight", "_tokens.weight")
_PROMPTS = [*_drawn("prompt_encoder.point_embeddings", "_embed.weight"), *_TOKENS]
_REFINER: list[Rule] = [("refine_pred.weight", "fan", 3.0, 0.0), ("refine_trimap.weight", "fan", 3.0, 0.0)]
_FOCAL_SEGFORMER: list[Rule] = [
    *_VARIANCES,
    ("patch_embed_side1.norm.weight", "affine", 0.02, 0.3),
    ("linear_pred.weight", "fan", -6.0, 0.0),
    ("linear_pred.bias", "affine", 0.02, 4.5),
    *_REFINER,
]


def _simpleclick(bias: float) -> list[Rule]:
    return [
        ("pos_embed", "scale", 0.1, 0.0),
        ("head.conv_seg.weight", "fan", -8.0, 0.0),
        ("head.conv_seg.bias", "affine", 0.02, bias),
    ]


def _hrnet(scale: Rule, head: float, bias: float) -> list[Rule]:
    return [*_VARIANCES, scale, ("cls_head.weight", "fan", head, 0.0), ("cls_head.bias", "affine", 0.02, bias)]


_SAM: list[Rule] = [
    ("iou_prediction_head.layers.2.bias", "scale", 1.5, 0.0),
    ("hf_mlp.layers.2.weight", "fan", 0.3, 0.0),
    *_PROMPTS,
]
# Per model; the first match counts.
_SPECIAL: dict[str, list[Rule]] = {
    "segnext": [
        ("visual_prompts_encoder.proj.weight", "fan", 8.0, 0.0),
        ("head.seg_conv.weight", "fan", 8.0, 0.0),
        ("head.seg_conv.bias", "affine", 0.02, 2.3),
    ],
    "interformer": [
        ("gamma_1", "affine", 0.1, 1.0),
        ("gamma_2", "affine", 0.1, 1.0),
        ("cls_token", "scale", 0.5, 0.0),
        ("relative_position_bias_table", "scale", 0.5, 0.0),
        *_VARIANCES,
        ("neck.patch_embed", "scale", 2.0, 0.0),
        ("decode_head.conv_seg.weight", "fan", 6.0, 0.0),
        ("decode_head.conv_seg.bias", "pair", 0.02, 3.1),
    ],
    "hrsam": [
        (".padding", "scale", 0.5, 0.0),
        ("As_log", "scale", 0.5, 0.0),
        ("ssm_proj_bias", "affine", 1.0, -3.0),
        (".Ds", "affine", 0.02, 1.0),
        (".gamma", "affine", 0.1, 1.0),
        *_drawn("_embed.weight", "neck.point_embeds"),
        *_TOKENS,
    ],
    "ritm": _hrnet(("maps_transform.3.scale", "affine", 0.02, 8.0), -2.0, -3.8),
    "focal_segformerb0": _FOCAL_SEGFORMER,
    "focal_segformerb3": _FOCAL_SEGFORMER,
    "focal_hrnet18s": [*_hrnet(("maps_transform.3.scale", "affine", 0.1, 1.0), 8.0, 0.5), *_REFINER],
    "simpleclick": _simpleclick(-0.2),
    "simpleclick_xtiny": _simpleclick(1.7),
    "sam": _SAM,
    "sam_hq": _SAM,
    "mobilesam": [
        ("iou_prediction_head.layers.2.bias", "scale", 1.0, 0.0),
        *_VARIANCES,
        ("attention_biases", "scale", 1.0, 0.0),
        *_PROMPTS,
    ],
    "efficientsam": [*_drawn("_points.weight", "_embeddings.weight"), *_TOKENS],
}
_BEGINNINGS = ("neck.point_embeds", "prompt_encoder.point_embeddings")


def weight(model: str, key: str, shape: Iterable[int], dtype: str = "float32") -> np.ndarray | None:
    """Return the value that the rule gives a state-dict entry of a model of `_SPECIAL`, or None."""
    shape = tuple(shape)
    if "int" in dtype or key.endswith(("num_batches_tracked", "relative_position_index", "rope.freqs")):
        return None
    draw = normal(key, shape)
    fan = math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 1.0
    for pattern, kind, gain, offset in _SPECIAL[model]:
        if key.startswith(pattern) if pattern in _BEGINNINGS else key.endswith(pattern):
            if kind == "fan":
                return draw * _F(gain / fan)
            if kind == "scale":
                return _F(gain) * draw
            if kind == "absolute":
                draw = np.abs(draw)
            first = np.array([offset, -offset], _F) if kind == "pair" else _F(offset)
            return first + _F(gain) * draw
    if key.endswith("pos_embed"):
        return _F(0.5) * draw
    if len(shape) == 1:
        return _F(1.0) + _F(0.02) * draw if key.endswith(".weight") else _F(0.02) * draw
    return draw * _F(1.0 / fan)


@cache
def layouts(model: str) -> dict[str, Any]:
    """Return the released checkpoints' variants: name -> {"parameters", "state_dict": [[key, shape, dtype], …]}."""
    return BASELINE_GOLDENS.read_json(f"{model}_state_dict.json")["variants"]


def fill(module: torch.nn.Module, model: str) -> None:
    """Overwrite a module (meta or real) by the rule; entries that are not drawn keep their value."""
    for key, value in module.state_dict().items():
        drawn = weight(model, key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        if drawn is not None:
            with torch.no_grad():
                value.copy_(torch.from_numpy(np.ascontiguousarray(drawn)))


def unpack(packed: torch.Tensor, height: int, width: int) -> np.ndarray:
    """Return (…, height, width) of 0 and 1 from maps that were flattened and packed with numpy.packbits."""
    bits = np.unpackbits(packed.numpy(), axis=-1, count=height * width)
    return bits.reshape(*packed.shape[:-1], height, width)


def subsample(x: torch.Tensor, entry: dict[str, Any], name: str) -> torch.Tensor:
    """Subsample a map (B, C, h, w), or tokens (N, C), as the manifest says that the golden `name` was."""
    what, shape = entry["tensors"][name]["what"], entry["tensors"][name]["shape"]
    if "subsampled like" in what:  # another entry, perhaps of another file: take the steps from the shape
        return x[tuple(slice(None, None, -(-size // kept)) for size, kept in zip(x.shape, shape, strict=True))]

    def number(pattern: str, default: int = 1) -> int:
        found = re.search(pattern, what)
        return int(found.group(1)) if found else default

    channels = number(r"every (\d+)\w\w channel")
    if x.ndim == 2:
        return x[:: number(r"every (\d+)\w\w token"), ::channels]
    first = number(r"rows and columns (\d+)::", 0)
    pixels = number(r"rows and columns \d+::(\d+)", number(r"every (\d+)\w\w row"))
    return x[:, ::channels, first::pixels, first::pixels]
