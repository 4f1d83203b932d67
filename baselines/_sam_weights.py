"""Weights of SAM and SAM-HQ: the original names and transformers' names.

Our modules have the original names, but for the image encoder, which is transformers' and has its names there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from baselines import _weights
from baselines._weights import Net

# Transformers has the one random matrix under two names; files may hold either or both.
_CODES = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")
_CODE = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"

INITIAL = {
    end: _weights.normal(scale)
    for end, scale in (
        ("positional_encoding_gaussian_matrix", 1.0),
        ("iou_token.weight", 1.0),
        ("mask_tokens.weight", 1.0),
        ("hf_token.weight", 1.0),
        ("pos_embed", 0.02),
        ("_embed.weight", 0.3),
        ("rel_pos_h", 0.02),
        ("rel_pos_w", 0.02),
    )
}
INITIAL |= {f"point_embeddings.{i}.weight": _weights.normal(0.3) for i in range(4)}

# The image encoder's original names to transformers', and the others' names the other way; in this order.
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
        (r"\.point_embed\.", ".point_embeddings."),
        (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
        (r"\.mask_embed\.layer_norm1\.", ".mask_downscaling.1."),
        (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
        (r"\.mask_embed\.layer_norm2\.", ".mask_downscaling.4."),
        (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
        (r"^(mask_decoder\.transformer\.layers\.\d+\.)layer_norm", r"\1norm"),
        (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
        (r"\.upscale_conv1\.", ".output_upscaling.0."),
        (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
        (r"\.upscale_conv2\.", ".output_upscaling.3."),
        (r"\.hq_token\.", ".hf_token."),
        (r"\.hq_mask_mlp\.", ".hf_mlp."),
        (r"\.compress_vit_conv1\.", ".compress_vit_feat.0."),
        (r"\.compress_vit_norm\.", ".compress_vit_feat.1."),
        (r"\.compress_vit_conv2\.", ".compress_vit_feat.3."),
        (r"\.encoder_conv1\.", ".embedding_encoder.0."),
        (r"\.encoder_norm\.", ".embedding_encoder.1."),
        (r"\.encoder_conv2\.", ".embedding_encoder.3."),
        (r"\.mask_conv1\.", ".embedding_maskfeature.0."),
        (r"\.mask_norm\.", ".embedding_maskfeature.1."),
        (r"\.mask_conv2\.", ".embedding_maskfeature.3."),
    )
)
# Three-layer perceptrons of transformers' files; the middle one first, since its old name is another's new one.
_PERCEPTRONS = tuple(
    (re.compile(rf"(_mlps\.\d+|_mlp|iou_prediction_head)\.{old}\."), rf"\1.layers.{number}.")
    for old, number in ((r"layers\.0", 1), ("proj_in", 0), ("proj_out", 2))
)


def prepare(build: Callable[[], Net], weights: str | None, seed: int, name: str) -> tuple[Net, str]:
    """Return the module in eval mode without gradients, and its weights status.

    Raises:
        WeightsError: no weights there, or they do not fit.
    """
    return _weights.prepare(build, weights, seed, name, INITIAL, named=named)


def named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state under the names of our modules, whether it has those, transformers' or the original ones."""
    foreign = any(".proj_in." in key for key in state)
    result = {}
    for key, value in state.items():
        for pattern, name in (*_RULES, *(_PERCEPTRONS if foreign else ())):
            key = pattern.sub(name, key)
        result[_CODE if key in _CODES else key] = value
    return result
