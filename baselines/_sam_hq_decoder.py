"""SAM-HQ's mask decoder: SAM's with a fifth mask token, whose mask sees the image at three levels.

Written from the description of the official code; transformers' SamHQMaskDecoder upscales the image as it was before
its two-way transformer, and so gives other masks (docs/foot-guns.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._maps import unnest
from baselines._sam_decoder import MaskDecoder, SmallMlp, children
from baselines._sam_prompts import LayerNorm2d


class Enlargement(nn.Sequential):
    """Two transposed convolutions with a norm and GELU between: pixels at four times the resolution."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(dim, hidden, 2, 2),
            LayerNorm2d(hidden),
            nn.GELU(),
            nn.ConvTranspose2d(hidden, out, 2, 2),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, n, dim) -> (B, 16 n, out), pixels nested within tokens."""
        first, norm, _, second = self
        assert isinstance(norm, LayerNorm2d)
        return children(second, F.gelu(norm.last(children(first, tokens))))


class HqMaskDecoder(MaskDecoder):
    """SAM's decoder and the high-quality mask.

    Args:
        early: channels of the image encoder's early map.
        dim: channels of the embedding.
    """

    def __init__(self, early: int, dim: int = 256) -> None:
        super().__init__(dim)
        out = dim // 8
        self.hf_token = nn.Embedding(1, dim)
        self.hf_mlp = SmallMlp(dim, dim, out)
        self.compress_vit_feat = Enlargement(early, dim, out)
        self.embedding_encoder = Enlargement(dim, dim // 4, out)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(out, dim // 4, 3, padding=1),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.Conv2d(dim // 4, out, 3, padding=1),
        )

    def own_tokens(self) -> Tensor:
        """Return the quality token, SAM's mask tokens and the high-quality token."""
        return torch.cat([super().own_tokens(), self.hf_token.weight])

    def detail(self, image: Tensor, early: Tensor) -> Tensor:
        """Return what the image alone adds to the high-quality features, (B, dim / 8, 4h, 4w).

        Args:
            image: (B, dim, h, w) embedding, without the dense prompt.
            early: (B, h, w, early) output of the encoder's first block with attention over the whole image.
        """
        height, width = image.shape[2:]
        nested = self.embedding_encoder(image.flatten(2).transpose(1, 2)) + self.compress_vit_feat(early.flatten(1, 2))
        return unnest(nested, height, width, 2).permute(0, 3, 1, 2)

    def forward(
        self, image: Tensor, code: Tensor, sparse: Tensor, dense: Tensor | None, extras: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """Decode as `MaskDecoder` does; `extras` is (`detail`'s map,).

        Returns:
            Mask logits (B, masks + 1, 4h, 4w), SAM's and then the high-quality mask's, and the quality predictions
            (B, masks) of SAM's masks: there is none for the high-quality mask.
        """
        height, width = image.shape[2:]
        tokens, pixels = self.attend(image, code, sparse, dense)
        fine = self.upscale(pixels)
        masks = self.classify(tokens, fine, height, width)
        assert self.iou_prediction_head is not None
        best = self.classify_finest(tokens, self.mask_features(fine, height, width) + extras[0])
        return torch.cat([masks, best], dim=1), self.iou_prediction_head(tokens[:, 0])

    def mask_features(self, fine: Tensor, height: int, width: int) -> Tensor:
        """Return (B, dim / 8, 4 height, 4 width) of `upscale`'s features, before `detail` is added."""
        return self.embedding_maskfeature(unnest(fine, height, width, 2).permute(0, 3, 1, 2))

    def classify_finest(self, tokens: Tensor, features: Tensor) -> Tensor:
        """Return the high-quality mask's logits (B, 1, 4h, 4w)."""
        classifier = self.hf_mlp(tokens[:, 1 + self.masks])
        pixels = features.permute(0, 2, 3, 1)
        return (pixels.flatten(1, 2) @ classifier[:, :, None]).view(pixels.shape[:3])[:, None]
