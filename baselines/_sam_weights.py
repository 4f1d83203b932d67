"""Weights of SAM and SAM-HQ: transformers' names, the original names, and where a folder keeps them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from baselines import _weights

_FILES = ("model.safetensors", "pytorch_model.bin")
_PATTERNS = ("*.pth", "*.pt", "*.safetensors")
# One matrix under two names; files may hold either or both.
_CODE = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")
_ORIGINAL_CODE = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"

_INITIAL = {
    end: _weights.normal(scale)
    for end, scale in (
        ("positional_embedding", 1.0),
        ("iou_token.weight", 1.0),
        ("mask_tokens.weight", 1.0),
        ("hq_token.weight", 1.0),
        ("pos_embed", 0.02),
        ("_embed.weight", 0.3),
        ("rel_pos_h", 0.02),
        ("rel_pos_w", 0.02),
    )
}
_INITIAL |= {f"point_embed.{i}.weight": _weights.normal(0.3) for i in range(4)}

# Original names to transformers', applied in this order.
_RULES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^image_encoder\.", "vision_encoder."),
        (r"^(vision_encoder\.)blocks\.", r"\1layers."),
        (r"^(vision_encoder\.layers\.\d+\.)norm", r"\1layer_norm"),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        (r"^(vision_encoder\.neck\.)0\.", r"\1conv1."),
        (r"^(vision_encoder\.neck\.)1\.", r"\1layer_norm1."),
        (r"^(vision_encoder\.neck\.)2\.", r"\1conv2."),
        (r"^(vision_encoder\.neck\.)3\.", r"\1layer_norm2."),
        (r"\.point_embeddings\.", ".point_embed."),
        (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
        (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
        (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
        (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
        (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
        (r"^(mask_decoder\.transformer\.layers\.\d+\.)norm", r"\1layer_norm"),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        (r"\.output_upscaling\.0\.", ".upscale_conv1."),
        (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
        (r"\.output_upscaling\.3\.", ".upscale_conv2."),
        (r"\.hf_token\.", ".hq_token."),
        (r"\.hf_mlp\.", ".hq_mask_mlp."),
        (r"\.compress_vit_feat\.0\.", ".compress_vit_conv1."),
        (r"\.compress_vit_feat\.1\.", ".compress_vit_norm."),
        (r"\.compress_vit_feat\.3\.", ".compress_vit_conv2."),
        (r"\.embedding_encoder\.0\.", ".encoder_conv1."),
        (r"\.embedding_encoder\.1\.", ".encoder_norm."),
        (r"\.embedding_encoder\.3\.", ".encoder_conv2."),
        (r"\.embedding_maskfeature\.0\.", ".mask_conv1."),
        (r"\.embedding_maskfeature\.1\.", ".mask_norm."),
        (r"\.embedding_maskfeature\.3\.", ".mask_conv2."),
        # Three-layer perceptrons; the middle one last, since its new name looks like an old one.
        (r"(_mlps\.\d+|_mlp|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
        (r"(_mlps\.\d+|_mlp|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
        (r"(_mlps\.\d+|_mlp|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    )
)


def prepare(build: Callable[[], nn.Module], weights: str | None, seed: int, name: str) -> tuple[nn.Module, str]:
    """Return the module in eval mode without gradients, and its weights status.

    Raises:
        WeightsError: no weights there, or they do not fit.
    """
    if weights is None:
        module, status = _weights.prepare(build, None, seed, name, _INITIAL)
        state = module.state_dict()
        state[_CODE[1]].copy_(state[_CODE[0]])
        return module, status
    path = locate(Path(weights), name)
    state, status = _weights.read(path, name)
    with torch.device("meta"):
        module = build()
    _weights.load(module, named(state), path, name)
    return module.eval().requires_grad_(False), status


def locate(path: Path, name: str) -> Path:
    """Return the weight file of a folder; a file (or what is not there) is returned as it is.

    Raises:
        WeightsError: a folder without a weight file, or with several.
    """
    if not path.is_dir():
        return path
    for file in _FILES:
        if (path / file).is_file():
            return path / file
    found = sorted(file for pattern in _PATTERNS for file in path.glob(pattern))
    if len(found) == 1:
        return found[0]
    held = ", ".join(file.name for file in found[:4]) or "none"
    raise _weights.WeightsError(
        f"weights {path} of {name}: expected {' or '.join(_FILES)} or one .pth file in the folder, found {held}"
    )


def named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state under transformers' names, whether it has those or the original ones."""
    result = dict(state)
    if any(key.startswith("image_encoder.") for key in result):
        result = {_CODE[0] if key == _ORIGINAL_CODE else _renamed(key): value for key, value in result.items()}
    for one, other in (_CODE, _CODE[::-1]):
        if one in result:
            result.setdefault(other, result[one])
    return result


def _renamed(key: str) -> str:
    for pattern, name in _RULES:
        key = pattern.sub(name, key)
    return key
