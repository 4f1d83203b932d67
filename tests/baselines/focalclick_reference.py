"""FocalClick written down a second time from its specification, in float64 and without modules: names and numbers
only. Sections are those of focalclick.md."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]


def conv(state: State, key: str, x: Tensor, **more: int) -> Tensor:
    return F.conv2d(x, state[f"{key}.weight"], state.get(f"{key}.bias"), **more)


def linear(state: State, key: str, x: Tensor) -> Tensor:
    return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]


def layer_norm(state: State, key: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred**2).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * state[f"{key}.weight"] + state[f"{key}.bias"]


def batch_norm(state: State, key: str, x: Tensor) -> Tensor:
    def plane(name: str) -> Tensor:
        return state[f"{key}.{name}"][:, None, None]

    return (x - plane("running_mean")) / torch.sqrt(plane("running_var") + 1e-5) * plane("weight") + plane("bias")


def tokens(x: Tensor) -> Tensor:
    return x[0].flatten(1).T


def image(x: Tensor, height: int, width: int) -> Tensor:
    return x.T.reshape(1, -1, height, width)


def resize(x: Tensor, size: int, aligned: bool) -> Tensor:
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=aligned)


def segformer(state: State, picture: Tensor, prompts: Tensor, depths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Section 2: logits and features at stride 4 of one image and its prompts (1, 3, S, S)."""
    x, maps = picture, []
    for stage, depth in enumerate(depths, start=1):
        name, first = f"backbone.patch_embed{stage}", stage == 1
        x = conv(state, f"{name}.proj", x, stride=4 if first else 2, padding=3 if first else 1)
        height, width = x.shape[2:]
        x = layer_norm(state, f"{name}.norm", tokens(x), 1e-5)
        for number in range(depth):
            x = block(state, f"backbone.block{stage}.{number}", x, height, width, (1, 2, 5, 8)[stage - 1], stage)
        x = image(layer_norm(state, f"backbone.norm{stage}", x, 1e-6), height, width)
        maps.append(x)
        if first:
            name = "backbone.patch_embed_side1"
            side = tokens(conv(state, f"{name}.proj", prompts, stride=4, padding=3))
            x = x + image(layer_norm(state, f"{name}.norm", side, 1e-5), height, width)
    fine = maps[0].shape[-1]
    parts = []
    for stage in (4, 3, 2, 1):
        side = maps[stage - 1].shape[-1]
        parts.append(
            resize(
                image(linear(state, f"decode_head.linear_c{stage}.proj", tokens(maps[stage - 1])), side, side),
                fine,
                False,
            )
        )
    joined = conv(state, "decode_head.linear_fuse.conv", torch.cat(parts, dim=1))
    features = batch_norm(state, "decode_head.linear_fuse.bn", joined).clamp(min=0)
    return conv(state, "decode_head.linear_pred", features), features


def block(state: State, key: str, x: Tensor, height: int, width: int, heads: int, stage: int) -> Tensor:
    y = layer_norm(state, f"{key}.norm1", x, 1e-6)
    reduction = (8, 4, 2, 1)[stage - 1]
    small = y
    if reduction > 1:
        small = tokens(conv(state, f"{key}.attn.sr", image(y, height, width), stride=reduction))
        small = layer_norm(state, f"{key}.attn.norm", small, 1e-5)
    query, both = linear(state, f"{key}.attn.q", y), linear(state, f"{key}.attn.kv", small)
    width_of_head = x.shape[1] // heads
    attended = []
    for head in range(heads):
        part = slice(head * width_of_head, (head + 1) * width_of_head)
        keys, values = both[:, : x.shape[1]][:, part], both[:, x.shape[1] :][:, part]
        attended.append(torch.softmax(query[:, part] @ keys.T / math.sqrt(width_of_head), dim=1) @ values)
    x = x + linear(state, f"{key}.attn.proj", torch.cat(attended, dim=1))
    inner = image(linear(state, f"{key}.mlp.fc1", layer_norm(state, f"{key}.norm2", x, 1e-6)), height, width)
    inner = tokens(conv(state, f"{key}.mlp.dwconv.dwconv", inner, padding=1, groups=inner.shape[1]))
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return x + linear(state, f"{key}.mlp.fc2", inner)


