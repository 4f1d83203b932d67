"""Training of a whole batch at a time: the values of `decode_for_training` in fewer and larger operations.

What differs from the model as it is written:
* The label embedding and the stem's first convolution are one convolution of one-hot labels. The crops of DPE are
  zeros outside the box at every level, for all images at once.
* Every token goes through full and quantised attention and a mask chooses; the experts see sorted tokens of all images.
* What an edge map adds to a stage is convolved once per image, not once per click; a doubling and its convolution are
  one convolution at the low resolution, but for the outermost pixels, which are computed as written.
* Under autocast the convolutions run in bfloat16, the blocks in float32.

Speed on two cores (EPYC, AVX512-BF16, batch of 12 at 320 px) is recorded in docs/training.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.attention import Attention, rotations
from inter2former.bicubic import doubling_kernel
from inter2former.edges import stack_maps
from inter2former.label_tokens import TOKEN, TokenView
from inter2former.model import Inter2Former, TrainingOutput
from inter2former.prompt_embedding import PromptEmbedding
from inter2former.sparse_stem import LABELS

Encoded = tuple[Tensor, ...]
"""Tokens (B, dim, h, w), then each stage's edge term (B, C', 2^(j+1) h, 2^(j+1) w)."""


Keep = Callable[[nn.Module, Tensor, Callable[[], tuple[Tensor, ...]]], tuple[Tensor, ...]]
"""Returns what the function makes of the part and the images, or what it made of them before."""


def compute(part: nn.Module, images: Tensor, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Return `make()`: the `Keep` that remembers nothing."""
    return make()


def encode(model: Inter2Former, image: Tensor, keep: Keep | None = None) -> Encoded:
    """Encode normalised images (B, 3, H, W), H and W multiples of 16, as leaves for `decode`.

    Args:
        keep: remembers what frozen parts made; None: everything is computed.
    """
    keep = keep or compute
    embedding, *fine = keep(model.backbone, image, lambda: maps_of(model.backbone(image)))
    edges = list(keep(model.edge_detector, image, lambda: tuple(edge_maps(model.edge_detector, image))))
    edges = [edge + fine[j] if j < len(fine) else edge for j, edge in enumerate(edges)]
    stages: Any = model.decode_head.upsamplers
    terms = [stage.conv(edge) for stage, edge in zip(stages, edges, strict=True)]
    return embedding, *terms


def maps_of(encoded: Any) -> tuple[Tensor, ...]:
    """What a backbone returns, an embedding alone or with its fine maps, as one tuple."""
    return (encoded[0], *encoded[1]) if isinstance(encoded, tuple) else (encoded,)


def edge_maps(detector: Any, image: Tensor) -> list[Tensor]:
    """Return the edge maps, coarsest first, with PyTorch's group norm in place of the detector's more exact one."""
    with torch.autocast(image.device.type, enabled=False):
        stack = stack_maps(detector.canny(image.float())).contiguous(memory_format=torch.channels_last)
    features = detector.conv1(stack)
    maps: list[Tensor] = []
    for level, (blocks, lateral) in enumerate(zip(detector.block_list, detector.lateral_convs, strict=True)):
        for block in blocks:
            inner = block.conv1(_norm_silu(features, block.norm1))
            features = features + block.conv2(_norm_silu(inner, block.norm2))
        maps.insert(0, lateral(features))
        if level < len(detector.downsamplers):
            features = detector.downsamplers[level](features)
    return maps


def _norm_silu(x: Tensor, norm: Any) -> Tensor:
    return F.silu(F.group_norm(x, 1, norm.weight.to(x.dtype), norm.bias.to(x.dtype), 1e-5))


def decode(model: Inter2Former, encoded: Encoded, labels: Sequence[np.ndarray]) -> TrainingOutput:
    """Decode with one label map (H, W) uint8 per image; see `Inter2Former.decode_for_training`."""
    embedding, *terms = encoded
    views = [model.neck.view(label) for label in labels]
    h, w = embedding.shape[2:]
    x = embedding.float() + prompt(model.neck.dpe, labels, views).float()
    x = x.flatten(2).transpose(1, 2)
    boundary = torch.from_numpy(np.stack([view.boundary for view in views])).flatten(1).to(x.device)
    losses = []
    blocks: Any = model.neck.blocks
    with torch.autocast(x.device.type, enabled=False):
        for block in blocks:
            attended, loss = attend(block.attention, block.norm1(x), (h, w), boundary)
            x = x + block.attention.o_proj(attended)
            flat = x.flatten(0, 1)
            rows = boundary.flatten().nonzero()[:, 0]
            x = block.ffn(flat, block.norm2(flat), rows).view_as(x)
            losses.append(loss)
    x = x.transpose(1, 2).unflatten(2, (h, w))
    coarse = model.decode_head.coarse(x.detach())
    for stage, term in zip(model.decode_head.upsamplers, terms, strict=True):
        x = upsample(stage, x, term)
    return TrainingOutput(x.float(), coarse.float(), torch.stack(losses).mean())


