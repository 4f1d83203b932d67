"""SAM 2.1 under the official files' names: keys and shapes of the image model, and its decoder written a second time.

Names and steps are those of sam2.md, sections 2, 3 and 5, and of sam_hq.md where SAM 2 does as SAM.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import torch
import transcriptions_sam as sam
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, ...]
# sam2.md, section 4: width, blocks per stage, side of the position table, window of the first stage.
TRUNKS = {
    "hiera_tiny": (96, (1, 2, 7, 2), 7, 8),
    "hiera_small": (96, (1, 2, 11, 2), 7, 8),
    "hiera_base_plus": (112, (2, 3, 16, 3), 14, 8),
    "hiera_large": (144, (2, 6, 36, 4), 7, 8),
}
VIDEO: dict[str, Shape] = {
    "maskmem_tpos_enc": (7, 1, 1, 64),
    "no_mem_pos_enc": (1, 1, 256),
    "no_obj_ptr": (1, 256),
    "no_obj_embed_spatial": (1, 64),
    "memory_attention.layers.0.norm1.weight": (256,),
    "memory_encoder.out_proj.weight": (64, 256, 1, 1),
    "mask_downsample.weight": (1, 1, 4, 4),
    "obj_ptr_proj.layers.0.weight": (256, 256),
    "obj_ptr_tpos_proj.weight": (64, 256),
}


def both(name: str, weight: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]


def norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield from both(name, (width,))


def trunk(model: str) -> Iterator[tuple[str, Shape]]:
    width, depths, table, window = TRUNKS[model]
    name = "image_encoder.trunk"
    yield f"{name}.pos_embed", (1, width, table, table)
    yield f"{name}.pos_embed_window", (1, width, window, window)
    yield from both(f"{name}.patch_embed.proj", (width, 3, 7, 7))
    number, into = 0, width
    for stage, depth in enumerate(depths):
        out = width * 2**stage
        for _ in range(depth):
            block = f"{name}.blocks.{number}"
            yield from norm(f"{block}.norm1", into)
            yield from both(f"{block}.attn.qkv", (3 * out, into))
            yield from both(f"{block}.attn.proj", (out, out))
            yield from norm(f"{block}.norm2", out)
            yield from both(f"{block}.mlp.layers.0", (4 * out, out))
            yield from both(f"{block}.mlp.layers.1", (out, 4 * out))
            if into != out:
                yield from both(f"{block}.proj", (out, into))
            number, into = number + 1, out
    for level in range(4):
        yield from both(f"image_encoder.neck.convs.{level}.conv", (256, width * 2 ** (3 - level), 1, 1))


def prompts() -> Iterator[tuple[str, Shape]]:
    name = "sam_prompt_encoder"
    yield f"{name}.pe_layer.positional_encoding_gaussian_matrix", (2, 128)
    for row in range(4):
        yield f"{name}.point_embeddings.{row}.weight", (1, 256)
    yield f"{name}.not_a_point_embed.weight", (1, 256)
    yield f"{name}.no_mask_embed.weight", (1, 256)
    yield from both(f"{name}.mask_downscaling.0", (4, 1, 2, 2))
    yield from norm(f"{name}.mask_downscaling.1", 4)
    yield from both(f"{name}.mask_downscaling.3", (16, 4, 2, 2))
    yield from norm(f"{name}.mask_downscaling.4", 16)
    yield from both(f"{name}.mask_downscaling.6", (256, 16, 1, 1))


def decoder() -> Iterator[tuple[str, Shape]]:
    name = "sam_mask_decoder"
    for token, rows in (("iou_token", 1), ("mask_tokens", 4), ("obj_score_token", 1)):
        yield f"{name}.{token}.weight", (rows, 256)
    for layer in range(2):
        inner = f"{name}.transformer.layers.{layer}"
        yield from attention(f"{inner}.self_attn", 256)
        for kind in ("cross_attn_token_to_image", "cross_attn_image_to_token"):
            yield from attention(f"{inner}.{kind}", 128)
        for number in range(1, 5):
            yield from norm(f"{inner}.norm{number}", 256)
        yield from both(f"{inner}.mlp.layers.0", (2048, 256))
        yield from both(f"{inner}.mlp.layers.1", (256, 2048))
    yield from attention(f"{name}.transformer.final_attn_token_to_image", 128)
    yield from norm(f"{name}.transformer.norm_final_attn", 256)
    for part, shape in (("0", (256, 64, 2, 2)), ("3", (64, 32, 2, 2))):
        yield f"{name}.output_upscaling.{part}.weight", shape
        yield f"{name}.output_upscaling.{part}.bias", shape[1:2]
    yield from norm(f"{name}.output_upscaling.1", 64)
    yield from both(f"{name}.conv_s0", (32, 256, 1, 1))
    yield from both(f"{name}.conv_s1", (64, 256, 1, 1))
    heads = {f"output_hypernetworks_mlps.{mask}": 32 for mask in range(4)}
    for head, out in {**heads, "iou_prediction_head": 4, "pred_obj_score_head": 1}.items():
        for layer, rows in enumerate((256, 256, out)):
            yield from both(f"{name}.{head}.layers.{layer}", (rows, 256))


def attention(name: str, inner: int) -> Iterator[tuple[str, Shape]]:
    for part in "qkv":
        yield from both(f"{name}.{part}_proj", (inner, 256))
    yield from both(f"{name}.out_proj", (256, inner))


def shapes(model: str) -> dict[str, Shape]:
    """Key -> shape of the image model in an official file."""
    return {"no_mem_embed": (1, 1, 256), **dict(trunk(model)), **dict(prompts()), **dict(decoder())}


def draw(model: str, video: bool = True) -> dict[str, Tensor]:
    """A state of an official file with values drawn key by key: large enough that masks are not constant."""
    state = {}
    for key, shape in {**shapes(model), **(VIDEO if video else {})}.items():
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        value = torch.randn(shape, generator=generator)
        whole = ("_token.weight", "_tokens.weight", "gaussian_matrix", "_mem_embed", "_mask_embed.weight")
        if key.endswith(whole) or "point" in key:
            state[key] = value
        elif len(shape) == 1:
            state[key] = (1 if key.endswith("weight") else 0) + 0.1 * value
        else:
            state[key] = value * 1.5 / math.sqrt(math.prod(shape[1:]))
    return state


def as_sam(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state in float64 under the original SAM's names, for what SAM 2 shares with it."""
    result = {}
    for key, value in state.items():
        key = key.removeprefix("sam_").replace(".mlp.layers.0.", ".mlp.lin1.").replace(".mlp.layers.1.", ".mlp.lin2.")
        result[key] = value.double()
    return result


