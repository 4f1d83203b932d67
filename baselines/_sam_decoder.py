"""SAM's two-way mask decoder for any grid, with the names of SAM's and HRSAM's checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._sam_prompts import LayerNorm2d

MASKS = 4


class DownAttention(nn.Module):
    """Multi-head attention whose inner width may be smaller."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend: query (B, n, dim), key and value (B, m, dim) -> (B, n, dim)."""
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TokenMlp(nn.Module):
    """Two layers with ReLU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, dim)."""
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayLayer(nn.Module):
    """Tokens attend to each other and to the image, then the image to the tokens."""

    def __init__(self, dim: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = DownAttention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = DownAttention(dim, heads, dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp: nn.Module = TokenMlp(dim, hidden)
        self.norm3 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = DownAttention(dim, heads, dim // 2)
        self.norm4 = nn.LayerNorm(dim)

    def forward(self, q: Tensor, k: Tensor, q_code: Tensor, k_code: Tensor) -> tuple[Tensor, Tensor]:
        """Update tokens q (B, n, dim) and image k (B, h * w, dim)."""
        q = self.attend_tokens(q, q_code)
        q = self.norm2(q + self.cross_attn_token_to_image(q + q_code, k + k_code, k))
        q = self.norm3(q + self.mlp(q))
        return q, self.norm4(k + self.cross_attn_image_to_token(k + k_code, q + q_code, q))

    def attend_tokens(self, q: Tensor, q_code: Tensor) -> Tensor:
        """Return tokens (B, n, dim) after self-attention and norm; the first layer replaces them, without position."""
        if self.first:
            return self.norm1(self.self_attn(q, q, q))
        return self.norm1(q + self.self_attn(q + q_code, q + q_code, q))


class TwoWayTransformer(nn.Module):
    """Two layers and a last look of the tokens at the image."""

    def __init__(self, dim: int, heads: int, hidden: int, layer: type[TwoWayLayer] = TwoWayLayer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer(dim, heads, hidden, first=number == 0) for number in range(2))
        self.final_attn_token_to_image = DownAttention(dim, heads, dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, image: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens (B, n, dim) and image (B, h * w, dim) with its position code (1, h * w, dim)."""
        q, k = tokens, image
        for layer in self.layers:
            q, k = layer(q, k, tokens, code)
        q = self.norm_final_attn(q + self.final_attn_token_to_image(q + tokens, k + code, k))
        return q, k


class SmallMlp(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        widths = (dim, hidden, hidden, out)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, dim) -> (…, out)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Two-way transformer, upscaling by 4, and one linear classifier per mask token.

    Args:
        dim: channels of the embedding.
        heads: of every attention.
        hidden: width of the token MLP.
        masks: number of mask tokens.
        quality: predict the masks' quality.
        layer: of the transformer.
        head: makes a perceptron of (dim, hidden, out) for the tokens.
    """

    def __init__(
        self,
        dim: int = 256,
        heads: int = 8,
        hidden: int = 2048,
        masks: int = MASKS,
        quality: bool = True,
        layer: type[TwoWayLayer] = TwoWayLayer,
        head: Callable[[int, int, int], nn.Module] = SmallMlp,
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(dim, heads, hidden, layer)
        self.masks = masks
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(head(dim, dim, dim // 8) for _ in range(masks))
        self.iou_prediction_head = head(dim, dim, masks) if quality else None

    def forward(
        self,
        image: Tensor,
        code: Tensor,
        sparse: Tensor,
        dense: Tensor | None,
        extras: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor | None]:
        """Decode.

        Args:
            image, dense: (B, dim, h, w) embedding and dense prompt, None for none.
            code: (1, dim, h, w) position code of the grid.
            sparse: (B, n, dim) click tokens.
            extras: further maps of the image that no click changes. Here none, or two fine maps to add while
                upscaling, in nested order: (B, 4 h w, dim / 4), (B, 16 h w, dim / 8).

        Returns:
            Mask logits (B, masks, 4h, 4w) and quality predictions (B, masks), None without that head.
        """
        tokens, pixels = self.attend(image, code, sparse, dense)
        masks = self.classify(tokens, self.upscale(pixels, extras), image.shape[2], image.shape[3])
        return masks, None if self.iou_prediction_head is None else self.iou_prediction_head(tokens[:, 0])

    def own_tokens(self) -> Tensor:
        """Return the decoder's tokens (n, dim), which go before the prompt's: quality, then one a mask."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def attend(self, image: Tensor, code: Tensor, sparse: Tensor, dense: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return all tokens (B, own + n, dim) and the image's (B, h w, dim) after the transformer."""
        tokens = torch.cat([self.own_tokens().expand(image.shape[0], -1, -1), sparse], dim=1)
        pixels = (image if dense is None else image + dense).flatten(2).transpose(1, 2)
        return self.transformer(tokens, pixels, code.flatten(2).transpose(1, 2))

    def classify(self, tokens: Tensor, fine: Tensor, height: int, width: int) -> Tensor:
        """Return mask logits (B, masks, 4 height, 4 width) of the attended tokens and of `upscale`'s features."""
        classifiers = [mlp(tokens[:, 1 + m]) for m, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = fine @ torch.stack(classifiers, dim=2)
        # From nested (token, its 2x2 children, their 2x2 children) to row-major order.
        nested = masks.view(-1, height, width, 2, 2, 2, 2, self.masks).permute(0, 7, 1, 3, 5, 2, 4, 6)
        return nested.reshape(-1, self.masks, 4 * height, 4 * width)

    def upscale(self, pixels: Tensor, skips: Sequence[Tensor] = ()) -> Tensor:
        """Return features (B, 16 * h * w, dim / 8) at four times the resolution, pixels nested within tokens."""
        first, norm, _, second, _ = self.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        x = children(first, pixels)
        x = x + skips[0] if skips else x
        x = F.gelu(norm.last(x))
        x = children(second, x)
        return F.gelu(x + skips[1] if skips else x)


def children(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a transposed convolution of kernel and stride 2 to pixels (B, n, C): (B, 4 n, D), children in a row."""
    assert isinstance(conv, nn.ConvTranspose2d) and conv.bias is not None
    weight = conv.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return F.linear(x, weight, conv.bias.repeat(4)).view(x.shape[0], -1, conv.out_channels)
