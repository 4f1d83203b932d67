"""Closed forms for the multiply-accumulates of Inter2Former's parts, in tokens, boundary tokens and box size.

They are what the counter is checked against, and what answers "how would this grow" without running anything. All
return multiply-accumulates of products (convolutions, matrix products, attention), not FLOPs; norms, activations,
softmax and interpolation are left out, as in the count's `gmacs`. Plain forms: the sparse stem and the folded
upsampling that run at inference compute the same values with other products.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

WINDOW = 16
PATCH = 16


def convolution(into: int, out: int, kernel: int, height: int, width: int) -> int:
    """A kernel x kernel convolution with an output of height x width."""
    return into * out * kernel**2 * height * width


def attention(queries: int, keys: int, width: int) -> int:
    """Softmax attention: scores and weighted sum, `width` channels over all heads."""
    return 2 * queries * keys * width


def hybrid_attention(
    tokens: int, boundary: int, dim: int, head: int, bits: int, kind: str = "on", coarse: int | None = None,
    bias_row: bool = False,
) -> int:  # fmt: skip
    """DHA of one block, output projection included.

    Args:
        tokens: N of the image.
        boundary: n of them with full attention (kind ``on``).
        dim: token width.
        head: width of the one head.
        bits: of a BSQ code; 2^bits keys for BSQ and VQ.
        kind: ``on``, ``full``, ``bsq``, ``vq``.
        coarse: tokens that attend to codes; None: those that are not on the boundary. An implementation may let all
            attend to codes and overwrite the boundary, where that saves gathering.
        bias_row: the bias of the last projection is one more row of its matrix, as our implementation has it.
    """
    near = {"on": boundary, "full": tokens}.get(kind, 0)
    projections = tokens * dim * 3 * head + tokens * (head + bias_row) * dim
    full = attention(near, tokens, head)
    if near == tokens:
        return projections + full
    quantising = tokens * head * (2**bits if kind == "vq" else bits)
    far = tokens - near if coarse is None else coarse
    return projections + full + quantising + attention(far, 2**bits, head)


def mixture(
    tokens: int, boundary: int, dim: int, hidden: int, experts: int, kind: str = "on", bias_row: bool = False
) -> int:
    """HMoE of one block; `hidden` is the full width, each expert has hidden / experts.

    Args:
        kind: ``on``, ``shared`` or ``dense``.
        bias_row: the bias of the last projection is one more row of its matrix, as our implementation has it.
    """
    if kind == "dense":
        return tokens * dim * (3 * hidden + bias_row)
    one = 3 * dim * hidden // experts
    routed = boundary * (one + dim * (experts + 1 + bias_row)) if kind == "on" else 0
    return tokens * (one + bias_row * dim) + routed


def prompt_stem(height: int, width: int, widths: Sequence[int], label_dim: int) -> int:
    """The four stride-2 convolutions over a label map or box of height x width pixels."""
    total, into = 0, label_dim
    for out in widths:
        height, width = ceil(height / 2), ceil(width / 2)
        total += convolution(into, out, 3, height, width)
        into = out
    return total


def upsampling(box_tokens: int, widths: Sequence[int]) -> int:
    """DLU's four stages on a box, convolutions after each doubling."""
    after = (*widths[1:], 1)
    return sum(9 * a * b * box_tokens * 4 ** (j + 1) for j, (a, b) in enumerate(zip(widths, after, strict=True)))


def coarse_mask(tokens: int, widths: Sequence[int]) -> int:
    """The small MLP that says where the object may be."""
    return tokens * sum(a * b for a, b in pairwise((*widths, 1)))


