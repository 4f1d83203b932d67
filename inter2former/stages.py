"""A stage of DLU doubles the resolution: GroupNorm, bicubic, edge map added, 3x3 convolution.

`Stage` is that as written, for training. `run` gives the same values at inference in fewer operations. What
an edge map adds is convolved once per image (`edge_terms`). The first two stages mix channels at the low
resolution and double the result by band matrices. The last two have few channels: there a doubling and its
convolution become one convolution of maps whose 2x2 or 4x4 pixels are folded into channels, which also is the
form the next stage wants. Both are corrected along the crop's border, where the convolution has to see zeros
and not what lies beyond.

Maps are (h, w, channels); folded maps (h, w, f, f, channels) have f x f pixels per cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.bicubic import BEYOND, doubling_kernel, folded_kernel, strips
from inter2former.derived import Derived
from inter2former.label_tokens import Box

FOLDS = (1, 1, 2, 4)
"""How the result of each stage is folded."""


class Around(NamedTuple):
    """What lies just outside a map: top and bottom (w + 2, C) with corners, left and right (h, C)."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor


class Stage(nn.Module):
    """act(conv(bicubic(norm(x)) + edge)), without the activation if it is the last."""

    def __init__(self, width: int, out: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        """Map x (B, C, h, w) and edge (B, C, 2h, 2w) to (B, C', 2h, 2w)."""
        x = F.interpolate(self.norm(x.contiguous()), scale_factor=2, mode="bicubic", align_corners=False)
        x = self.conv(x + edge)
        return x if self.last else F.silu(x)


def affine(x: Tensor, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift (C,) of a one-group norm over a whole map (…, C), from centred statistics."""
    mean = x.mean()
    centred = (x - mean).flatten()
    scale = norm.weight * torch.rsqrt(torch.dot(centred, centred) / centred.numel() + norm.eps)
    return scale, norm.bias - mean * scale


def fold(x: Tensor, factor: int) -> Tensor:
    """Return a map (h f, w f, C) as (h, w, f, f, C)."""
    h, w, c = x.shape
    return x.view(h // factor, factor, w // factor, factor, c).transpose(1, 2)


def edge_terms(stages: Sequence[Stage], edges: Sequence[Tensor]) -> list[Tensor]:
    """Return each stage's convolution of its edge map, bias included, folded as the stage's result.

    Args:
        edges: of one image, coarsest first, (1, C_i, H_i, W_i).
    """
    terms = []
    for stage, edge, factor in zip(stages, edges, FOLDS, strict=True):
        conv = stage.conv
        assert conv.bias is not None
        if factor == 1:
            term = F.conv2d(edge, conv.weight, conv.bias, padding=1)[0].permute(1, 2, 0).contiguous()
        else:
            kernel, bias = folded_kernel(conv.weight, factor), conv.bias.repeat(factor**2)
            term = F.conv2d(F.pixel_unshuffle(edge, factor), kernel, bias, padding=1)[0].permute(1, 2, 0)
            term = term.contiguous().unflatten(2, (factor, factor, -1))
        terms.append(term)
    return terms


def edges_around(edge: Tensor, box: Box) -> Around | None:
    """Return what an edge map (1, C, H, W) holds around a box (zeros outside the image); None if it is all."""
    _, channels, height, width = edge.shape
    if (box.height, box.width) == (height, width):
        return None

    def line(rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        top, bottom = max(rows[0], 0), min(rows[1], height)
        left, right = max(columns[0], 0), min(columns[1], width)
        size = rows[1] - rows[0], columns[1] - columns[0]
        if top >= bottom or left >= right:
            return edge.new_zeros(size[0] * size[1], channels)
        part = edge[0, :, top:bottom, left:right]
        missing = (left - columns[0], columns[1] - right, top - rows[0], rows[1] - bottom)
        return F.pad(part, missing).flatten(1).t()

    wide = (box.left - 1, box.right + 1)
    tall = (box.top, box.bottom)
    return Around(
        line((box.top - 1, box.top), wide),
        line((box.bottom, box.bottom + 1), wide),
        line(tall, (box.left - 1, box.left)),
        line(tall, (box.right, box.right + 1)),
    )


def _correct(out: Tensor, weight: Tensor, around: Around) -> None:
    """Subtract from a folded map (h, w, f, f, C'), in place, what convolving with weight took from outside."""
    top = F.conv1d(around.top.t()[None], weight[:, :, 0])[0].t()
    bottom = F.conv1d(around.bottom.t()[None], weight[:, :, 2])[0].t()
    left = F.conv1d(around.left.t()[None], weight[:, :, :, 0], padding=1)[0].t()
    right = F.conv1d(around.right.t()[None], weight[:, :, :, 2], padding=1)[0].t()
    out[0, :, 0] -= top.reshape(out[0, :, 0].shape)
    out[-1, :, -1] -= bottom.reshape(out[0, :, 0].shape)
    out[:, 0, :, 0] -= left.reshape(out[:, 0, :, 0].shape)
    out[:, -1, :, -1] -= right.reshape(out[:, 0, :, 0].shape)


def wide_stage(x: Tensor, stage: Stage, derived: Derived, term: Tensor, around: Around | None) -> Tensor:
    """Run a stage by mixing channels first: x (h, w, C), term (2h, 2w, C') -> (2h, 2w, C'); no activation."""
    h, w, _ = x.shape
    weight = stage.conv.weight
    mix = derived.get((stage, "mix"), [weight], lambda: weight.permute(2, 1, 3, 0).flatten(2).contiguous())
    scale, shift = affine(x, stage.norm)
    normed = torch.addcmul(shift, x, scale)
    mixed = x.new_empty(h, 3, w, mix.shape[2])
    for row in range(3):
        torch.bmm(normed, mix[row].expand(h, -1, -1), out=mixed[:, row])
    rows = x.new_empty(2 * h, w * mix.shape[2])
    for strip in strips(h):
        torch.mm(strip.matrix, mixed.view(3 * h, -1)[strip.into], out=rows[strip.out])
    rows = rows.view(2 * h, 3 * w, -1)
    out = torch.cat(
        [
            torch.baddbmm(term[:, strip.out], strip.matrix.expand(2 * h, -1, -1), rows[:, strip.into])
            for strip in strips(w)
        ],
        dim=1,
    )
    if around is not None:
        _correct(out[:, :, None, None], weight, around)
    return out


def _pad_cells(x: Tensor, cells: int) -> Tensor:
    """Replicate the outermost pixels of a folded map (h, w, f, f, C) into `cells` more cells on each side."""
    h, w, *inner = x.shape
    out = x.new_empty(h + 2 * cells, w + 2 * cells, *inner)
    middle = slice(cells, -cells)
    out[middle, middle] = x
    out[:cells, middle] = x[:1, :, :1]
    out[-cells:, middle] = x[-1:, :, -1:]
    out[:, :cells] = out[:, cells : cells + 1, :, :1]
    out[:, -cells:] = out[:, -cells - 1 : -cells, :, -1:]
    return out


def _beyond(outermost: Tensor, next_one: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return the doubled, normalised map just outside one side, along the low resolution: (n, C)."""
    return torch.addcmul(shift, outermost * BEYOND[0] + next_one * BEYOND[1], scale)


def _double_line(line: Tensor) -> Tensor:
    """Double a line (n, C) and add the positions just outside: (2n + 2, C)."""
    inner = F.interpolate(line.t()[None, :, :, None], (2 * len(line), 1), mode="bicubic", align_corners=False)
    second = min(1, len(line) - 1)
    first = line[:1] * BEYOND[0] + line[second : second + 1] * BEYOND[1]
    last = line[-1:] * BEYOND[0] + line[-1 - second : len(line) - second] * BEYOND[1]
    return torch.cat([first, inner[0, :, :, 0].t(), last])


def doubled_around(x: Tensor, scale: Tensor, shift: Tensor) -> Around:
    """Return what a doubled map would hold just outside, given the folded map (h, w, f, f, C) before."""
    h, w, factor = x.shape[:3]

    def row(index: int) -> Tensor:
        return x[index // factor, :, index % factor].flatten(0, 1)

    def column(index: int) -> Tensor:
        return x[:, index // factor, :, index % factor].flatten(0, 1)

    last, second = h * factor - 1, min(1, h * factor - 1)
    top = _double_line(_beyond(row(0), row(second), scale, shift))
    bottom = _double_line(_beyond(row(last), row(last - second), scale, shift))
    last, second = w * factor - 1, min(1, w * factor - 1)
    left = _double_line(_beyond(column(0), column(second), scale, shift))[1:-1]
    right = _double_line(_beyond(column(last), column(last - second), scale, shift))[1:-1]
    return Around(top, bottom, left, right)


def narrow_stage(x: Tensor, stage: Stage, derived: Derived, term: Tensor, around: Around | None) -> Tensor:
    """Run a stage as one convolution: x (h, w, f, f, C), term (h, w, 2f, 2f, C') -> like term; no activation."""
    factor = x.shape[2]
    weight = stage.conv.weight
    kernel, total = derived.get(
        (stage, "kernel"), [weight], lambda: (doubling_kernel(weight, factor), weight.sum((2, 3)))
    )
    scale, shift = affine(x, stage.norm)
    outside = doubled_around(x, scale, shift)
    if around is not None:
        outside = Around(*(mine + edge for mine, edge in zip(outside, around, strict=True)))
    padded = _pad_cells(x, 2 // factor).flatten(2).permute(2, 0, 1)[None]
    constant = (total @ shift).repeat(4 * factor**2)
    out = F.conv2d(padded, kernel * scale.repeat(factor**2)[:, None, None], constant)
    out = out[0].permute(1, 2, 0).contiguous().view(term.shape)
    out += term
    _correct(out, weight, outside)
    return out


def run(
    stages: Sequence[Stage], derived: Derived, x: Tensor, terms: Sequence[Tensor], edges: Sequence[Tensor], box: Box
) -> Tensor:
    """Upsample one box of one image.

    Args:
        x: tokens (h, w, C) of the whole image.
        terms: of `edge_terms`.
        edges: (1, C_i, H_i, W_i), coarsest first.
        box: in tokens.

    Returns:
        Logits (box height, 16, box width, 16).
    """
    x = x[box.slices].contiguous()
    for index, (stage, term, edge, factor) in enumerate(zip(stages, terms, edges, FOLDS, strict=True)):
        fine = box * 2 ** (index + 1)
        crop = term[Box(*(side // factor for side in fine.as_tuple())).slices]
        around = edges_around(edge, fine)
        if index < 2:
            x = wide_stage(x, stage, derived, crop, around)
        else:
            x = narrow_stage(x if x.dim() == 5 else x[:, :, None, None], stage, derived, crop, around)
        if index < len(stages) - 1:
            x = F.silu(x, inplace=True)
    return x[..., 0].transpose(1, 2)
