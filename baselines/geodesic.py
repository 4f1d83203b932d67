"""Geodesic segmentation by clicks (after Bai and Sapiro 2007): no weights, real numbers.

A pixel belongs to the kind of click that is nearer on a path where every change of colour likelihood costs. The colour
likelihoods come from the clicked places; the frame of the image is a weak background until clicks say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from skimage.graph import MCP_Geometric

from baselines._classical import Classical, shrink, working_place
from baselines._images import check_image

_FLOOR = 1e-3  # keeps likelihoods of colours that nobody clicked apart from 0


@dataclass(frozen=True)
class _Photo:
    codes: np.ndarray  # (h, w) int: colour bin of each working pixel
    edges: np.ndarray  # (h, w) float64: colour change, about 0..1
    shape: tuple[int, int]  # of the image


class Geodesic(Classical):
    """Nearest kind of click by geodesic distance.

    Args:
        size: working longest side in pixels.
        bins: colour bins per Lab channel.
        radius: of the disc around a click whose colours are learned, in working pixels.
        length: cost of a pixel without any change; larger values prefer short paths over even ones.
        edge: cost of a full change of colour beside that of a full change of likelihood.
        frame: distance from the outside to the image's first pixels; 0 makes the frame as certain as a click.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        size: int = 256,
        bins: int = 16,
        radius: float = 4.0,
        length: float = 0.02,
        edge: float = 0.5,
        frame: float = 4.0,
    ):
        if size < 16:
            raise ValueError(f"size={size}: the working longest side must be at least 16 pixels")
        if not 2 <= bins <= 64:
            raise ValueError(f"bins={bins}: 2 to 64 colour bins per channel")
        if radius < 1 or length <= 0 or min(edge, frame) < 0:
            raise ValueError(
                f"radius={radius}, length={length}, edge={edge}, frame={frame}: radius must be at least 1, "
                "length more than 0, edge and frame 0 or more"
            )
        self.size, self.bins, self.radius = size, bins, radius
        self.length, self.edge, self.frame = length, edge, frame
        self.encoder_key = f"geodesic/{size}/{bins}"

    def encode(self, image: np.ndarray) -> _Photo:
        """Shrink (H, W, 3) uint8 RGB to the working size, and find its colour bins and edges."""
        height, width = check_image(image).shape[:2]
        lab = cv2.cvtColor(shrink(image, self.size, least=2), cv2.COLOR_RGB2LAB)
        binned = (lab.astype(np.int64) * self.bins) // 256
        codes = (binned[..., 0] * self.bins + binned[..., 1]) * self.bins + binned[..., 2]
        smooth = cv2.GaussianBlur(lab.astype(np.float32), (0, 0), 1.0)
        edges = np.sqrt(sum(_gradient2(smooth[..., channel]) for channel in range(3))) / 64
        return _Photo(codes, np.minimum(edges, 1.0), (height, width))

    def start(self, embedding: _Photo) -> _Session:
        """Begin an episode on an image from `encode`."""
        return _Session(self, embedding)


class _Session:
    def __init__(self, owner: Geodesic, photo: _Photo):
        self._owner, self._photo = owner, photo
        self._clicks: list[tuple[float, float, bool]] = []

    def click(self, click: Any) -> np.ndarray:
        """Return (H, W) float32 in -1..1: relative difference of the distances to background and object."""
        (height, width), (h, w) = self._photo.shape, self._photo.codes.shape
        if click is not None:
            y, x = working_place(click, self._photo.shape, (h, w))
            self._clicks.append((min(max(y, 0), h - 1), min(max(x, 0), w - 1), bool(click.positive)))
        if not any(self._kinds().values()):
            return np.full((height, width), -1, dtype=np.float32)
        likelihood = self._likelihood()
        change = np.sqrt(_gradient2(likelihood.astype(np.float32)))
        cost = self._owner.length + change + self._owner.edge * self._photo.edges
        # Leaving one's own colours costs, staying in them does not.
        to_object = self._distance(cost + (1 - likelihood), True)
        to_background = self._distance(cost + likelihood, False)
        scores = (to_background - to_object) / (to_background + to_object + 1e-9)
        return cv2.resize(scores.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)

    def _distance(self, cost: np.ndarray, positive: bool) -> np.ndarray:
        """Return (h, w) distances from the clicks of a kind; for the background also from outside the image."""
        # One ring around the image; a step costs the mean of its two pixels, so entering costs half the ring's value.
        ring = 2 * self._owner.frame if not positive else np.inf
        seeds = [(y + 1, x + 1) for (y, x), sign in self._kinds().items() if sign == positive]
        if not positive:
            h, w = cost.shape
            seeds += [(i, j) for i in range(h + 2) for j in (0, w + 1)]
            seeds += [(i, j) for j in range(1, w + 1) for i in (0, h + 1)]
        distances, _ = MCP_Geometric(np.pad(cost, 1, constant_values=ring)).find_costs(seeds)
        return distances[1:-1, 1:-1]

    def _kinds(self) -> dict[tuple[int, int], bool]:
        """Return the last kind of click at each clicked working pixel."""
        return {(round(y), round(x)): positive for y, x, positive in self._clicks}

    def _likelihood(self) -> np.ndarray:
        """Return (h, w) probability of the object by colour alone."""
        h, w = self._photo.codes.shape
        rows, columns = np.ogrid[:h, :w]
        near = {True: np.zeros((h, w)), False: np.zeros((h, w))}
        for y, x, positive in self._clicks:
            near[positive] += (rows - y) ** 2 + (columns - x) ** 2 <= self._owner.radius**2
        frame = np.ones((h, w))
        frame[2:-2, 2:-2] = 0
        # The frame counts as much as one click, so that it fades among real ones.
        near[False] += frame * (np.pi * self._owner.radius**2 / frame.sum())
        learned = {sign: self._histogram(weights) for sign, weights in near.items()}
        total = learned[True] + learned[False]
        return (learned[True] / total)[self._photo.codes]

    def _histogram(self, weights: np.ndarray) -> np.ndarray:
        bins = self._owner.bins
        counts: np.ndarray = np.bincount(self._photo.codes.ravel(), weights.ravel(), bins**3).reshape(bins, bins, bins)
        # Neighbouring bins are similar colours; a triangle over them stands for the noise of a photograph.
        for axis in range(3):
            counts = np.moveaxis(counts, axis, 0)
            padded = np.pad(counts, ((1, 1), (0, 0), (0, 0)))
            counts = np.moveaxis((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 0, axis)
        return (counts / max(counts.sum(), 1e-12)).ravel() + _FLOOR / bins


def _gradient2(plane: np.ndarray) -> np.ndarray:
    across, down = cv2.Sobel(plane, cv2.CV_32F, 1, 0) / 4, cv2.Sobel(plane, cv2.CV_32F, 0, 1) / 4
    return (across.astype(np.float64)) ** 2 + down.astype(np.float64) ** 2
