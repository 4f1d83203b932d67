"""RITM (Sofiiuk et al. 2021): image, clicks and last mask go through the whole network at every click.

What "no encode-once" costs: nothing is kept between clicks but the last probability map. The switches are those of
the published evaluation: zoom-in to the object from the second click on, and averaging with the mirrored image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import _weights, _zoom
from baselines._hrnet import LAYOUTS, HRNet
from baselines._zoom import Embedding, Region, cut, extent, normalise
from baselines._zoom_episode import ZoomSegmenter, ZoomSession

THRESHOLD = 0.49
EMPTY_ZOOM = ("keep", "reset")


class Scale(nn.Module):
    """Multiplies by the magnitude of one learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.05))

    def forward(self, x: Tensor) -> Tensor:
        """Return |scale| x."""
        return self.scale.abs() * x


class RitmNet(nn.Module):
    """The network, with the parameter names of the released checkpoints. `backbone`: a name of `_hrnet.LAYOUTS`."""

    def __init__(self, backbone: str = "hrnet18s") -> None:
        super().__init__()
        self.maps_transform = nn.Sequential(nn.Conv2d(3, 16, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 64, 3, 2, 1), Scale())
        self.feature_extractor = HRNet(LAYOUTS[backbone])

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        """Return logits (B, 1, H, W).

        Args:
            image: (B, 3, H, W), normalised RGB.
            maps: (B, 3, H, W): last probabilities, positive discs, negative discs.
        """
        logits, _ = self.feature_extractor(image, self.maps_transform(maps))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)


class Ritm(ZoomSegmenter[RitmNet]):
    """Segmenter: RITM.

    Args:
        backbone: "hrnet18s", "hrnet18" or "hrnet32".
        weights: a released .pth or a saved .safetensors file; None for seeded random values.
        zoom_in: from the second click on, run on a crop around the object.
        flip: average the logits of the image and the mirrored image.
        target_size: longer side of the crop in the network (the published evaluation takes 600 on DAVIS).
        expansion: of the object's bounding box.
        min_crop: least side of the crop in image pixels.
        empty_zoom: when no pixel of the last answer exceeds 0.5 after a zoom-in, the network takes the whole image.
            "keep", as published: the old region stays all the same, and the answer is squeezed into it; "reset": the
            region is given up, and the answer is the whole image's.
        seed: of random weights.
    """

    threshold = THRESHOLD

    def __init__(
        self,
        backbone: str = "hrnet18s",
        weights: str | None = None,
        zoom_in: bool = True,
        flip: bool = True,
        target_size: int = 400,
        expansion: float = 1.4,
        min_crop: int = 200,
        empty_zoom: str = "keep",
        seed: int = 0,
    ) -> None:
        if backbone not in LAYOUTS:
            raise ValueError(f"ritm backbone={backbone!r}: choose {', '.join(LAYOUTS)}")
        if target_size < 32:
            raise ValueError(f"ritm target_size={target_size}: at least 32 pixels (400; 600 on DAVIS)")
        if expansion < 1 or min_crop < 1:
            raise ValueError(f"ritm expansion={expansion}, min_crop={min_crop}: both must be 1 or more")
        if empty_zoom not in EMPTY_ZOOM:
            raise ValueError(f"ritm empty_zoom={empty_zoom!r}: choose {' or '.join(EMPTY_ZOOM)}")
        self.backbone, self.empty_zoom = backbone, empty_zoom
        self.zoom_in, self.flip = bool(zoom_in), bool(flip)
        self.target_size, self.expansion, self.min_crop = target_size, expansion, min_crop
        module, status = _weights.prepare(
            lambda: RitmNet(backbone),
            weights,
            seed,
            f"RITM {backbone.replace('hrn', 'HRN')}",
            {"scale": lambda shape, _: torch.full(shape, 0.05)},
        )
        super().__init__(module, status)
        self.encoder_key = "ritm image"  # no network before the first click: all variants share it
        self.parts: dict[str, nn.Module] = {
            "clicks": module.maps_transform,
            "network": module.feature_extractor,
        }

    @staticmethod
    def would_fit(shapes: _weights.Shapes, backbone: str = "hrnet18s", **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(RitmNet, backbone))

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Session(ZoomSession):
    """One episode: its clicks, the last probabilities, and the region that the zoom-in holds on to."""

    def __init__(self, segmenter: Ritm, embedding: Embedding) -> None:
        super().__init__(embedding)
        self.segmenter = segmenter

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 probabilities after a further (y, x, positive), or None to run again."""
        self._note(click)
        crop = self._choose_region()
        previous, points = self.previous, self.points
        if crop is not None:
            size = self._size(crop)
            previous, points = cut(previous, crop, size), _zoom.into(points, crop, size)
        maps = _zoom.click_maps(previous, points, self.segmenter.flip)
        answer = torch.sigmoid(_zoom.mean_logits(self.segmenter.module(self._images.get(crop), maps)))
        # With empty_zoom="keep" this squeezes an answer for the whole image into the region.
        self.previous = answer if self.region is None else _zoom.paste(answer, self.region, *self.image.shape[2:])
        return self.previous[0, 0].clone().numpy()

    def _choose_region(self) -> Region | None:
        """Settle the region for this click; return what the network sees of it, None for the whole image."""
        owner = self.segmenter
        if not owner.zoom_in or len(self.points) < 2:
            return None
        new = _zoom.object_region(self.previous[0, 0] > _zoom.OBJECT, self.points, owner.expansion, owner.min_crop)
        if new is not None:
            self.region = _zoom.keep_or_replace(self.region, new, self.points)
            return self.region
        if owner.empty_zoom == "reset":
            self.region = None
        return None

    def _size(self, region: Region) -> tuple[int, int]:
        """Rows and columns of a region in the network: the longer side is `target_size`."""
        height, width = extent(region)
        scale = self.segmenter.target_size / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _network_image(self, region: Region | None) -> Tensor:
        image = self.image if region is None else cut(self.image, region, self._size(region))
        return _zoom.with_mirror(normalise(image), self.segmenter.flip)
