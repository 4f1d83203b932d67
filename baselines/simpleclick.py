"""SimpleClick (Liu et al. 2023): a plain ViT that sees image, clicks and last mask together, again at every click.

The crop around the object is distorted to a square (448; the published evaluation takes 672 on DAVIS), from the first
click on, and each click runs the network on the crop and its mirror image: nothing of the network is kept between
clicks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines import _weights, _zoom
from baselines._simpleclick_net import LAYOUTS, SimpleClickNet
from baselines._zoom import Embedding, Region, cut, normalise
from baselines._zoom_episode import ZoomSegmenter, ZoomSession

THRESHOLD = 0.49


class SimpleClick(ZoomSegmenter[SimpleClickNet]):
    """Segmenter: SimpleClick.

    Args:
        variant: "vit_b", "vit_l", "vit_h" or "vit_xtiny".
        weights: a released .pth or a saved .safetensors file; None for seeded random values.
        size: side of the square network input: 448 as trained, 672 as published on DAVIS; 224 and more, in windows
            of equal sides. The position table is resized to it.
        flip: average the logits of the image and the mirrored image, as published.
        expansion: of the object's bounding box.
        min_crop: least side of the crop in image pixels.
        seed: of random weights.

    Raises:
        ValueError: an argument is none of these.
    """

    threshold = THRESHOLD

    def __init__(
        self,
        variant: str = "vit_b",
        weights: str | None = None,
        size: int = 448,
        flip: bool = True,
        expansion: float = 1.4,
        min_crop: int = 200,
        seed: int = 0,
    ) -> None:
        if variant not in LAYOUTS:
            raise ValueError(f"simpleclick variant={variant!r}: choose {', '.join(LAYOUTS)}")
        if expansion < 1 or min_crop < 1:
            raise ValueError(f"simpleclick expansion={expansion}, min_crop={min_crop}: both must be 1 or more")
        LAYOUTS[variant].window(size)  # refuses sizes that do not divide
        self.variant, self.size, self.flip = variant, size, bool(flip)
        self.expansion, self.min_crop = expansion, min_crop
        module, status = _weights.prepare(
            lambda: SimpleClickNet(LAYOUTS[variant]),
            weights,
            seed,
            f"SimpleClick {variant}",
            initial={"pos_embed": _weights.normal(0.02), "cls_token": _weights.normal(0.02)},
        )
        super().__init__(module, status)
        module.backbone.positions(size)  # not at the first click
        self.encoder_key = "simpleclick image"  # no network before the first click: all variants share it
        self.parts: dict[str, nn.Module] = {
            "prompt": module.patch_embed_coords,
            "backbone": module.backbone,
            "neck": module.neck,
            "head": module.head,
        }

    @staticmethod
    def would_fit(shapes: _weights.Shapes, variant: str = "vit_b", **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(SimpleClickNet, LAYOUTS[variant]))

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Session(ZoomSession):
    """One episode: its clicks, the last probabilities, and the region that the zoom-in holds on to."""

    def __init__(self, segmenter: SimpleClick, embedding: Embedding) -> None:
        super().__init__(embedding)
        self.segmenter = segmenter

    @torch.inference_mode()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 probabilities after a further (y, x, positive), or None to run again."""
        self._note(click)
        owner, size = self.segmenter, (self.segmenter.size, self.segmenter.size)
        self.region = self._choose_region()
        previous, points = cut(self.previous, self.region, size), _zoom.into(self.points, self.region, size)
        maps = _zoom.click_maps(previous, points, owner.flip)
        answer = torch.sigmoid(_zoom.mean_logits(owner.module(self._images.get(self.region), maps)))
        self.previous = _zoom.paste(answer, self.region, *self.image.shape[2:])
        return self.previous[0, 0].clone().numpy()

    def _choose_region(self) -> Region:
        """Return the region for this click: around the object, or the whole image where there is none."""
        owner = self.segmenter
        new = _zoom.object_region(self.previous[0, 0] > _zoom.OBJECT, self.points, owner.expansion, owner.min_crop)
        return _zoom.keep_or_replace(self.region, new or _zoom.whole(*self.image.shape[2:]), self.points)

    def _network_image(self, region: Region | None) -> Tensor:
        assert region is not None
        image = cut(self.image, region, (self.segmenter.size, self.segmenter.size))
        return _zoom.with_mirror(normalise(image), self.segmenter.flip)
