"""FocalClick (Chen et al. 2022): a coarse network on a crop around the object, a refiner on what the click changed.

Both run at every click and nothing of the networks is kept between clicks, as in the released code: the crop moves with
the answer. Three thresholds decide about the crops and one about the answer; the names below say which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines import _weights, _zoom
from baselines._focal_crops import Box, focus_crop, merge
from baselines._focal_refiner import Refiner
from baselines._hrnet import HRNet
from baselines._images import bilinear, mask_plane
from baselines._segformer import SIZES, SegFormer
from baselines._zoom import Embedding, Point, Region, draw_discs, normalise
from baselines._zoom_episode import ZoomSegmenter, ZoomSession
from baselines.ritm import Scale

REFINER_RADIUS = 5
TARGET_THRESHOLD = 0.49
"""Probability above which a pixel of the last answer belongs to the object that the target crop surrounds."""
CHANGE_THRESHOLD = 0.49
"""Above it a pixel is object for the focus crop: of the last answer's probability, but of the coarse LOGIT."""
MIN_CROP = 10
REMEMBERED_FROM = 11
"""From this click on pixels outside of the focus crop keep the last answer instead of the coarse one."""


@dataclass(frozen=True)
class Architecture:
    """A released model: its coarse network, the radius of its discs there, and by how much its input is shrunk."""

    backbone: str
    radius: int
    shrink: int


ARCHITECTURES = {
    "segformer_b0_s1": Architecture("b0", 3, 2),
    "segformer_b0_s2": Architecture("b0", 5, 1),
    "segformer_b3_s2": Architecture("b3", 5, 1),
    "hrnet18s_s1": Architecture("hrnet18s", 2, 2),
    "hrnet18s_s2": Architecture("hrnet18s", 5, 1),
}


