"""What a training sample asks for, beyond the one salient object that a data set marks.

Annotators also click on backgrounds, on one of several objects, on parts. Each kind below makes such a task from a
photograph and its mask; `Mixture` says how often.

`object`      the marked object.
`background`  everything but the marked object: clicks count, not salience.
`pasted`      an object of another photograph laid over this one; asked for is it, the original object, or both.
`region`      a region of similar colour, with an ignored band around its uncertain edge: stuff and parts.
`scene`       a composed scene, where a second data set offers some.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import numpy as np

from harness.sample import Sample
from harness.training.packed import Packed

IGNORE = 255


@dataclass(frozen=True)
class Mixture:
    """How often each kind is drawn, relative to each other."""

    object: float = 0.55
    background: float = 0.08
    pasted: float = 0.2
    region: float = 0.07
    scene: float = 0.1

    def shares(self) -> dict[str, float]:
        """The weights, adding up to 1."""
        values = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        total = sum(values.values())
        return {name: value / total for name, value in values.items()}


class Material:
    """Draws training samples.

    Args:
        photographs: packed data set with one marked object per image.
        scenes: packed composed scenes; None: `scene` gives an `object`.
        mixture: how often each kind is drawn.
    """

    def __init__(self, photographs: Packed, scenes: Packed | None, mixture: Mixture):
        self.photographs, self.scenes = photographs, scenes
        shares = mixture.shares()
        self._kinds, self._shares = list(shares), list(shares.values())
        self._make: dict[str, Callable[[Sample, np.random.Generator], Sample]] = {
            "object": lambda sample, _: sample,
            "background": complement,
            "pasted": self._pasted,
            "region": region,
            "scene": self._scene,
        }

    def draw(self, index: int, random: np.random.Generator) -> Sample:
        """A task made from photograph `index`; a kind that this photograph cannot give falls back to its object."""
        kind = self._kinds[int(random.choice(len(self._kinds), p=self._shares))]
        return self._make[kind](self.photographs.load(index), random)

    def _pasted(self, sample: Sample, random: np.random.Generator) -> Sample:
        other = self.photographs.load(int(random.integers(len(self.photographs))))
        return paste(sample, other, random)

    def _scene(self, sample: Sample, random: np.random.Generator) -> Sample:
        if self.scenes is None:
            return sample
        return self.scenes.load(int(random.integers(len(self.scenes))))


def complement(sample: Sample, _: np.random.Generator) -> Sample:
    """The background asked for; falls back to the object where that leaves hardly anything."""
    mask = np.where(sample.mask == IGNORE, IGNORE, sample.mask == 0).astype(np.uint8)
    if (mask == 1).mean() < 0.05:
        return sample
    return Sample(sample.name, sample.image, mask)


def paste(under: Sample, over: Sample, random: np.random.Generator) -> Sample:
    """Lay the object of `over` on `under`, with a soft edge, and ask for it, for the original object, or for both."""
    left, top, w, h = cv2.boundingRect((over.mask == 1).view(np.uint8))
    if min(w, h) < 8:
        return under
    height, width = under.mask.shape
    scale = float(np.exp(random.uniform(np.log(0.25), np.log(0.9)))) * min(height / h, width / w)
    mirror = -1.0 if random.random() < 0.5 else 1.0
    target = np.array([random.uniform(0.1, 0.9) * width, random.uniform(0.1, 0.9) * height])
    linear = np.diag([scale * mirror, scale])
    matrix = np.column_stack([linear, target - linear @ (left + w / 2, top + h / 2)])
    image = cv2.warpAffine(over.image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    alpha = cv2.warpAffine((over.mask == 1).astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)
    pasted = alpha > 0.5
    if pasted.sum() < 64:
        return under
    soft = cv2.GaussianBlur(alpha, (0, 0), 0.8)[..., None]
    mixed = np.rint(image * soft + under.image * (1 - soft)).astype(np.uint8)
    original = (under.mask == 1) & ~pasted
    choice = random.random()
    wanted = pasted
    if choice < 0.3 and original.sum() > 0.3 * (under.mask == 1).sum():
        wanted = original
    elif choice > 0.85:
        wanted = original | pasted
    mask = np.where((under.mask == IGNORE) & ~pasted, IGNORE, wanted).astype(np.uint8)
    return Sample(under.name, mixed, mask)


def region(sample: Sample, random: np.random.Generator) -> Sample:
    """A region of similar colour (Felzenszwalb and Huttenlocher 2004, at a third of the size), edge ignored."""
    from skimage.segmentation import felzenszwalb

    height, width = sample.mask.shape
    small = (max(width // 3, 8), max(height // 3, 8))
    image = cv2.resize(sample.image, small, interpolation=cv2.INTER_AREA)
    labels = felzenszwalb(image, scale=float(random.uniform(100, 500)), sigma=0.8, min_size=60)
    areas = np.bincount(labels.ravel()) / labels.size
    candidates = np.flatnonzero((areas > 0.02) & (areas < 0.5))
    if not len(candidates):
        return sample
    chosen = (labels == random.choice(candidates)).astype(np.float32)
    smooth = cv2.GaussianBlur(cv2.resize(chosen, (width, height), interpolation=cv2.INTER_LINEAR), (0, 0), 1.5)
    mask = np.where(smooth > 0.8, 1, np.where(smooth < 0.2, 0, IGNORE)).astype(np.uint8)
    if (mask == 1).mean() < 0.01:
        return sample
    return Sample(sample.name, sample.image, mask)
