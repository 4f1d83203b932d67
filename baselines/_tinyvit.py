"""MobileSAM's image encoder: TinyViT-5M, whose last merge keeps the resolution, and SAM's neck.

Maps are (B, C, h, w) with the channels last in memory, so that tokens are a view of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._images import up_to_multiple
from baselines._sam_prompts import sam_neck
from baselines._vit import merge_heads, unwindows, windows
from inter2former.encoders.linear import Linear, Mlp

HEAD = 32
"""Width of an attention head."""


class ConvNorm(nn.Module):
    """Convolution without bias and BatchNorm in inference form, computed as one convolution."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, into, h, w) -> (B, out, h / stride, w / stride)."""
        conv, bn = self.c, self.bn
        assert bn.running_mean is not None and bn.running_var is not None
        scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
        weight, bias = conv.weight * scale[:, None, None, None], bn.bias - bn.running_mean * scale
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=conv.groups)


class PatchEmbed(nn.Module):
    """Two convolutions of stride 2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, dim // 2, 3, 2), nn.GELU(), ConvNorm(dim // 2, dim, 3, 2))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, T, T) -> (B, dim, T / 4, T / 4)."""
        return self.seq(image)


class ConvBlock(nn.Module):
    """Inverted bottleneck; the last GELU comes after the residual sum."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = 4 * dim
        self.conv1 = ConvNorm(dim, hidden, 1)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, h, w)."""
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class Merge(nn.Module):
    """Between stages: other width, and resolution divided by the stride."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(into, out, 1)
        self.conv2 = ConvNorm(out, out, 3, stride, groups=out)
        self.conv3 = ConvNorm(out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, into, h, w) -> (B, out, h / stride, w / stride)."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias by row and column distance."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, dim // HEAD
        self.norm = nn.LayerNorm(dim)
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(self.heads, window**2))

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (n * window^2, dim), each of them contiguous, pixels row-major.

        The bias is gathered anew: the official code keeps it, and so computes with zeros after loading weights.
        """
        qkv = self.qkv(self.norm(x)).view(-1, self.window**2, self.heads, 3, HEAD)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        distance = torch.arange(self.window, device=x.device)
        distance = (distance[:, None] - distance[None]).abs()
        index = distance[:, None, :, None] * self.window + distance[None, :, None, :]
        bias = self.attention_biases[:, index.reshape(self.window**2, self.window**2)]
        return self.proj(merge_heads(F.scaled_dot_product_attention(query, key, value, bias)))


class NormedMlp(Mlp):
    """Norm and two linear layers."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 4 * dim)
        self.norm = nn.LayerNorm(dim)


class Block(nn.Module):
    """Window attention, a depthwise convolution without residual, and an MLP."""

    def __init__(self, dim: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = NormedMlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, side, side)."""
        batch, dim, side, _ = x.shape
        tokens = x.permute(0, 2, 3, 1)
        padded = up_to_multiple(side, self.window)
        # Zeros before the norm, not masked: they attend and are attended to.
        grid = F.pad(tokens, (0, 0, 0, padded - side, 0, padded - side)).reshape(-1, dim)
        grid = unwindows(self.attn(windows(grid, batch, padded, self.window)), batch, padded, self.window)
        tokens = tokens + grid.view(batch, padded, padded, dim)[:, :side, :side]
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(-1, dim)
        tokens = self.mlp(self.mlp.norm(tokens), tokens)
        return tokens.view(batch, side, side, dim).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks of one width, and the merge after them."""

    def __init__(self, blocks: list[nn.Module], merge: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = merge

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the next stage's input."""
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """Image encoder: (B, 3, T, T) -> (B, 256, T / 16, T / 16), with the names of the released file."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(64)
        self.layers = nn.Sequential(
            Stage([ConvBlock(64) for _ in range(2)], Merge(64, 128, 2)),
            Stage([Block(128, 7) for _ in range(2)], Merge(128, 160, 2)),
            Stage([Block(160, 14) for _ in range(6)], Merge(160, 320, 1)),
            Stage([Block(320, 7) for _ in range(2)], None),
        )
        # Of the classifier that it was; in the released file, and never used.
        self.norm_head = nn.LayerNorm(320)
        self.head = nn.Linear(320, 1000)
        self.neck = sam_neck(320)

    def forward(self, image: Tensor) -> Tensor:
        """Encode a normalised image, T a multiple of 16."""
        x = self.patch_embed(image.contiguous(memory_format=torch.channels_last))
        return self.neck(self.layers(x)).contiguous()