def edge_detector(height: int, width: int, widths: Sequence[int] = (256, 64, 16, 4), blocks: int = 4) -> int:
    """CannyNet's learned convolutions: widths coarsest first, at strides 8, 4, 2, 1."""
    fine = list(reversed(widths))
    total = convolution(5, fine[0], 3, height, width)
    for level, c in enumerate(fine):
        h, w = height >> level, width >> level
        total += blocks * 2 * convolution(c, c, 3, h, w) + convolution(c, c, 1, h, w)
        if level + 1 < len(fine):
            total += convolution(c, fine[level + 1], 3, h // 2, w // 2)
    return total


def vit_encoder(
    height: int, width: int, dim: int = 768, layers: int = 12, out: int = 256, anchor: int = 256,
    padded_queries: bool = False,
) -> int:  # fmt: skip
    """Inter2Former's encoder: windows of 16, two scales, fusion after every third block.

    Args:
        height, width: of the image, multiples of 16.
        padded_queries: also compute the attention of padded cells, as the released CPU code does, which throws it
        away.
    """
    total = 0
    scales = ((height // PATCH, width // PATCH), (anchor // PATCH, anchor // PATCH))
    for h, w in scales:
        n = h * w
        total += n * 3 * PATCH**2 * dim + layers * n * 12 * dim**2
        for layer in range(layers):
            shift = WINDOW // 2 if layer % 2 and max(h, w) > WINDOW else 0
            # Blocks with a shift have that many padded cells at the top and left, and fill up to whole windows.
            cells = padded_side(h, shift) * padded_side(w, shift)
            total += attention(cells if padded_queries else n, WINDOW**2, dim)
            total += 0 if not shift else 3 * dim * dim  # queries, keys and values of the one padding vector
    h, w = scales[0]
    return total + 4 * h * w * 2 * dim * out + 9 * out * h * w


def padded_side(side: int, shift: int) -> int:
    """A side of the token grid after padding by the shift and up to whole windows."""
    return WINDOW * ceil((side + (WINDOW - shift if shift else 0)) / WINDOW)


def sam_vision(
    dim: int = 768, layers: int = 12, full: int = 4, grid: int = 64, window: int = 14, out: int = 256,
    attention_products: bool = True,
) -> int:  # fmt: skip
    """SAM's image encoder: windows of 14 but for `full` blocks, decomposed relative positions, convolutional neck.

    Windowed blocks project padded cells as well: 64 x 64 tokens fill 5 x 5 windows of 14 x 14.

    Args:
        attention_products: False leaves out scores, weighted sums and relative positions, as counters by module hooks
            do, and with them the figures that many papers print.
    """
    n, side = grid**2, ceil(grid / window)
    cells = (side * window) ** 2

    def block(tokens: int, keys: int, length: int) -> int:
        relative = 2 * tokens * length * dim  # q times the row and the column table, per head
        products = attention(tokens, keys, dim) + relative if attention_products else 0
        return 4 * tokens * dim**2 + products + 8 * n * dim**2

    windowed = (layers - full) * block(cells, window**2, window)
    neck = n * dim * out + 9 * n * out**2
    return n * 3 * PATCH**2 * dim + windowed + full * block(n, n, grid) + neck


def sam_decoder(prompts: int, grid: int = 64, dim: int = 256, hidden: int = 2048, masks: int = 4) -> int:
    """SAM's mask decoder: two two-way blocks, one more look at the image, upscaling by 4, a product for each mask.

    Args:
        prompts: sparse prompt tokens: the clicks, and the padding point that goes with them where there is no box.
        grid: side of the embedding.
        masks: computed, whether asked for or not.
    """
    n, t = grid**2, 1 + masks + prompts  # the first token predicts the masks' quality

    def cross(queries: int, keys: int) -> int:  # at half the width inside
        return (2 * queries + 2 * keys) * dim * dim // 2 + attention(queries, keys, dim // 2)

    block = 4 * t * dim**2 + attention(t, t, dim) + cross(t, n) + 2 * t * dim * hidden + cross(n, t)
    # Each input pixel of a transposed convolution of size and stride 2 gives four outputs.
    upscaling = 4 * n * dim * dim // 4 + 4 * 4 * n * dim // 4 * dim // 8
    weights = masks * (2 * dim**2 + dim * dim // 8) + 2 * dim**2 + dim * masks
    return 2 * block + cross(t, n) + upscaling + weights + masks * dim // 8 * 16 * n


def sam_mask_prompt(grid: int = 64, dim: int = 256) -> int:
    """SAM's embedding of the last mask: to 4 channels at half, 16 at a quarter of its size, then to `dim`."""
    n = grid**2
    return 4 * 4 * 4 * n + 4 * 4 * 16 * n + 16 * dim * n
