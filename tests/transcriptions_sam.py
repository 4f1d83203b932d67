"""SAM, SAM-HQ, MobileSAM and EfficientSAM in plain form, from their specifications: see `transcriptions`.

State dicts have the names of the released files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def linear(x: Tensor, state: State, name: str) -> Tensor:
    return F.linear(x, state[name + ".weight"], state.get(name + ".bias"))


def norm(x: Tensor, state: State, name: str, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"], eps)


def norm2d(x: Tensor, state: State, name: str) -> Tensor:
    """LN2d: over the channels of each pixel of a map (B, C, h, w), eps 1e-6."""
    return norm(x.permute(0, 2, 3, 1), state, name, 1e-6).permute(0, 3, 1, 2)


def convolution(x: Tensor, state: State, name: str, **more: int) -> Tensor:
    return F.conv2d(x, state[name + ".weight"], state.get(name + ".bias"), **more)


def enlarged(x: Tensor, state: State, name: str) -> Tensor:
    """ConvT2: transposed convolution 2x2, stride 2."""
    return F.conv_transpose2d(x, state[name + ".weight"], state[name + ".bias"], stride=2)


def neck(x: Tensor, state: State, name: str) -> Tensor:
    """Conv1, LN2d, Conv3x3, LN2d on a map (B, C, h, w)."""
    x = norm2d(convolution(x, state, name + ".0"), state, name + ".1")
    return norm2d(convolution(x, state, name + ".2", padding=1), state, name + ".3")


def vit_attention(x: Tensor, state: State, name: str, heads: int) -> Tensor:
    """A of sam_hq.md 1.3 on one window or map x (S, S, C), query by query for its relative positions."""
    side, _, width = x.shape
    query, key, value = linear(x, state, name + ".qkv").view(side, side, 3, heads, -1).unbind(2)
    rows, columns = state[name + ".rel_pos_h"], state[name + ".rel_pos_w"]
    step = torch.arange(side)
    index = step[:, None] - step[None] + side - 1  # [i, a] = i - a + S - 1
    score = torch.einsum("ijhc,abhc->hijab", query, key) / math.sqrt(width / heads)
    score = score + torch.einsum("ijhc,iac->hija", query, rows[index])[..., None]
    score = score + torch.einsum("ijhc,jbc->hijb", query, columns[index])[..., None, :]
    weight = score.flatten(3).softmax(-1).view(score.shape)
    return linear(torch.einsum("hijab,abhc->ijhc", weight, value).flatten(2), state, name + ".proj")


def sam_encoder(image: Tensor, state: State, heads: int, whole: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Embedding F (1, 256, g, g) and early map E (1, g, g, C) of a network input (1, 3, T, T): sam_hq.md 1.2 to 1.5."""
    x = convolution(image, state, "image_encoder.patch_embed.proj", stride=16).permute(0, 2, 3, 1)
    x = (x + state["image_encoder.pos_embed"])[0]
    side, early = x.shape[0], None
    number = 0
    while f"image_encoder.blocks.{number}.norm1.weight" in state:
        block = f"image_encoder.blocks.{number}"
        u = norm(x, state, block + ".norm1", 1e-6)
        if number in whole:
            u = vit_attention(u, state, block + ".attn", heads)
        else:
            padding = -side % 14
            padded = F.pad(u, (0, 0, 0, padding, 0, padding))
            for i in range(0, side, 14):
                for j in range(0, side, 14):
                    window = padded[i : i + 14, j : j + 14].clone()
                    padded[i : i + 14, j : j + 14] = vit_attention(window, state, block + ".attn", heads)
            u = padded[:side, :side]
        x = x + u
        hidden = F.gelu(linear(norm(x, state, block + ".norm2", 1e-6), state, block + ".mlp.lin1"))
        x = x + linear(hidden, state, block + ".mlp.lin2")
        if early is None and number in whole:
            early = x
        number += 1
    assert early is not None
    return neck(x.permute(2, 0, 1)[None], state, "image_encoder.neck"), early[None]


