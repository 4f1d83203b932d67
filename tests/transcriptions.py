"""Plain forms straight from the specification: expected values for tests, and what benchmarks compare against.

Nothing here is clever: padded windows with their padded queries, `nn.functional` operators one after another, weights
taken from a state dict in the released layout. They run in the type of their inputs; float64 gives slow references.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def _linear(x: Tensor, state: State, name: str) -> Tensor:
    return F.linear(x, state[name + ".weight"], state.get(name + ".bias"))


def _layer_norm(x: Tensor, state: State, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"])


def _rope(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rotary positions (section 4) on x (..., cells, 64) at integer cell coordinates of the padded grid."""
    freqs = 10000.0 ** (-torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    angle = torch.cat([0.5 * rows[:, None] * freqs, 0.5 * columns[:, None] * freqs], dim=1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    u, v = x[..., 0::2], x[..., 1::2]
    return torch.stack([u * cos + v * sin, v * cos - u * sin], dim=-1).flatten(-2)


def padded_window_attention(x: Tensor, state: State, name: str, shift: int) -> Tensor:
    """Window attention of one scale with padded queries: x (B, h, w, 768) after LN -> (B, h, w, 768)."""
    batch, h, w, dim = x.shape
    pad = (16 - shift) % 16
    bottom, right = -(h + pad) % 16, -(w + pad) % 16
    grid = state[name + ".padding"].view(1, 1, 1, dim).expand(batch, h + pad + bottom, w + pad + right, dim).clone()
    grid[:, pad : pad + h, pad : pad + w] = x
    rows, columns = grid.shape[1:3]
    windows = grid.view(batch, rows // 16, 16, columns // 16, 16, dim).permute(0, 1, 3, 2, 4, 5)
    qkv = _linear(windows.reshape(-1, 256, dim), state, name + ".qkv").view(-1, 256, 3, dim // 64, 64)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    cell = torch.arange(256)
    query, key = _rope(query, cell // 16, cell % 16), _rope(key, cell // 16, cell % 16)
    out = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, 256, dim)
    out = out.view(batch, rows // 16, columns // 16, 16, 16, dim).permute(0, 1, 3, 2, 4, 5)
    out = out.reshape(batch, rows, columns, dim)[:, pad : pad + h, pad : pad + w]
    return _linear(out, state, name + ".proj")


def _tokens(image: Tensor, state: State) -> Tensor:
    h, w = image.shape[2] // 16, image.shape[3] // 16
    x = F.conv2d(image, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    table = state["pos_embed"][:, 1:].view(1, 14, 14, -1).permute(0, 3, 1, 2)
    return (x + F.interpolate(table, (h, w), mode="bilinear")).permute(0, 2, 3, 1)


def encode(image: Tensor, state: State) -> Tensor:
    """The ViT-B encoder (section 4): normalised image (B, 3, H, W) -> (B, 256, H / 16, W / 16).

    Depth, widths and the number of fused outputs (after every third block) follow from the state dict.
    """
    scales = [_tokens(image, state), _tokens(F.interpolate(image, (256, 256), mode="bilinear"), state)]
    total = torch.zeros(())
    number = 0
    while f"blocks.{number}.norm1.weight" in state:
        block = f"blocks.{number}"
        for index, x in enumerate(scales):
            shift = 8 if number % 2 and max(x.shape[1:3]) > 16 else 0
            normed = _layer_norm(x, state, block + ".norm1")
            x = x + padded_window_attention(normed, state, block + ".attn", shift)
            hidden = F.gelu(_linear(_layer_norm(x, state, block + ".norm2"), state, block + ".mlp.fc1"))
            scales[index] = x + _linear(hidden, state, block + ".mlp.fc2")
        if number % 3 == 2:
            fine, anchor = scales
            wide = F.interpolate(anchor.permute(0, 3, 1, 2), fine.shape[1:3], mode="bilinear").permute(0, 2, 3, 1)
            norm = f"multi_scale_fusion.{number // 3}.0"
            both = torch.cat([_layer_norm(fine, state, norm), _layer_norm(wide, state, norm)], dim=-1)
            lateral = f"lateral_convs.{number // 3}"
            total = total + _layer_norm(_linear(both, state, lateral + ".0"), state, lateral + ".1")
        number += 1
    out = F.conv2d(total.permute(0, 3, 1, 2), state["out_conv.0.weight"], padding=1, groups=total.shape[-1])
    return _layer_norm(out.permute(0, 2, 3, 1), state, "out_conv.2").permute(0, 3, 1, 2)


def canny(x: Tensor, state: State) -> dict[str, Tensor]:
    """The Canny maps (section 6) of a normalised image (B, 3, H, W), as named in the goldens."""
    mean = torch.tensor([123.675, 116.28, 103.53], dtype=x.dtype).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375], dtype=x.dtype).view(3, 1, 1)
    image = ((x * std + mean) / 255).clamp(0, 1)
    planes = image.reshape(-1, 1, *image.shape[2:])
    blurred = F.conv2d(planes, state["canny.g_h.weight"], padding=(0, 2))
    blurred = F.conv2d(blurred, state["canny.g_v.weight"], padding=(2, 0))
    gx = F.conv2d(blurred, state["canny.sobh.weight"], padding=1).view(image.shape)
    gy = F.conv2d(blurred, state["canny.sobv.weight"], padding=1).view(image.shape)
    mag = (gx**2 + gy**2).sqrt().sum(1, keepdim=True)
    degrees = torch.atan2(gy.sum(1, keepdim=True), gx.sum(1, keepdim=True)) * (180 / torch.pi) + 180
    ori = (degrees / 45).round() * 45
    differences = F.conv2d(mag, state["canny.dirf.weight"], padding=1)
    ahead = ((ori / 45) % 8).long()
    behind = ((ori / 45 + 4) % 8).long()
    nearest = torch.minimum(differences.gather(1, ahead), differences.gather(1, behind))
    thin = torch.where(nearest > 0, mag, 0.0)
    thresh = torch.where(thin < 2.0, 0.0, thin)
    early = torch.where(mag < 2.0, 0.0, mag)
    stack = F.normalize(torch.cat([mag, ori, thin, thresh, early], 1).flatten(2), dim=2)
    return {
        "blurred": blurred.view(image.shape),
        "grad_mag": mag,
        "grad_ori": ori,
        "thin": thin,
        "thresh": thresh,
        "early": early,
        "stack": stack.view(-1, 5, *x.shape[2:]),
    }


def _conv3(x: Tensor, state: State, name: str, stride: int = 1) -> Tensor:
    return F.conv2d(x, state[name + ".weight"], state[name + ".bias"], stride=stride, padding=1)


def canny_net(x: Tensor, state: State, stack: Tensor | None = None) -> list[Tensor]:
    """CannyNet (section 6): normalised image (B, 3, H, W) -> four maps, 256 channels at stride 8 first.

    With `stack` the network runs on those five maps instead of the image's.
    """
    x = _conv3(canny(x, state)["stack"] if stack is None else stack, state, "conv1")
    outputs: list[Tensor] = []
    level = 0
    while f"lateral_convs.{level}.weight" in state:
        number = 0
        while f"block_list.{level}.{number}.norm1.weight" in state:
            block = f"block_list.{level}.{number}"
            y = x
            for half in (1, 2):
                norm = f"{block}.norm{half}"
                y = F.silu(F.group_norm(y, 1, state[norm + ".weight"], state[norm + ".bias"]))
                y = _conv3(y, state, f"{block}.conv{half}")
            x = x + y
            number += 1
        lateral = f"lateral_convs.{level}"
        outputs.insert(0, F.conv2d(x, state[lateral + ".weight"], state[lateral + ".bias"]))
        if f"downsamplers.{level}.weight" in state:
            x = _conv3(x, state, f"downsamplers.{level}", stride=2)
        level += 1
    return outputs