def decode(
    fine: list[Tensor], coarse: Tensor, points: Tensor, labels: Tensor, previous: Tensor | None, state: sam.State
) -> tuple[Tensor, Tensor, Tensor]:
    """Four masks (4, 4g, 4g), four qualities in 0..1 and the object's logit, in float64.

    Args:
        fine: maps of stride 4 and 8 after `conv_s0` and `conv_s1`.
        coarse: (1, 256, g, g).
        points, labels: (n, 2) x and y in network pixels, (n,) 1 or 0.
        previous: (1, 1, 4g, 4g) logits.
        state: of `as_sam`.
    """
    side, name = coarse.shape[2], "mask_decoder"
    sparse, dense = sam.sam_prompts(points, labels, previous, side, state)
    own = ("obj_score_token", "iou_token", "mask_tokens")  # section 2: the object token comes first
    first = torch.cat([*(state[f"{name}.{token}.weight"] for token in own), sparse])
    code = sam.grid_position(side, state)
    q, k = first, coarse[0].flatten(1).T + dense
    for number in (0, 1):
        layer = f"{name}.transformer.layers.{number}"
        itself = f"{layer}.self_attn"
        if number:
            q = q + sam.attention(q + first, q + first, q, state, itself)
        else:
            q = sam.attention(q, q, q, state, itself)
        q = sam.norm(q, state, f"{layer}.norm1", 1e-5)
        q = q + sam.attention(q + first, k + code, k, state, f"{layer}.cross_attn_token_to_image")
        q = sam.norm(q, state, f"{layer}.norm2", 1e-5)
        q = q + sam.linear(F.relu(sam.linear(q, state, f"{layer}.mlp.lin1")), state, f"{layer}.mlp.lin2")
        q = sam.norm(q, state, f"{layer}.norm3", 1e-5)
        k = k + sam.attention(k + code, q + first, q, state, f"{layer}.cross_attn_image_to_token")
        k = sam.norm(k, state, f"{layer}.norm4", 1e-5)
    q = q + sam.attention(q + first, k + code, k, state, f"{name}.transformer.final_attn_token_to_image")
    q = sam.norm(q, state, f"{name}.transformer.norm_final_attn", 1e-5)
    up = f"{name}.output_upscaling"
    # Section 2: fine maps join before the norm, and before the last GELU.
    u = sam.enlarged(k.T.reshape(1, -1, side, side), state, f"{up}.0") + fine[1]
    u = F.gelu(sam.enlarged(F.gelu(sam.norm2d(u, state, f"{up}.1")), state, f"{up}.3") + fine[0])
    masks = [
        torch.einsum("c,cij->ij", sam.perceptron(q[2 + m], state, f"{name}.output_hypernetworks_mlps.{m}"), u[0])
        for m in range(4)
    ]
    quality = torch.sigmoid(sam.perceptron(q[1], state, f"{name}.iou_prediction_head"))
    return torch.stack(masks), quality, sam.perceptron(q[0], state, f"{name}.pred_obj_score_head")


def chosen(masks: Tensor, quality: Tensor, several: bool) -> Tensor:
    """The answer (4g, 4g): section 3, best of 1..3, or mask 0 unless it is unstable."""
    best = masks[1 + int(quality[1:].argmax())]
    if several:
        return best
    inner, outer = int((masks[0] > 0.05).sum()), int((masks[0] > -0.05).sum())
    return masks[0] if outer == 0 or inner / outer >= 0.98 else best