def roi_align(x: Tensor, box: list[float], scale: float, size: int) -> Tensor:
    """Section 4.1, one bin after the other; x (1, C, L, L), box left, top, right, bottom."""
    edges = [value * scale - 0.5 for value in box]
    result = torch.zeros(1, x.shape[1], size, size, dtype=x.dtype)
    limit = x.shape[-1]

    def neighbours(place: float) -> tuple[int, int, float]:
        place = max(place, 0.0)
        low = int(place)
        return (limit - 1, limit - 1, 0.0) if low >= limit - 1 else (low, low + 1, place - low)

    for i in range(size):
        top, bottom, down = neighbours(edges[1] + (i + 0.5) * (edges[3] - edges[1]) / size)
        for j in range(size):
            left, right, across = neighbours(edges[0] + (j + 0.5) * (edges[2] - edges[0]) / size)
            result[0, :, i, j] = (1 - down) * ((1 - across) * x[0, :, top, left] + across * x[0, :, top, right])
            result[0, :, i, j] += down * ((1 - across) * x[0, :, bottom, left] + across * x[0, :, bottom, right])
    return result


def refine(
    state: State, crop: Tensor, discs: Tensor, features: Tensor, coarse: Tensor, box: list[float]
) -> tuple[Tensor, Tensor]:
    """Section 4: refined and boundary logits (1, 1, S, S)."""
    size, fine = coarse.shape[-1], features.shape[-1]

    def unit(key: str, x: Tensor) -> Tensor:
        x = conv(state, f"{key}.conv3x3", x, padding=1, groups=32)
        return batch_norm(state, f"{key}.norm", conv(state, f"{key}.conv1x1", x)).clamp(min=0)

    part, logits = roi_align(features, box, fine / size, fine), roi_align(coarse, box, 1.0, size)
    x = conv(
        state, "image_conv1.conv", torch.cat([crop, discs, 1 / (1 + torch.exp(-logits))], dim=1), stride=2, padding=1
    )
    x = unit("image_conv3", unit("image_conv2", batch_norm(state, "image_conv1.norm", x).clamp(min=0)))
    y = batch_norm(state, "refine_fusion.norm", conv(state, "refine_fusion.conv", part)).clamp(min=0)
    x = unit("refine_fusion3", unit("refine_fusion2", x + resize(y, x.shape[-1], True)))
    detail = resize(conv(state, "refine_pred", x, padding=1), size, True)
    boundary = resize(conv(state, "refine_trimap", x, padding=1), size, True)
    share = 1 / (1 + torch.exp(-boundary))
    return detail * share + logits * (1 - share), boundary


def component(change: np.ndarray, y: int, x: int) -> np.ndarray:
    """The 8-connected part of a bool map around (y, x), by flooding; all pixels that are off where (y, x) is."""
    if not change[y, x]:
        return ~change
    part, border = np.zeros_like(change), [(y, x)]
    while border:
        i, j = border.pop()
        if 0 <= i < change.shape[0] and 0 <= j < change.shape[1] and change[i, j] and not part[i, j]:
            part[i, j] = True
            border += [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return part


def focus(before: np.ndarray, after: np.ndarray, y: int, x: int, view: tuple[int, ...]) -> tuple[int, ...]:
    """Section 5.4: top, bottom, left, right."""
    height, width = before.shape

    def box(mask: np.ndarray) -> tuple[float, float, float, float]:
        if mask.sum() < 10:
            return 0, height, 0, width
        rows, columns = np.nonzero(mask)
        return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())

    chosen = whole = box(after)
    if before.sum() > 0:
        chosen = box(component(before ^ after, y, x))
        tall, wide = whole[1] - whole[0], whole[3] - whole[2]
        if chosen[1] - chosen[0] < tall / 3 or chosen[3] - chosen[2] < wide / 3:
            reach = 0.2 * max(tall, wide)
            chosen = (y - reach, y + reach, x - reach, x + reach)
    result = []
    for low, high, size, first, last in (
        (*chosen[:2], height, *view[:2]),
        (*chosen[2:], width, *view[2:]),
    ):
        half = 1.4 * (high - low + 1) / 2
        result += [
            max(math.trunc((low + high) / 2 - half), 0, first),
            min(math.trunc((low + high) / 2 + half), size, last),
        ]
    return tuple(result)
