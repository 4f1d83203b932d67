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
    """What lies just outside a map, as pairs of lines (2, n + 2, C).

    The ends of the first pair are the corners; those of the second are zeros.
    """

    top_bottom: Tensor
    left_right: Tensor


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
    first, last = max(box.left - 1, 0), min(box.right + 1, width)
    top_bottom = edge.new_zeros(2, box.width + 2, channels)
    left_right = edge.new_zeros(2, box.height + 2, channels)
    for line, row in zip(top_bottom, (box.top - 1, box.bottom), strict=True):
        if 0 <= row < height:
            line[first - box.left + 1 : last - box.left + 1] = edge[0, :, row, first:last].t()
    for line, column in zip(left_right, (box.left - 1, box.right), strict=True):
        if 0 <= column < width:
            line[1:-1] = edge[0, :, box.top : box.bottom, column].t()
    return Around(top_bottom, left_right)


def _side_kernels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the kernels (2, 3 C, C') with which the lines of `Around` enter a 3x3 convolution (C', C, 3, 3)."""
    rows = weight[:, :, [0, 2]].permute(2, 3, 1, 0).flatten(1, 2)
    columns = weight[..., [0, 2]].permute(3, 2, 1, 0).flatten(1, 2)
    return rows.contiguous(), columns.contiguous()


def _correct(out: Tensor, kernels: tuple[Tensor, Tensor], around: Around) -> None:
    """Subtract from a folded map (h, w, f, f, C'), in place, what its convolution took from outside."""
    borders = (out[0, :, 0], out[-1, :, -1]), (out[:, 0, :, 0], out[:, -1, :, -1])
    for pair, lines, kernel in zip(borders, around, kernels, strict=True):
        _, count, channels = lines.shape
        # Three neighbours of a line in a row are one row of an overlapping view.
        taps = lines.as_strided((2, count - 2, 3 * channels), (count * channels, channels, 1))
        for border, correction in zip(pair, taps @ kernel, strict=True):
            border -= correction.view(border.shape)


def wide_stage(x: Tensor, stage: Stage, derived: Derived, term: Tensor, around: Around | None) -> Tensor:
    """Run a stage by mixing channels first: x (h, w, C), term (2h, 2w, C') -> (2h, 2w, C'); no activation."""
    h, w, _ = x.shape
    weight = stage.conv.weight
    mix, sides = derived.get(
        (stage, "mix"),
        [weight],
        lambda: (weight.permute(2, 1, 3, 0).flatten(2).contiguous(), _side_kernels(weight)),
    )
    scale, shift = affine(x, stage.norm)
    normed = torch.addcmul(shift, x, scale).view(h * w, -1)
    mixed = x.new_empty(3, h * w, mix.shape[2])
    for row in range(3):
        torch.mm(normed, mix[row], out=mixed[row])
    mixed = mixed.view(3, h, -1)
    rows = x.new_empty(2 * h, mixed.shape[2])
    for strip in strips(h):
        part = rows[strip.out]
        torch.mm(strip.parts[0], mixed[0, strip.into], out=part)
        part.addmm_(strip.parts[1], mixed[1, strip.into]).addmm_(strip.parts[2], mixed[2, strip.into])
    # Columns to the front, so that they too are doubled by a few large products.
    turned = rows.view(2 * h, 3 * w, -1).transpose(0, 1).contiguous().view(3 * w, -1)
    doubled = x.new_empty(2 * w, turned.shape[1])
    for strip in strips(w):
        torch.mm(strip.matrix, turned[strip.threefold], out=doubled[strip.out])
    out = torch.add(term, doubled.view(2 * w, 2 * h, -1).transpose(0, 1), out=x.new_empty(term.shape))
    if around is not None:
        _correct(out[:, :, None, None], sides, around)
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


def _double_lines(outermost: Tensor, next_one: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return the doubled, normalised map just outside two opposite sides, corners included.

    Args:
        outermost: (2, n, C), the lines along the sides before doubling.
        next_one: (2, n, C), the lines next to them.

    Returns:
        (2, 2n + 2, C).
    """
    beyond = torch.addcmul(shift, outermost * BEYOND[0] + next_one * BEYOND[1], scale)
    count = beyond.shape[1]
    inner = F.interpolate(beyond.transpose(1, 2)[..., None], (2 * count, 1), mode="bicubic", align_corners=False)
    ends, nexts = [0, count - 1], [min(1, count - 1), max(count - 2, 0)]
    corners = beyond[:, ends] * BEYOND[0] + beyond[:, nexts] * BEYOND[1]
    return torch.cat([corners[:, :1], inner[..., 0].transpose(1, 2), corners[:, 1:]], dim=1)


def doubled_around(x: Tensor, scale: Tensor, shift: Tensor) -> Around:
    """Return what a doubled map would hold just outside, given the folded map (h, w, f, f, C) before."""
    h, w, f = x.shape[:3]
    rows = [(i // f, i % f) for i in (0, h * f - 1, min(1, h * f - 1), max(h * f - 2, 0))]
    columns = [(i // f, i % f) for i in (0, w * f - 1, min(1, w * f - 1), max(w * f - 2, 0))]
    lines = torch.stack([x[cell, :, inner].flatten(0, 1) for cell, inner in rows])
    top_bottom = _double_lines(lines[:2], lines[2:], scale, shift)
    lines = torch.stack([x[:, cell, :, inner].flatten(0, 1) for cell, inner in columns])
    left_right = _double_lines(lines[:2], lines[2:], scale, shift)
    left_right[:, [0, -1]] = 0
    return Around(top_bottom, left_right)


def narrow_stage(x: Tensor, stage: Stage, derived: Derived, term: Tensor, around: Around | None) -> Tensor:
    """Run a stage as one convolution: x (h, w, f, f, C), term (h, w, 2f, 2f, C'); no activation."""
    factor = x.shape[2]
    weight = stage.conv.weight
    kernel, total, sides = derived.get(
        (stage, "kernel"),
        [weight],
        lambda: (doubling_kernel(weight, factor), weight.sum((2, 3)), _side_kernels(weight)),
    )
    scale, shift = affine(x, stage.norm)
    outside = doubled_around(x, scale, shift)
    if around is not None:
        outside = Around(*(mine.add_(edge) for mine, edge in zip(outside, around, strict=True)))
    padded = _pad_cells(x, 2 // factor).flatten(2).permute(2, 0, 1)[None]
    constant = (total @ shift).repeat(4 * factor**2)
    out = F.conv2d(padded, kernel * scale.repeat(factor**2)[:, None, None], constant)
    out = out[0].permute(1, 2, 0).contiguous().view(term.shape)
    out += term
    _correct(out, sides, outside)
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