def prompt(dpe: PromptEmbedding, labels: Sequence[np.ndarray], views: Sequence[TokenView]) -> Tensor:
    """Return the prompt embedding (B, dim, h, w)."""
    table = dpe.ref_embeds.weight
    masks = np.stack([_box_mask(view) for view in views])
    stack = np.stack(labels)
    if not dpe.whole:
        # A label that does not exist has no one-hot: zeros outside the box, as the padding of the crop.
        stack = np.where(np.repeat(np.repeat(masks, TOKEN, 1), TOKEN, 2) > 0, stack, np.uint8(LABELS))
    one_hot = (np.eye(LABELS + 1, LABELS, dtype=np.uint8)).view(f"V{LABELS}")[stack, 0].view(np.uint8)
    x = torch.from_numpy(one_hot.reshape(*stack.shape, LABELS)).to(table.device).permute(0, 3, 1, 2)
    x = x.to(torch.bfloat16 if torch.is_autocast_enabled(table.device.type) else table.dtype)
    inside = torch.from_numpy(masks)[:, None].to(x)
    convolutions = [layer for layer in dpe.ref_conv.stem if isinstance(layer, nn.Conv2d)]
    for level, layer in enumerate(convolutions):
        weight = torch.einsum("ocyx,lc->olyx", layer.weight, table) if level == 0 else layer.weight
        x = F.relu(F.conv2d(x, weight, layer.bias, stride=2, padding=1))
        if not dpe.whole and level < len(convolutions) - 1:
            x = x * _enlarge(inside, TOKEN >> (level + 1))
    if dpe.whole:
        return x
    return torch.where(inside > 0, x.float(), dpe.background().float()[:, None, None])


def _box_mask(view: TokenView) -> np.ndarray:
    mask = np.zeros(view.boundary.shape, np.uint8)
    mask[view.box.slices] = 1
    return mask


def _enlarge(mask: Tensor, factor: int) -> Tensor:
    return mask.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def attend(attention: Attention, z: Tensor, grid: tuple[int, int], boundary: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the tokens (B, L, dim) attend to, (B, L, head_dim), and the quantiser's loss.

    Args:
        boundary: (B, L) bool.
    """
    query, key, value = attention.qkv_proj(z).chunk(3, dim=-1)
    loss = z.new_zeros(())
    coarse = None
    if attention.kind != "full":
        quantised, loss = attention.quantiser.quantise(key)
        coarse = softmax_attention(query, quantised, value)
    if attention.kind in ("bsq", "vq"):
        assert coarse is not None
        return coarse, loss
    factors = rotations(*grid, attention.head_dim).to(z.device)
    close = softmax_attention(turn(query, factors), turn(key, factors), value)
    return close if coarse is None else torch.where(boundary[..., None], close, coarse), loss


def softmax_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(query key' / sqrt(C)) value of (B, L, C): for one narrow head faster than the fused kernel."""
    scores = torch.bmm(query * (1 / math.sqrt(query.shape[-1])), key.transpose(1, 2))
    return torch.bmm(scores.softmax(-1), value)


def turn(x: Tensor, factors: Tensor) -> Tensor:
    """Turn channel pairs of x (B, L, C) by factors (L, C / 2) complex64, in real arithmetic."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cosine, sine = factors.real, factors.imag
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


def upsample(stage: Any, x: Tensor, term: Tensor) -> Tensor:
    """Run a stage of the head: x (B, C, h, w), term (B, C', 2h, 2w) with the convolution's bias -> as term."""
    norm, weight = stage.norm, stage.conv.weight
    normed = F.group_norm(x, 1, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
    out = weight.shape[0]
    kernel = doubling_kernel(weight, 1).unflatten(0, (4, out)).transpose(0, 1).flatten(0, 1)
    folded = F.conv2d(F.pad(normed, (2, 2, 2, 2), mode="replicate"), kernel)
    x = with_border(F.pixel_shuffle(folded, 2), normed, weight) + term
    return x if stage.last else F.silu(x)


def with_border(doubled: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Replace the outermost pixels (B, C', 2h, 2w): there the convolution of the doubled x sees zeros outside."""

    def strip(part: Tensor) -> Tensor:
        fine = F.interpolate(part, scale_factor=2, mode="bicubic", align_corners=False)
        return fine.to(x.dtype)

    # Four low-resolution rows decide the first two doubled ones, and these the first row of the convolution.
    top = F.conv2d(strip(x[:, :, :4])[:, :, :2], weight, padding=1)[:, :, :1]
    bottom = F.conv2d(strip(x[:, :, -4:])[:, :, -2:], weight, padding=1)[:, :, -1:]
    left = F.conv2d(strip(x[..., :4])[..., :2], weight, padding=1)[:, :, 1:-1, :1]
    right = F.conv2d(strip(x[..., -4:])[..., -2:], weight, padding=1)[:, :, 1:-1, -1:]
    middle = torch.cat([left, doubled[:, :, 1:-1, 1:-1], right], dim=3)
    return torch.cat([top, middle, bottom], dim=2)