class FocalClickNet(nn.Module):
    """Coarse network and refiner, with the parameter names of the released checkpoints.

    The SegFormers' `maps_transform` and `refiner.feature_gate` are in their checkpoints and take no part.
    """

    def __init__(self, model: str = "segformer_b0_s2") -> None:
        super().__init__()
        sizes, self.shrink = ARCHITECTURES[model], ARCHITECTURES[model].shrink
        segformer = sizes.backbone in SIZES
        first = nn.Conv2d(3, 16, 3, 2, 1) if segformer else nn.Conv2d(3, 16, 1)
        second = nn.Conv2d(16, 32 if segformer else 64, 3, 2, 1)
        self.maps_transform = nn.Sequential(first, nn.LeakyReLU(0.2), second, Scale())
        self.feature_extractor: SegFormer | HRNet
        if segformer:
            self.feature_extractor = SegFormer(SIZES[sizes.backbone])
            self.refiner = Refiner(SIZES[sizes.backbone].head, gate=True)
        else:
            self.feature_extractor = HRNet()
            self.refiner = Refiner(self.feature_extractor.cls_head.in_channels, gate=False)

    def coarse(self, image: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (1, 1, S, S) and features (1, C, f, f), with f a quarter of S (S1: an eighth).

        Args:
            image: (1, 3, S, S) normalised.
            prompts: (1, 3, S, S) last probabilities, positive discs, negative discs.
        """
        size = image.shape[-1]
        if self.shrink > 1:
            small = size // self.shrink
            image, prompts = (bilinear(x, small, small, align_corners=True) for x in (image, prompts))
        network = self.feature_extractor
        if isinstance(network, SegFormer):
            logits, features = network(image, prompts)
        else:
            features, _ = network.context(image, self.maps_transform(prompts))
            logits = network.cls_head(features)
        return bilinear(logits, size, size, align_corners=True), features


class FocalClick(ZoomSegmenter[FocalClickNet]):
    """Segmenter: FocalClick.

    Args:
        model: a key of `ARCHITECTURES`. S1 and S2 have the same parameters; S1 shrinks the coarse network's input.
        weights: a released .pth or a saved .safetensors file; None for seeded random values.
        size: side of both networks' square input. Published numbers: 256; the released script's default: 384.
        threshold: probability above which a pixel is object. Published numbers: 0.5; the script's default: 0.49.
        target_expansion: of the object's bounding box, for the coarse network's crop.
        focus_expansion: of the changed part's bounding box, for the refiner's crop.
        seed: of random weights.

    Raises:
        ValueError: unknown model, or a number out of range.
        WeightsError: the weights do not fit.
    """

    def __init__(
        self,
        model: str = "segformer_b0_s2",
        weights: str | None = None,
        size: int = 256,
        threshold: float = 0.5,
        target_expansion: float = 1.4,
        focus_expansion: float = 1.4,
        seed: int = 0,
    ) -> None:
        if model not in ARCHITECTURES:
            raise ValueError(f"focalclick model={model!r}: choose one of {', '.join(ARCHITECTURES)}")
        multiple = 32 * ARCHITECTURES[model].shrink
        if size < multiple or size % multiple:
            raise ValueError(f"focalclick size={size}: must be a positive multiple of {multiple} for {model}, as 256")
        if not 0 < threshold < 1:
            raise ValueError(f"focalclick threshold={threshold}: a probability between 0 and 1, as 0.5")
        if target_expansion < 1 or focus_expansion < 1:
            raise ValueError(
                f"focalclick target_expansion={target_expansion}, focus_expansion={focus_expansion}: "
                "both must be 1 or more, as 1.4"
            )
        self.model, self.size, self.threshold = model, size, float(threshold)
        self.radius = ARCHITECTURES[model].radius
        self.target_expansion, self.focus_expansion = target_expansion, focus_expansion
        module, status = _weights.prepare(
            lambda: FocalClickNet(model),
            weights,
            seed,
            f"FocalClick {model}",
            {"scale": lambda shape, _: torch.full(shape, 0.05)},
        )
        super().__init__(module, status)
        self.encoder_key = "focalclick image"  # no network before the first click: all variants share it
        self.parts: dict[str, nn.Module] = {"coarse": module.feature_extractor, "refiner": module.refiner}
        if not isinstance(module.feature_extractor, SegFormer):
            self.parts["clicks"] = module.maps_transform

    @staticmethod
    def would_fit(shapes: _weights.Shapes, model: str = "segformer_b0_s2", **_: Any) -> bool:
        """Whether a file with these tensors is one of this network's."""
        return _weights.fits(shapes, _weights.skeleton(FocalClickNet, model))

    def start(self, embedding: Embedding) -> Session:
        """Begin an episode."""
        return Session(self, embedding)


class Session(ZoomSession):
    """One episode.

    Attributes:
        source: (H, W) map whose object the next target crop surrounds: the last probabilities, or the merged mask.
        old: (H, W) bool, last mask of an episode that began from a given one; None in all other episodes.
        view, focus: boxes of the last click's coarse network and refiner.
    """

    def __init__(self, segmenter: FocalClick, embedding: Embedding) -> None:
        super().__init__(embedding)
        self.segmenter = segmenter
        self.source: Tensor | None = None
        self.old: np.ndarray | None = None
        self.view: Box = (0, self.image.shape[2], 0, self.image.shape[3])
        self.focus: Box = self.view

    def start_from(self, mask: np.ndarray) -> None:
        """Begin from an (H, W) bool mask; every later answer changes it in one connected part only."""
        self.previous, self.old = mask_plane(mask), np.asarray(mask, dtype=bool).copy()

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        super().replace_prediction(mask)
        self.source = self.previous[0, 0]
        if self.old is not None:
            self.old = np.asarray(mask, dtype=bool).copy()

    @torch.no_grad()
    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 probabilities after a further (y, x, positive), or None to run again.

        In an episode that began from a mask, pixels that the merge decided otherwise are 0 or 1.
        """
        self._note(click)
        coarse, features, logits = self._run_coarse()
        probability = self._run_refiner(coarse, features, logits)
        self.previous = probability
        self.source = probability[0, 0]
        return self._merged(probability[0, 0].numpy())

    def _run_coarse(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (1, 1, S, S) and features of the target crop, and the logits (1, 1, H, W) it gives the image.

        Logits outside of the target crop are -inf.
        """
        owner, (height, width) = self.segmenter, self.image.shape[2:]
        seen: Region | None = None
        if len(self.points) > 1 and self.source is not None:
            mask = self.source > TARGET_THRESHOLD
            seen = _zoom.object_region(mask, self.points, owner.target_expansion, MIN_CROP)
        # Where the last answer is empty the network sees the whole image, but an earlier crop stays in force for the
        # answer: as in the released code.
        self.region = seen or self.region
        crop = seen or _zoom.whole(height, width)
        size = (owner.size, owner.size)
        points = _into(self.points, _box(crop), owner.size)
        discs = draw_discs(points, *size, owner.radius)[None]
        prompts = torch.cat([_zoom.cut(self.previous, crop, size), discs], dim=1)
        coarse, features = owner.module.coarse(self._images.get(crop), prompts)
        probability = bilinear(torch.sigmoid(coarse), *_zoom.extent(crop), align_corners=True)
        if self.region is not None:
            probability = _zoom.paste(probability, self.region, height, width)
        self.view = _box(self.region or crop)
        return coarse, features, torch.log(probability / (1 - probability))

    def _run_refiner(self, coarse: Tensor, features: Tensor, logits: Tensor) -> Tensor:
        """Return probabilities (1, 1, H, W): the coarse logits with the focus crop drawn anew."""
        owner, size = self.segmenter, self.segmenter.size
        before, after = self.previous[0, 0] > CHANGE_THRESHOLD, logits[0, 0] > CHANGE_THRESHOLD
        self.focus = focus_crop(before.numpy(), after.numpy(), self._last_place(), self.view, owner.focus_expansion)
        top, bottom, left, right = self.focus
        region = (top, bottom - 1, left, right - 1)
        crop = _zoom.cut(self.image, region, (size, size))
        discs = draw_discs(_into(self.points, self.focus, size), size, size, REFINER_RADIUS)[None]
        refined, _, _ = owner.module.refiner(crop, discs, features, coarse, focus_box(self.focus, self.view, size))
        if len(self.points) >= REMEMBERED_FROM:
            logits = torch.log(self.previous / (1 - self.previous))
        logits[:, :, top:bottom, left:right] = bilinear(refined, bottom - top, right - left, align_corners=True)
        return torch.sigmoid(logits)

    def _merged(self, scores: np.ndarray) -> np.ndarray:
        place = self._last_place()
        if self.old is None or place is None:
            return scores.copy()
        new = scores > self.segmenter.threshold
        self.old = merge(self.old, new, place)
        self.source = mask_plane(self.old)[0, 0]  # the network's next input stays what it answered itself
        return np.where(new == self.old, scores, self.old).astype(np.float32)

    def _network_image(self, region: Region | None) -> Tensor:
        size = (self.segmenter.size, self.segmenter.size)
        return normalise(_zoom.cut(self.image, region or _zoom.whole(*self.image.shape[2:]), size))

    def _last_place(self) -> tuple[int, int] | None:
        return (int(self.points[-1][0]), int(self.points[-1][1])) if self.points else None


def focus_box(focus: Box, view: Box, size: int) -> Tensor:
    """Return left, top, right, bottom (4,) of the focus crop in the pixels of a size x size copy of the view."""
    down, across = size / (view[1] - view[0]), size / (view[3] - view[2])
    top, bottom = max(0, (focus[0] - view[0]) * down), min(size, (focus[1] - view[0]) * down)
    left, right = max(0, (focus[2] - view[2]) * across), min(size, (focus[3] - view[2]) * across)
    return torch.tensor([left, top, right, bottom], dtype=torch.float32)


def _box(region: Region) -> Box:
    top, bottom, left, right = region
    return top, bottom + 1, left, right + 1


def _into(points: list[Point], box: Box, size: int) -> list[Point]:
    """Return the points in the pixels of a size x size copy of a box; `_zoom.into` rounds in another order."""
    top, bottom, left, right = box
    down, across = size / (bottom - top), size / (right - left)
    return [((y - top) * down, (x - left) * across, positive) for y, x, positive in points]
