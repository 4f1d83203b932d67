"""Weights of SAM 2.1 and SAM 3's tracker: transformers' names and those of the official files.

The released files hold the video model. What only the video model uses is dropped by name; any other key that does not
fit is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from baselines import _weights
from baselines._sam2_build import complete
from baselines._weights import Net

VIDEO_ONLY = (
    # official names
    "maskmem_tpos_enc",
    "memory_attention.",
    "memory_encoder.",
    "mask_downsample.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    # transformers' names
    "memory_",
    "object_pointer_proj.",
    "temporal_positional_encoding_projection_layer.",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
)
"""Beginnings of keys that only the video model uses."""

# One matrix under two names; files may hold either or both.
_CODE = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")

_INITIAL = {
    end: _weights.normal(scale)
    for end, scale in (
        ("positional_embedding", 1.0),
        ("iou_token.weight", 1.0),
        ("mask_tokens.weight", 1.0),
        ("obj_score_token.weight", 1.0),
        ("pos_embed", 0.02),
        ("pos_embed_window", 0.02),
        ("_embed.weight", 0.3),
    )
}

_PERCEPTRONS = r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)"
# Official names to transformers', applied in this order.
_RULES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^sam_prompt_encoder\.", "prompt_encoder."),
        (r"^sam_mask_decoder\.", "mask_decoder."),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        (r"^(vision_encoder\.backbone\.blocks\.\d+\.)norm", r"\1layer_norm"),
        (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", _CODE[1]),
        (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
        (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
        (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
        (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
        (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
        (r"^(mask_decoder\.transformer\.layers\.\d+\.)norm", r"\1layer_norm"),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        (r"^(mask_decoder\.transformer\..*)\.out_proj\.", r"\1.o_proj."),
        (r"\.output_upscaling\.0\.", ".upscale_conv1."),
        (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
        (r"\.output_upscaling\.3\.", ".upscale_conv2."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        # Three-layer perceptrons; the middle one last, since its new name looks like an old one.
        (rf"{_PERCEPTRONS}\.layers\.0\.", r"\1.proj_in."),
        (rf"{_PERCEPTRONS}\.layers\.2\.", r"\1.proj_out."),
        (rf"{_PERCEPTRONS}\.layers\.1\.", r"\1.layers.0."),
    )
)  # fmt: skip
_POINTS, _TABLE = "prompt_encoder.point_embeddings.{}.weight", "prompt_encoder.point_embed.weight"


def prepare(build: Callable[[], Net], weights: str | None, seed: int, name: str) -> tuple[Net, str]:
    """Return the module in eval mode without gradients, and its weights status.

    Raises:
        WeightsError: no weights there, or they do not fit.
    """
    module, status = _weights.prepare(build, weights, seed, name, _INITIAL, named=named)
    if weights is None:
        state = module.state_dict()
        state[_CODE[1]].copy_(state[_CODE[0]])
    complete(module)
    return module, status


def named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the image model's state under transformers' names, whether it has those or the official ones."""
    # transformers' folders of SAM 3 hold detector and tracker side by side.
    if any(key.startswith("tracker_model.") for key in state):
        state = _tracker(state)
    result = {key: value for key, value in state.items() if not key.startswith(VIDEO_ONLY)}
    if any(key.startswith("image_encoder.") for key in result):
        result = {_renamed(key): value for key, value in result.items()}
        rows = [_POINTS.format(row) for row in range(4)]
        if all(row in result for row in rows):
            result[_TABLE] = torch.cat([result.pop(row) for row in rows])
    for one, other in (_CODE, _CODE[::-1]):
        if one in result:
            result.setdefault(other, result[one])
    return result


def _tracker(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = {
        key.removeprefix("tracker_model."): value for key, value in state.items() if key.startswith("tracker_model.")
    }
    # The trunk is the detector's; the tracker brings its own neck.
    trunk = "detector_model.vision_encoder.backbone."
    for key, value in state.items():
        if key.startswith(trunk):
            result["vision_encoder.backbone." + key.removeprefix(trunk)] = value
    neck = "tracker_neck."
    for key, value in state.items():
        if key.startswith(neck):
            result["vision_encoder.neck." + key.removeprefix(neck)] = value
    return result


def _renamed(key: str) -> str:
    for pattern, name in _RULES:
        key = pattern.sub(name, key)
    return key
