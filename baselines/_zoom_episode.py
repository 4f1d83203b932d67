"""What RITM, SimpleClick and FocalClick do alike around their networks: planes for an encoding, and an episode's state.

Their whole network runs at every click; what differs is where each looks, and how often.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines import _zoom
from baselines._images import mask_plane
from baselines._segmenter import NetworkSegmenter
from baselines._weights import Net
from baselines._zoom import Embedding, Kept, Point, Region


class ZoomSegmenter(NetworkSegmenter[Net]):
    """Segmenter whose encoding is the image itself."""

    def encode(self, image: np.ndarray) -> Embedding:
        """Turn (H, W, 3) uint8 RGB into planes."""
        return _zoom.keep(image)


class ZoomSession:
    """One episode: its clicks, the last probabilities, and the region that the zoom-in holds on to.

    Attributes:
        image: (1, 3, H, W) in 0..1.
        points: all clicks, in image pixels.
        previous: (1, 1, H, W) last probabilities.
        region: in force; None before the first.
    """

    def __init__(self, embedding: Embedding) -> None:
        self.image = embedding.image
        self.points: list[Point] = []
        self.previous = torch.zeros(1, 1, *self.image.shape[2:])
        self.region: Region | None = None
        self._images = Kept(self._network_image)

    def replace_prediction(self, mask: np.ndarray) -> None:
        """Take an (H, W) bool mask for the last answer."""
        self.previous = mask_plane(mask)

    def _note(self, click: Any) -> None:
        """Take in a further (y, x, positive); None: there is none."""
        if click is not None:
            self.points.append((float(click[0]), float(click[1]), bool(click[2])))

    def _network_image(self, region: Region | None) -> Tensor:
        """Return what the network gets of the image within a region, all that no click changes; None: all of it."""
        raise NotImplementedError
