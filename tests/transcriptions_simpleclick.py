"""SimpleClick's network straight from its description: plain operators one after another, in any float type."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def _conv(x: Tensor, state: State, name: str, stride: int = 1) -> Tensor:
    return F.conv2d(x, state[name + ".weight"], state[name + ".bias"], stride)


def _norm(x: Tensor, state: State, name: str) -> Tensor:
    return F.group_norm(x, 1, state[name + ".weight"], state[name + ".bias"])


def _wide(x: Tensor, state: State, name: str) -> Tensor:
    return F.conv_transpose2d(x, state[name + ".weight"], state[name + ".bias"], 2)


def _layer_norm(x: Tensor, state: State, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"], 1e-6)


def _linear(x: Tensor, state: State, name: str) -> Tensor:
    return F.linear(x, state[name + ".weight"], state[name + ".bias"])


def _block(x: Tensor, state: State, name: str, heads: int) -> Tensor:
    """x (B, N, d) -> (B, N, d), attention among all N."""
    batch, count, dim = x.shape
    qkv = _linear(_layer_norm(x, state, name + ".norm1"), state, name + ".attn.qkv")
    query, key, value = qkv.view(batch, count, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(query @ key.transpose(-1, -2) / (dim // heads) ** 0.5, dim=-1)
    x = x + _linear((weights @ value).transpose(1, 2).reshape(x.shape), state, name + ".attn.proj")
    hidden = F.gelu(_linear(_layer_norm(x, state, name + ".norm2"), state, name + ".mlp.fc1"))
    return x + _linear(hidden, state, name + ".mlp.fc2")


def simpleclick(image: Tensor, maps: Tensor, state: State, heads: int, global_blocks: tuple[int, ...]) -> Tensor:
    """Logits (B, 1, S, S) of a normalised image and maps (B, 3, S, S); `global_blocks` are counted from 1."""
    patch = state["patch_embed_coords.proj.weight"].shape[-1]
    x = _conv(image, state, "backbone.patch_embed.proj", patch) + _conv(maps, state, "patch_embed_coords.proj", patch)
    batch, dim, side, _ = x.shape
    table = state["backbone.pos_embed"][:, 1:].transpose(1, 2).view(1, dim, 448 // patch, 448 // patch)
    if 448 // patch != side:
        table = F.interpolate(table, (side, side), mode="bicubic")
    x = (x + table).permute(0, 2, 3, 1)
    count = side // (224 // patch)
    number = 0
    while f"backbone.blocks.{number}.norm1.weight" in state:
        name = f"backbone.blocks.{number}"
        number += 1
        if number in global_blocks:
            x = _block(x.reshape(batch, side**2, dim), state, name, heads).view(batch, side, side, dim)
            continue
        x = x.clone()
        for rows in range(0, side, side // count):
            for columns in range(0, side, side // count):
                part = x[:, rows : rows + side // count, columns : columns + side // count]
                part[:] = _block(part.reshape(batch, -1, dim), state, name, heads).view(part.shape)
    x = x.permute(0, 3, 1, 2)
    finest = _norm(_wide(x, state, "neck.down_4.0"), state, "neck.down_4.1")
    finest = _norm(_wide(F.gelu(finest), state, "neck.down_4.3"), state, "neck.down_4.4")
    finest = F.gelu(_norm(_conv(finest, state, "neck.down_4.5"), state, "neck.down_4.6"))
    fine = _norm(_wide(x, state, "neck.down_8.0"), state, "neck.down_8.1")
    fine = F.gelu(_norm(_conv(fine, state, "neck.down_8.2"), state, "neck.down_8.3"))
    middle = F.gelu(_norm(_conv(x, state, "neck.down_16.0"), state, "neck.down_16.1"))
    coarse = _norm(_conv(x, state, "neck.down_32.0", 2), state, "neck.down_32.1")
    coarse = F.gelu(_norm(_conv(coarse, state, "neck.down_32.2"), state, "neck.down_32.3"))
    levels = []
    for number, level in enumerate((finest, fine, middle, coarse)):
        level = F.relu(_conv(level, state, f"head.convs.{number}.conv"))
        levels.append(F.interpolate(level, finest.shape[2:], mode="bilinear"))
    x = F.relu(_conv(torch.cat(levels, 1), state, "head.fusion_conv.conv"))
    return F.interpolate(_conv(x, state, "head.conv_seg"), image.shape[2:], mode="bilinear", align_corners=True)
