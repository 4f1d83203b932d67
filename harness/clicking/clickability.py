"""Clickability maps: how likely people click each pixel of an error region, and clicks drawn from bands of that
probability (RClicks, Antonov et al., NeurIPS 2024).

A map is a callable `map(image, truth, error) -> (H, W)` of numbers: image (H, W, 3) uint8 RGB, truth (H, W) uint8 (1
object, 0 background, 255 ignore), error (H, W) uint8 (1 in the chosen error region). The two here need no weights, and
are poor imitations of people: by the published Kolmogorov-Smirnov measure on TETRIS-Val (1 would be perfect)
`uniform` has 0.10, `distance` 0.14, the published network 0.55. Every table therefore says which map was used.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from harness.errors import UserError, near_miss

Map = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def uniform(image: np.ndarray, truth: np.ndarray, error: np.ndarray) -> np.ndarray:
    """1 everywhere in the error region. All ten bands of it are one distribution."""
    return (error > 0).astype(np.float64)


def distance(image: np.ndarray, truth: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Exact Euclidean distance to the nearest pixel outside the error region, divided by the largest.

    The border of the image is no end of the region. Where the whole image is wrong, it is 1 everywhere.
    """
    error = np.ascontiguousarray(error, dtype=np.uint8)
    if error.all():
        return np.ones(error.shape)
    exact = cv2.distanceTransform(error, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Squares are whole numbers; OpenCV's last bit may depend on an address (docs/protocols.md, "The next click").
    depth = np.sqrt(np.rint(np.square(exact, dtype=np.float64)))
    return depth / max(float(depth.max(initial=0)), 1.0)


def box_of(error: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the error region with one pixel around it, as far as the image reaches.

    `MAPS` give the same there as on the whole image: of all pixels outside the region's box, the nearest to a pixel
    inside lies on the ring around it.
    """
    left, top, width, height = cv2.boundingRect(error)
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)


MAPS: dict[str, Map] = {"distance": distance, "uniform": uniform}


def as_map(value: Any) -> tuple[Map, dict[str, Any] | str]:
    """A map and what a protocol's record says of it, from a name or from what `_target_` built.

    Raises:
        UserError: an unknown name, no callable, or one that does not say what it is.
    """
    if isinstance(value, str):
        if value not in MAPS:
            raise UserError(
                f"protocol.annotator.map={value!r}. {near_miss(value, MAPS)} A map of your own: "
                "protocol.annotator.map={_target_: module.Class}."
            )
        return MAPS[value], value
    if not callable(value):
        raise UserError(
            f"protocol.annotator.map is {type(value).__name__}, which cannot be called. Give a name "
            f"({', '.join(MAPS)}) or a _target_ that builds map(image, truth, error) -> (H, W) numbers."
        )
    if callable(getattr(value, "record", None)):
        return value, value.record()
    inner = value.func if isinstance(value, functools.partial) else value
    if not inspect.isroutine(inner):
        raise UserError(
            f"protocol.annotator.map {type(value).__name__} has no record(), so that clicks drawn from it could not be "
            'told from those of another map. Let it return its name and settings: {"name": "…", "weights": "…"}.'
        )
    settings = dict(value.keywords) if isinstance(value, functools.partial) else {}
    return value, {"name": f"{inner.__module__}.{inner.__qualname__}", **settings}


@dataclass(frozen=True)
class Weighted:
    """Pixels that may be clicked, with the clickability of each.

    Attributes:
        flat: (n,) indices into the image, row-major.
        values: (n,) float64 above 0.
        ascending: (n,) the same values sorted; `mass`: their cumulated sum.
    """

    flat: np.ndarray
    values: np.ndarray
    ascending: np.ndarray
    mass: np.ndarray

    @classmethod
    def of(
        cls,
        field: np.ndarray,
        error: np.ndarray,
        clicked: Sequence[tuple[int, int]],
        origin: tuple[int, int] = (0, 0),
        width: int | None = None,
    ) -> Weighted:
        """What remains of a scaled (h, w) map inside the (h, w) error region, without pixels that were clicked.

        Args:
            clicked: (y, x) in the image.
            origin: place in the image of the first pixel of both; `width`: of the image, None: w.
        """
        width = error.shape[1] if width is None else width
        inside = np.flatnonzero(error)
        values = field.ravel()[inside]
        rows, columns = np.divmod(inside, error.shape[1])
        flat = (rows + origin[0]) * width + columns + origin[1]
        kept = values > 0
        for y, x in clicked:
            kept &= flat != y * width + x
        flat, values = flat[kept], values[kept]
        ascending = np.sort(values)
        return cls(flat, values, ascending, np.cumsum(ascending))

    def band(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Pixels whose values hold the part [low, high] of the probability, from the least likely (0) up to 1.

        Both ends belong to the band, so that pixels of a boundary value are in two bands.

        Returns:
            (n,) flat indices and (n,) values.
        """
        if not len(self.mass):
            return self.flat, self.values
        total, last = self.mass[-1], len(self.mass) - 1
        at_least = self.ascending[min(int(np.searchsorted(self.mass, low * total, side="left")), last)]
        at_most = self.ascending[min(int(np.searchsorted(self.mass, high * total, side="right")), last)]
        kept = (self.values >= at_least) & (self.values <= at_most)
        return self.flat[kept], self.values[kept]

    def draw(self, low: float, high: float, random: np.random.Generator) -> int | None:
        """Flat index of one pixel of the band, drawn in proportion to the values; None: there is nothing to draw."""
        flat, values = self.band(low, high)
        if not len(flat):
            return None
        mass = np.cumsum(values)
        place = int(np.searchsorted(mass, random.random() * mass[-1], side="right"))
        return int(flat[min(place, len(flat) - 1)])


def scaled(field: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A map's answer brought to 0..1 over the image, (H, W) float64; one without differences is 1 everywhere.

    Raises:
        ValueError: it is no (H, W) array of finite numbers.
    """
    values = np.asarray(field)
    if values.shape != shape or values.dtype.kind not in "fiub":
        raise ValueError(
            f"clickability map {name} returned {values.dtype} of shape {values.shape}; it must return numbers of "
            f"shape {shape}, one per pixel"
        )
    values = values.astype(np.float64, copy=False)
    least, most = float(values.min()), float(values.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError(f"clickability map {name} returned numbers that are not finite")
    if most == least:
        return np.ones(shape)
    return (values - least) / (most - least) if (least, most) != (0.0, 1.0) else values
