"""Augmentation: one affine map to a square crop (scale, rotation, flip, place), then colour.

Image and mask go through the same map. What lies outside the photograph becomes the mean colour, as the padding of the
network's input does, and background.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from harness.sample import Sample

MEAN_COLOUR = (124, 116, 104)
"""ImageNet's, RGB: normalises to about 0, the value of the padding."""


@dataclass(frozen=True)
class Augmentation:
    """How far a crop may differ from the photograph.

    Attributes:
        scale: least and greatest enlargement, relative to the longest side filling the crop.
        rotation: greatest angle in degrees, either way.
        flip: probability of a mirror image.
        colour: greatest relative change of brightness, contrast and saturation.
        grey: probability of a grey image.
        blur: probability of a blur or of noise.
    """

    scale: tuple[float, float] = (0.8, 2.0)
    rotation: float = 10.0
    flip: float = 0.5
    colour: float = 0.25
    grey: float = 0.03
    blur: float = 0.1


NONE = Augmentation(scale=(1.0, 1.0), rotation=0.0, flip=0.0, colour=0.0, grey=0.0, blur=0.0)


def crop(sample: Sample, size: int, how: Augmentation, random: np.random.Generator) -> Sample:
    """A (size, size) crop of a sample; keeps part of the object in view.

    Args:
        size: side in pixels.
        random: all choices come from it.
    """
    height, width = sample.mask.shape
    low, high = how.scale
    scale = size / max(height, width) * float(np.exp(random.uniform(np.log(low), np.log(high))))
    angle = np.deg2rad(random.uniform(-how.rotation, how.rotation))
    mirror = -1.0 if random.random() < how.flip else 1.0
    rotation = (
        scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([mirror, 1])
    )
    centre = _centre(sample.mask, size / scale, random)
    matrix = np.column_stack([rotation, size / 2 - rotation @ centre])
    shrinking = scale < 0.8
    image = cv2.warpAffine(
        recolour(sample.image, how, random),
        matrix,
        (size, size),
        flags=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=MEAN_COLOUR,
    )
    mask = cv2.warpAffine(sample.mask, matrix, (size, size), flags=cv2.INTER_NEAREST, borderValue=0)
    return Sample(sample.name, image, mask)


def _centre(mask: np.ndarray, view: float, random: np.random.Generator) -> np.ndarray:
    """Centre (x, y) of the view in the photograph: random, but with a good part of the object in view."""
    height, width = mask.shape
    centre = np.array([_place(width, view, random), _place(height, view, random)])
    left, top, w, h = cv2.boundingRect((mask == 1).view(np.uint8))
    if w == 0:
        return centre
    # The object's box and the view must overlap by a good part of the smaller of the two.
    for axis, (start, extent) in enumerate(((left, w), (top, h))):
        reach = (view + extent) / 2 - 0.7 * min(view, extent)
        middle = start + extent / 2
        centre[axis] = np.clip(centre[axis], middle - reach, middle + reach)
    return centre


def _place(extent: int, view: float, random: np.random.Generator) -> float:
    slack = abs(extent - view) / 2
    return extent / 2 + random.uniform(-slack, slack)


def recolour(image: np.ndarray, how: Augmentation, random: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and colour balance, sometimes blur or add noise: (H, W, 3) uint8 RGB."""
    if how.colour:
        gain = 1 + random.uniform(-how.colour, how.colour) + random.uniform(-0.3, 0.3, 3) * how.colour
        shift = 255 * random.uniform(-0.4, 0.4) * how.colour
        saturation = 0.0 if random.random() < how.grey else 1 + 1.5 * random.uniform(-how.colour, how.colour)
        grey = np.full((3, 3), 1 / 3) * (1 - saturation)
        matrix = np.diag(gain) @ (np.eye(3) * saturation + grey)
        image = cv2.transform(image, np.column_stack([matrix, np.full(3, shift)]))
    if random.random() < how.blur:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.5))
    if random.random() < how.blur:
        noise = random.normal(0, random.uniform(2, 12), image.shape).astype(np.int16)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image
