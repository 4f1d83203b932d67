"""What one can ask of a photograph beyond the one salient object that its data set marks.

Annotators also click on backgrounds, on one of several objects, on parts. Each function makes such a task from a
photograph and its mask, and gives the photograph's own object back where it cannot. Training draws from them
(`harness.training.material`), and `dataset=tasks` measures on them.
"""

from __future__ import annotations

import cv2
import numpy as np

from harness.sample import Sample

IGNORE = 255


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
    visible = pasted
    if choice < 0.3 and original.sum() > 0.3 * (under.mask == 1).sum():
        visible = original
    elif choice > 0.85:
        visible = original | pasted
    mask = np.where((under.mask == IGNORE) & ~pasted, IGNORE, visible).astype(np.uint8)
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
