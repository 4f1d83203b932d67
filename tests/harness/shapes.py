"""A data set of coloured shapes on noise, in memory: easy to learn by heart, no files, no download."""

from __future__ import annotations

import cv2
import numpy as np

from harness.errors import SampleError
from harness.sample import Sample


class Shapes:
    """Ellipses of one colour on a background of another, with noise.

    Args:
        count: samples.
        size: side in pixels.
        broken: names that raise SampleError when loaded.
    """

    name = "shapes"
    note = "toy"

    def __init__(self, count: int = 12, size: int = 96, broken: tuple[str, ...] = (), limit: int | None = None):
        self.count = count if limit is None else min(count, limit)
        self.size, self.broken = size, broken

    @property
    def names(self) -> list[str]:
        return [f"shape{index:03d}" for index in range(self.count)]

    def __len__(self) -> int:
        return self.count

    def digest(self) -> str:
        return f"{self.count:04x}{self.size:04x}"

    def load(self, name: str) -> Sample:
        if name in self.broken:
            raise SampleError(f"{name}: cannot be read")
        random = np.random.default_rng(int(name[-3:]))
        size = self.size
        mask = np.zeros((size, size), np.uint8)
        centre = tuple(int(v) for v in random.uniform(0.35, 0.65, 2) * size)
        axes = tuple(int(v) for v in random.uniform(0.15, 0.3, 2) * size)
        cv2.ellipse(mask, centre, axes, float(random.uniform(0, 180)), 0, 360, 1, -1)
        colours = random.uniform(0, 110, 3), random.uniform(145, 255, 3)
        image = np.where(mask[..., None] == 1, colours[0], colours[1]) + random.normal(0, 6, (size, size, 3))
        return Sample(name, np.clip(image, 0, 255).astype(np.uint8), mask)
