"""One image with one object mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One image with one object mask.

    Attributes:
        name: unique within its data set, stable between runs.
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8: 1 object, 0 background, 255 ignore.
        source: name of the image, the same for several objects of one image, which statistics take as one draw; "":
            no other sample shows this image.
        start: (H, W) bool mask that an episode begins from under `protocol.start=mask`; None: there is none.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    source: str = ""
    start: np.ndarray | None = None

    @property
    def object_share(self) -> float:
        """Object pixels as a share of all pixels of the image, 0..1."""
        return float((self.mask == 1).mean())
