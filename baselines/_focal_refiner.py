"""FocalClick's refiner: a shallow network that redraws the mask inside the focus crop, at the crop's own detail.

It sees the image crop (0..1, not normalised), the clicks, and features and logits of the coarse network cut out by
RoIAlign.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._images import bilinear

WIDTH = 32


def roi_align(x: Tensor, box: Tensor, scale: float, size: int) -> Tensor:
    """Cut a box out of maps (1, C, L, L) by aligned RoIAlign with one sample per bin, as (1, C, size, size).

    Args:
        x: the maps.
        box: (4,) float, left, top, right, bottom, before `scale`; its sides times `scale` are `size` at most, which
            is when torchvision's adaptive sampling takes one sample.
        scale: from the box's to the maps' pixels.
        size: bins per side.
    """
    left, top, right, bottom = (box * scale - 0.5).unbind()
    rows = _between(x, 2, top, bottom, size)
    return _between(rows, 3, left, right, size)


def _between(x: Tensor, axis: int, start: Tensor, end: Tensor, size: int) -> Tensor:
    """Sample one axis linearly at the middles of `size` bins from start to end; samples outside stay on the border."""
    bins = torch.arange(size, dtype=start.dtype, device=start.device)
    places = (start + (bins + 0.5) * ((end - start) / size)).clamp_min(0)
    last = x.shape[axis] - 1
    low = places.long().clamp_max(last)
    # From the last pixel's middle on both neighbours are the last pixel.
    share = torch.where(low == last, torch.zeros_like(places), places - low)
    shape = [1] * x.ndim
    shape[axis] = size
    share = share.view(shape).to(x.dtype)
    high = (low + 1).clamp_max(last)
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share


class ConvNormRelu(nn.Module):
    """Convolution with bias, norm, ReLU."""

    def __init__(self, into: int, out: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, side, stride, side // 2)
        self.norm = nn.BatchNorm2d(out)

    def linear(self, x: Tensor) -> Tensor:
        """Return all but the ReLU."""
        return self.norm(self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, into, h, w) to (B, out, h / stride, w / stride)."""
        return F.relu_(self.linear(x))


class Separable(nn.Module):
    """Depthwise 3x3 convolution, 1x1 convolution, norm, ReLU."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        return F.relu_(self.norm(self.conv1x1(self.conv3x3(x))))


class Refiner(nn.Module):
    """From a crop at S x S and the coarse network's view of it to refined logits.

    Args:
        channels: of the coarse network's features.
        gate: hold the parameters of a gate that released SegFormer checkpoints have and nothing uses.
    """

    def __init__(self, channels: int, gate: bool) -> None:
        super().__init__()
        self.image_conv1 = ConvNormRelu(6, WIDTH, 3, 2)
        self.image_conv2, self.image_conv3 = Separable(), Separable()
        self.refine_fusion = ConvNormRelu(channels, WIDTH, 1)
        self.refine_fusion2, self.refine_fusion3 = Separable(), Separable()
        if gate:
            self.feature_gate = nn.Sequential(nn.Conv2d(WIDTH, 1, 1))
        self.refine_pred = nn.Conv2d(WIDTH, 1, 3, padding=1)
        self.refine_trimap = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(
        self, image: Tensor, discs: Tensor, features: Tensor, coarse: Tensor, box: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return refined logits, boundary logits and the coarse logits of the crop, each (1, 1, S, S).

        Args:
            image: (1, 3, S, S) crop in 0..1.
            discs: (1, 2, S, S) clicks in the crop, positive first.
            features: (1, C, f, f) of the coarse network's whole view.
            coarse: (1, 1, S, S) logits of the coarse network's whole view.
            box: (4,) left, top, right, bottom of the crop in the coarse network's pixels.
        """
        size, fine = coarse.shape[-1], features.shape[-1]
        base = roi_align(coarse, box, 1.0, size)
        detail = self.image_conv1(torch.cat([image, discs, torch.sigmoid(base)], dim=1))
        detail = self.image_conv3(self.image_conv2(detail))
        # The crop is a weighted mean of pixels, so convolution and norm may go before it: 32 channels to cut, not C.
        context = F.relu_(roi_align(self.refine_fusion.linear(features), box, fine / size, fine))
        joined = detail + bilinear(context, detail.shape[2], detail.shape[3], align_corners=True)
        joined = self.refine_fusion3(self.refine_fusion2(joined))
        both = torch.cat([self.refine_pred(joined), self.refine_trimap(joined)], dim=1)
        change, boundary = bilinear(both, size, size, align_corners=True).chunk(2, dim=1)
        share = torch.sigmoid(boundary)
        return change * share + base * (1 - share), boundary, base
