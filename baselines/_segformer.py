"""SegFormer (mix transformer and all-MLP head) with clicks added between its first two stages, as FocalClick uses it.

Tokens are kept as (B * h * w, C), row-major. Names of parameters are those of FocalClick's checkpoints. Layer norms
have eps 1e-5 in patch embeddings and key reductions, 1e-6 everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._images import bilinear
from inter2former.encoders.linear import Linear

HEADS, REDUCTIONS, RATIO = (1, 2, 5, 8), (8, 4, 2, 1), 4
NARROW_EPS, WIDE_EPS = 1e-6, 1e-5


@dataclass(frozen=True)
class Sizes:
    """Sizes of a mix transformer: channels and blocks of its four stages, and channels of its head."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    head: int


SIZES = {
    "b0": Sizes((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b3": Sizes((64, 128, 320, 512), (3, 4, 18, 3), 512),
}


def as_tokens(x: Tensor) -> Tensor:
    """Return a map (B, C, h, w) as tokens (B * h * w, C); no copy if its channels come last in memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def as_map(x: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Return tokens (B * h * w, C) as a map (B, C, h, w) on the same memory."""
    return x.view(batch, height, width, -1).permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    """Overlapping patches: a strided convolution and a layer norm."""

    def __init__(self, into: int, out: int, side: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(into, out, side, stride, side // 2)
        self.norm = nn.LayerNorm(out, eps=WIDE_EPS)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Map (B, into, H, W) to tokens (B * h * w, out) and (B, h, w)."""
        x = self.proj(x)
        return self.norm(as_tokens(x)), (x.shape[0], x.shape[2], x.shape[3])


class ReducedAttention(nn.Module):
    """Attention whose keys and values come from a copy of the map that is `reduction` times smaller."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q = Linear(dim, dim)
        self.kv = Linear(dim, 2 * dim)
        self.proj = Linear(dim, dim)
        if reduction > 1:
            self.sr = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim, eps=WIDE_EPS)

    def forward(self, x: Tensor, shape: tuple[int, int, int], residual: Tensor) -> Tensor:
        """Return residual + attention of tokens (B * h * w, dim) with shape (B, h, w)."""
        batch = shape[0]
        small = self.norm(as_tokens(self.sr(as_map(x, *shape)))) if self.reduction > 1 else x
        query = self.q(x).view(batch, -1, self.heads, x.shape[1] // self.heads).transpose(1, 2)
        key, value = self.kv(small).view(batch, -1, 2, self.heads, x.shape[1] // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).reshape(x.shape), residual=residual)


class DepthwiseConv(nn.Module):
    """3x3 convolution within each channel; a module of its own because checkpoints name it so."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, h, w) to the same shape."""
        return self.dwconv(x)


class MixMlp(nn.Module):
    """Two linear layers; between them a depthwise convolution, then the exact GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, RATIO * dim)
        self.dwconv = DepthwiseConv(RATIO * dim)
        self.fc2 = Linear(RATIO * dim, dim)

    def forward(self, x: Tensor, shape: tuple[int, int, int], residual: Tensor) -> Tensor:
        """Return residual + MLP of tokens (B * h * w, dim) with shape (B, h, w)."""
        inner = self.dwconv(as_map(self.fc1(x), *shape))
        return self.fc2(F.gelu(as_tokens(inner)), residual=residual)


class Block(nn.Module):
    """x += attention(norm(x)); x += MLP(norm(x))."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NARROW_EPS)
        self.attn = ReducedAttention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim, eps=NARROW_EPS)
        self.mlp = MixMlp(dim)

    def forward(self, x: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Map tokens (B * h * w, dim) with shape (B, h, w)."""
        x = self.attn(self.norm1(x), shape, residual=x)
        return self.mlp(self.norm2(x), shape, residual=x)


class MixTransformer(nn.Module):
    """Four stages at strides 4, 8, 16 and 32; the clicks join between the first and the second."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        for number, width in enumerate(sizes.widths, start=1):
            into = 3 if number == 1 else sizes.widths[number - 2]
            side, stride = (7, 4) if number == 1 else (3, 2)
            self.add_module(f"patch_embed{number}", PatchEmbed(into, width, side, stride))
            blocks = (Block(width, HEADS[number - 1], REDUCTIONS[number - 1]) for _ in range(sizes.depths[number - 1]))
            self.add_module(f"block{number}", nn.ModuleList(blocks))
            self.add_module(f"norm{number}", nn.LayerNorm(width, eps=NARROW_EPS))
        self.patch_embed_side1 = PatchEmbed(3, sizes.widths[0], 7, 4)

    def forward(self, image: Tensor, prompts: Tensor) -> list[Tensor]:
        """Return the four stages' maps, fine to coarse, of a normalised image and click maps, each (B, 3, H, W).

        The first map is the image's alone: the clicks are added to it only on its way into stage 2.
        """
        clicks, shape = self.patch_embed_side1(prompts)
        first = self.stage(1, image)
        maps = [first, self.stage(2, first + as_map(clicks, *shape))]
        for number in (3, 4):
            maps.append(self.stage(number, maps[-1]))
        return maps

    def stage(self, number: int, x: Tensor) -> Tensor:
        """Run stage 1, 2, 3 or 4 on the map of the stage before (stage 1: the image)."""
        x, shape = self.get_submodule(f"patch_embed{number}")(x)
        blocks = self.get_submodule(f"block{number}")
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            x = block(x, shape)
        return as_map(self.get_submodule(f"norm{number}")(x), *shape)


class Projection(nn.Module):
    """A linear layer per pixel; a module of its own because checkpoints name it so."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.proj = Linear(into, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, into, h, w) to (B, out, h, w)."""
        return as_map(self.proj(as_tokens(x)), x.shape[0], *x.shape[2:])


class Fusion(nn.Module):
    """1x1 convolution without bias, norm, ReLU."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, 1, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, into, h, w) to (B, out, h, w)."""
        return F.relu(self.bn(self.conv(x)))


class Head(nn.Module):
    """Brings all stages to stride 4, joins them coarse to fine, and predicts one logit per pixel."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        for number in (4, 3, 2, 1):
            self.add_module(f"linear_c{number}", Projection(sizes.widths[number - 1], sizes.head))
        self.linear_fuse = Fusion(4 * sizes.head, sizes.head)
        self.linear_pred = nn.Conv2d(sizes.head, 1, 1)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (B, 1, h, w) and features (B, head, h, w) at stride 4 of the four stages' maps."""
        fine = maps[0].shape[2:]
        parts = [bilinear(self.get_submodule(f"linear_c{n}")(maps[n - 1]), *fine) for n in (4, 3, 2, 1)]
        features = self.linear_fuse(torch.cat(parts, dim=1))
        return self.linear_pred(features), features


class SegFormer(nn.Module):
    """Backbone and head."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.backbone = MixTransformer(sizes)
        self.decode_head = Head(sizes)

    def forward(self, image: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, 1, h, w) and features (B, head, h, w) of image and click maps, each (B, 3, 4h, 4w)."""
        return self.decode_head(self.backbone(image, prompts))