def position(points: Tensor, state: State) -> Tensor:
    """Code of points (..., 2), x and y in [0, 1]: sam_hq.md 2."""
    u = 2 * math.pi * ((2 * points - 1) @ state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"])
    return torch.cat([u.sin(), u.cos()], dim=-1)


def grid_position(side: int, state: State) -> Tensor:
    """Codes (side * side, 256) of a grid's cells, row-major."""
    cells = [[(j + 0.5) / side, (i + 0.5) / side] for i in range(side) for j in range(side)]
    return position(torch.tensor(cells, dtype=torch.float64), state)


def sam_prompts(points: Tensor, labels: Tensor, previous: Tensor | None, side: int, state: State) -> list[Tensor]:
    """Sparse tokens (n + 1, 256) and dense prompt (side * side, 256) of clicks (n, 2), x and y in network pixels."""
    name = "prompt_encoder"
    tokens = position((points + 0.5) / (16 * side), state)
    kinds = [state[f"{name}.point_embeddings.{label}.weight"][0] for label in labels.tolist()]
    sparse = torch.cat([tokens + torch.stack(kinds), state[name + ".not_a_point_embed.weight"]])
    if previous is None:
        return [sparse, state[name + ".no_mask_embed.weight"].expand(side * side, -1)]
    x = previous
    for number in (0, 3):
        x = convolution(x, state, f"{name}.mask_downscaling.{number}", stride=2)
        x = F.gelu(norm2d(x, state, f"{name}.mask_downscaling.{number + 1}"))
    return [sparse, convolution(x, state, f"{name}.mask_downscaling.6")[0].flatten(1).T]


def attention(q: Tensor, k: Tensor, v: Tensor, state: State, name: str) -> Tensor:
    """Att of sam_hq.md 3 on (n, 256), (m, 256), (m, 256): 8 heads."""
    parts = [linear(x, state, f"{name}.{p}_proj").unflatten(1, (8, -1)) for x, p in ((q, "q"), (k, "k"), (v, "v"))]
    score = torch.einsum("nhc,mhc->hnm", parts[0], parts[1]) / math.sqrt(parts[0].shape[2])
    return linear(torch.einsum("hnm,mhc->nhc", score.softmax(-1), parts[2]).flatten(1), state, name + ".out_proj")


def perceptron(x: Tensor, state: State, name: str) -> Tensor:
    """Three layers with ReLU between."""
    x = F.relu(linear(x, state, name + ".layers.0"))
    return linear(F.relu(linear(x, state, name + ".layers.1")), state, name + ".layers.2")


def sam_decoder(
    image: Tensor, sparse: Tensor, dense: Tensor, state: State, early: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Masks (1, 4, 4g, 4g), with `early` SAM-HQ's (1, 5, 4g, 4g), and quality (1, 4): sam_hq.md 3."""
    side, name = image.shape[2], "mask_decoder"
    own = ["iou_token", "mask_tokens"] + ([] if early is None else ["hf_token"])
    t0 = torch.cat([*(state[f"{name}.{token}.weight"] for token in own), sparse])
    code = grid_position(side, state)
    q, k = t0, image[0].flatten(1).T + dense
    for number in (0, 1):
        layer = f"{name}.transformer.layers.{number}"
        itself = layer + ".self_attn"
        q = attention(q, q, q, state, itself) if number == 0 else q + attention(q + t0, q + t0, q, state, itself)
        q = norm(q, state, layer + ".norm1", 1e-5)
        q = q + attention(q + t0, k + code, k, state, layer + ".cross_attn_token_to_image")
        q = norm(q, state, layer + ".norm2", 1e-5)
        q = q + linear(F.relu(linear(q, state, layer + ".mlp.lin1")), state, layer + ".mlp.lin2")
        q = norm(q, state, layer + ".norm3", 1e-5)
        k = k + attention(k + code, q + t0, q, state, layer + ".cross_attn_image_to_token")
        k = norm(k, state, layer + ".norm4", 1e-5)
    q = q + attention(q + t0, k + code, k, state, name + ".transformer.final_attn_token_to_image")
    q = norm(q, state, name + ".transformer.norm_final_attn", 1e-5)

    def up(x: Tensor, part: str) -> Tensor:
        x = F.gelu(norm2d(enlarged(x, state, f"{name}.{part}.0"), state, f"{name}.{part}.1"))
        return enlarged(x, state, f"{name}.{part}.3")

    u = F.gelu(up(k.T.reshape(1, -1, side, side), "output_upscaling"))
    masks = [
        torch.einsum("c,bcij->bij", perceptron(q[1 + m], state, f"{name}.output_hypernetworks_mlps.{m}"), u)
        for m in range(4)
    ]
    if early is not None:
        detail = up(image, "embedding_encoder") + up(early.permute(0, 3, 1, 2), "compress_vit_feat")
        v = convolution(u, state, name + ".embedding_maskfeature.0", padding=1)
        v = F.gelu(norm2d(v, state, name + ".embedding_maskfeature.1"))
        v = convolution(v, state, name + ".embedding_maskfeature.3", padding=1) + detail
        masks.append(torch.einsum("c,bcij->bij", perceptron(q[5], state, name + ".hf_mlp"), v))
    return torch.stack(masks, dim=1), perceptron(q[0], state, name + ".iou_prediction_head")[None]


def sam_answer(masks: Tensor, quality: Tensor, multimask: bool, hq_only: bool = False) -> Tensor:
    """The answer (1, 1, 4g, 4g) at low resolution: sam_hq.md 4, for SAM's four masks or SAM-HQ's five."""
    chosen = 1 + int(quality[0, 1:].argmax()) if multimask else 0
    if masks.shape[1] == 4:
        return masks[:, chosen : chosen + 1]
    return masks[:, 4:5] if hq_only else masks[:, chosen : chosen + 1] + masks[:, 4:5]


def conv_norm(x: Tensor, state: State, name: str, groups: int = 1, stride: int = 1) -> Tensor:
    """CBN of mobilesam.md."""
    x = F.conv2d(
        x, state[name + ".c.weight"], stride=stride, padding=state[name + ".c.weight"].shape[2] // 2, groups=groups
    )
    mean, variance = state[name + ".bn.running_mean"], state[name + ".bn.running_var"]
    return F.batch_norm(x, mean, variance, state[name + ".bn.weight"], state[name + ".bn.bias"], False, 0.0, 1e-5)


def tinyvit_block(x: Tensor, state: State, name: str, window: int) -> Tensor:
    """One block of stages 1 to 3 (mobilesam.md 1.5) on a map (1, C, S, S), window by window."""
    _, dim, side, _ = x.shape
    heads = dim // 32
    padding = -side % window
    padded = F.pad(x[0].permute(1, 2, 0), (0, 0, 0, padding, 0, padding))
    result = torch.zeros_like(padded)
    cells = [(i, j) for i in range(window) for j in range(window)]
    table = torch.tensor([[abs(a[0] - b[0]) * window + abs(a[1] - b[1]) for b in cells] for a in cells])
    bias = state[name + ".attn.attention_biases"][:, table]
    for i in range(0, side, window):
        for j in range(0, side, window):
            u = padded[i : i + window, j : j + window].reshape(-1, dim)
            u = linear(norm(u, state, name + ".attn.norm", 1e-5), state, name + ".attn.qkv").view(-1, heads, 3, 32)
            score = torch.einsum("nhc,mhc->hnm", u[:, :, 0], u[:, :, 1]) / math.sqrt(32) + bias
            out = torch.einsum("hnm,mhc->nhc", score.softmax(-1), u[:, :, 2]).flatten(1)
            out = linear(out, state, name + ".attn.proj")
            result[i : i + window, j : j + window] = out.view(window, window, dim)
    x = x + result[:side, :side].permute(2, 0, 1)[None]
    x = conv_norm(x, state, name + ".local_conv", groups=dim)
    u = norm(x.permute(0, 2, 3, 1), state, name + ".mlp.norm", 1e-5)
    u = linear(F.gelu(linear(u, state, name + ".mlp.fc1")), state, name + ".mlp.fc2")
    return x + u.permute(0, 3, 1, 2)


def tinyvit(image: Tensor, state: State) -> Tensor:
    """Embedding (1, 256, T / 16, T / 16) of a network input (1, 3, T, T): mobilesam.md 1.2 to 1.6."""
    name = "image_encoder"
    x = F.gelu(conv_norm(image, state, name + ".patch_embed.seq.0", stride=2))
    x = conv_norm(x, state, name + ".patch_embed.seq.2", stride=2)
    for number, (blocks, window, stride) in enumerate(((2, 0, 2), (2, 7, 2), (6, 14, 1), (2, 7, 0))):
        for block in (f"{name}.layers.{number}.blocks.{k}" for k in range(blocks)):
            if window:
                x = tinyvit_block(x, state, block, window)
            else:
                y = F.gelu(conv_norm(x, state, block + ".conv1"))
                y = F.gelu(conv_norm(y, state, block + ".conv2", groups=y.shape[1]))
                x = F.gelu(x + conv_norm(y, state, block + ".conv3"))
        if stride:
            merge = f"{name}.layers.{number}.downsample"
            x = F.gelu(conv_norm(x, state, merge + ".conv1"))
            x = F.gelu(conv_norm(x, state, merge + ".conv2", groups=x.shape[1], stride=stride))
            x = conv_norm(x, state, merge + ".conv3")
    return neck(x, state, name + ".neck")


def efficient_encoder(image: Tensor, state: State) -> Tensor:
    """Embedding (1, 256, g, g) of a network input (1, 3, T, T): efficientsam.md 1.2 to 1.5."""
    name = "image_encoder"
    x = convolution(image, state, name + ".patch_embed.proj", stride=16)
    side, width = x.shape[2], x.shape[1]
    table = state[name + ".pos_embed"][0, 1:].T.reshape(1, width, 14, 14)
    x = (x + F.interpolate(table, (side, side), mode="bicubic"))[0].flatten(1).T
    number = 0
    while f"{name}.blocks.{number}.norm1.weight" in state:
        block = f"{name}.blocks.{number}"
        q, k, v = linear(norm(x, state, block + ".norm1", 1e-6), state, block + ".attn.qkv").split(width, 1)
        q, k, v = (part.unflatten(1, (-1, 64)) for part in (q, k, v))
        weight = (torch.einsum("nhc,mhc->hnm", q, k) / 8).softmax(-1)
        x = x + linear(torch.einsum("hnm,mhc->nhc", weight, v).flatten(1), state, block + ".attn.proj")
        hidden = F.gelu(linear(norm(x, state, block + ".norm2", 1e-6), state, block + ".mlp.fc1"))
        x = x + linear(hidden, state, block + ".mlp.fc2")
        number += 1
    return neck(x.T.reshape(1, width, side, side), state, name + ".neck")


def efficient_points(clicks: list[tuple[float, float, int]], size: int, state: State) -> Tensor:
    """Six tokens (6, 256) of (x, y, label) in network pixels: efficientsam.md 2."""
    filled = ([*clicks, *[(-1.0, -1.0, -1)] * 6])[:6]
    where = torch.tensor([[(x + 0.5) / size, (y + 0.5) / size] for x, y, _ in filled], dtype=torch.float64)
    tokens = position(where, state).clone()
    for token, (_, _, label) in zip(tokens, filled, strict=True):
        if label != 0:
            token += state[f"prompt_encoder.{'point_embeddings' if label == 1 else 'invalid_points'}.weight"][0]
    return tokens


def efficient_decoder(image: Tensor, points: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """Masks (1, 4, 4g, 4g) and predicted IoU (1, 4): efficientsam.md 3."""
    side, name = image.shape[2], "mask_decoder"
    t = torch.cat([state[name + ".iou_token.weight"], state[name + ".mask_tokens.weight"], points])
    code = grid_position(side, state)

    def head(x: Tensor, part: str) -> Tensor:
        x = F.gelu(linear(x, state, f"{name}.{part}.layers.0.0"))
        return linear(F.gelu(linear(x, state, f"{name}.{part}.layers.1.0")), state, f"{name}.{part}.fc")

    q, k = t, image[0].flatten(1).T
    for number in (0, 1):
        layer = f"{name}.transformer.layers.{number}"
        q = q if number == 0 else q + t
        q = norm(q + attention(q, q, q, state, layer + ".self_attn"), state, layer + ".norm1", 1e-5)
        q = q + attention(q + t, k + code, k, state, layer + ".cross_attn_token_to_image")
        q = norm(q, state, layer + ".norm2", 1e-5)
        q = q + linear(F.gelu(linear(q, state, layer + ".mlp.layers.0.0")), state, layer + ".mlp.fc")
        q = norm(q, state, layer + ".norm3", 1e-5)
        k = k + attention(k + code, q + t, q, state, layer + ".cross_attn_image_to_token")
        k = norm(k, state, layer + ".norm4", 1e-5)
    q = q + attention(q + t, k + code, k, state, name + ".transformer.final_attn_token_to_image")
    q = norm(q, state, name + ".transformer.norm_final_attn", 1e-5)
    up = name + ".final_output_upscaling_layers"
    u = enlarged(k.T.reshape(1, -1, side, side), state, up + ".0.0")
    u = F.gelu(F.group_norm(u, 1, state[up + ".0.1.weight"], state[up + ".0.1.bias"]))
    u = F.gelu(enlarged(u, state, up + ".1.0"))
    masks = [torch.einsum("c,bcij->bij", head(q[1 + m], f"output_hypernetworks_mlps.{m}"), u) for m in range(4)]
    return torch.stack(masks, dim=1), head(q[0], "iou_prediction_head")[None]
