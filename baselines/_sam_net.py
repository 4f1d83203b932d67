"""The network that SAM, SAM-HQ and MobileSAM share: an image encoder, SAM's prompt encoder and a mask decoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from baselines._sam_decoder import MaskDecoder
from baselines._sam_prompts import PromptEncoder

PATCH, DIM = 16, 256


@dataclass(frozen=True)
class Encoded:
    """What the decoder takes of an image, and no click changes.

    Attributes:
        image: (1, 256, h, w) embedding.
        code: (1, 256, h, w) position code of its grid.
        extras: further maps of the decoder's own.
    """

    image: Tensor
    code: Tensor
    extras: tuple[Tensor, ...] = ()


class SamNet(nn.Module):
    """Prompt encoder and mask decoder with the names of the released files; subclasses add the image encoder."""

    def __init__(self, decoder: MaskDecoder | None = None) -> None:
        super().__init__()
        self.prompt_encoder = PromptEncoder(DIM, code="pe_layer", points="point_embeddings", table=None)
        self.mask_decoder = MaskDecoder(DIM) if decoder is None else decoder

    @property
    def encoder(self) -> nn.Module:
        """The image encoder."""
        raise NotImplementedError

    def encode(self, square: Tensor) -> Encoded:
        """Encode a network input (1, 3, T, T)."""
        return self.encoded(self.encoder(square))

    def encoded(self, image: Tensor, *extras: Tensor) -> Encoded:
        """Return an embedding (1, 256, h, w) with the position code of its grid."""
        return Encoded(image, self.prompt_encoder.grid_code(image.shape[2], image.shape[3]), extras)

    def decode(self, encoded: Encoded, points: Tensor, kinds: Tensor, previous: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mask logits (1, masks, 4h, 4w) and SAM's predictions of its masks' quality (1, 4).

        Args:
            encoded: of `encode`.
            points, kinds: (1, n, 2) row and column in network pixels, and (1, n) int64, 1 positive, 0 negative.
            previous: (1, 1, 4h, 4w) logits of the last answer, None for none.
        """
        batch, dim, h, w = encoded.image.shape
        # The padding token goes with points only.
        sparse = encoded.image.new_zeros(batch, 0, dim)
        if points.shape[1]:
            sparse = self.prompt_encoder.sparse(points, kinds, (PATCH * h, PATCH * w))
        dense = self.prompt_encoder.dense(previous, batch, h, w)
        return self.mask_decoder(encoded.image, encoded.code, sparse, dense, encoded.extras)
