"""One composed scene: photographs, silhouettes, light and a camera put together."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from harness.datasets.scenes import photos as photos
from harness.datasets.scenes.shapes import KINDS, THIN, coverage

VERSION = 1  # part of every seed and digest: raised whenever a scene would come out differently
SHORTEST, LONGEST = 640, 1536
_ASPECTS = ((4, 3), (3, 2), (1, 1), (16, 9), (3, 4), (2, 3))
_SMALL, _LARGE = 0.005, 0.6
_PLAIN_KINDS = ("blob", "creature", "leaf")
_PLAIN_SMALL, _PLAIN_LARGE = 0.04, 0.4
_CAMOUFLAGE, _PLAIN_CAMOUFLAGE = 0.75, 0.15
_GOLDEN = 0.6180339887498949  # its multiples cover 0..1 evenly, however many scenes there are
_SPLITS = {"test": 0, "train": 1}


@dataclass(frozen=True)
class Recipe:
    """What decides a scene, all of it.

    Attributes:
        split: "test" or "train": other seeds, so no scene is in both.
        seed: of the set.
        index: of the scene.
        longest: side in pixels, or None for one drawn between 640 and 1536.
        root: a folder of the user's photographs, or None for the ones of scikit-image and scikit-learn.
        plain: compact silhouettes without holes, 4 to 40 % of the image, that keep their own colour.
    """

    split: str
    seed: int
    index: int
    longest: int | None = None
    root: str | None = None
    plain: bool = False

    @property
    def kind(self) -> str:
        """The silhouette of the object."""
        kinds = _PLAIN_KINDS if self.plain else tuple(KINDS)
        return kinds[self.index % len(kinds)]

    @property
    def share(self) -> float:
        """The wanted object share of the image: log-uniform from 0.5 to 60 % (plain: 4 to 40), less for thin kinds."""
        turn = (0.9 + self.index * _GOLDEN + self.seed * 0.7548776662466927) % 1
        if self.plain:
            return float(_PLAIN_SMALL * (_PLAIN_LARGE / _PLAIN_SMALL) ** turn)
        largest = THIN.get(self.kind, _LARGE)
        return float(_SMALL * (largest / _SMALL) ** turn)


def compose(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W, 3) uint8 RGB and the exact (H, W) uint8 mask (1 where the object covers half a pixel or more)."""
    rng = np.random.default_rng([VERSION, _SPLITS[recipe.split], recipe.seed, recipe.index])
    height, width = _shape(recipe.longest, rng)
    names = photos.own_photographs(recipe.root) if recipe.root else None
    background, filling, other = _three(names, rng)
    canvas = photos.crop(photos.photograph(background, recipe.root), height, width, 0, rng)

    for _ in range(int(rng.integers(0, 3))):  # things that are not the object, some of its own material
        material = filling if rng.uniform() < 0.5 else other
        kind = list(KINDS)[int(rng.integers(len(KINDS)))]
        alpha = coverage(kind, height, width, float(rng.uniform(0.005, 0.05)), rng)
        canvas = _place(canvas, _fill(material, recipe.root, canvas, alpha, rng), alpha, rng)

    alpha = coverage(recipe.kind, height, width, recipe.share, rng)
    camouflage = _PLAIN_CAMOUFLAGE if recipe.plain else _CAMOUFLAGE
    canvas = _place(canvas, _fill(filling, recipe.root, canvas, alpha, rng, camouflage), alpha, rng)

    if rng.uniform() < 0.4:  # something in front of the object, where enough of it stays visible
        kind = ("wires", "blob", "letters")[int(rng.integers(3))]
        front = coverage(kind, height, width, float(rng.uniform(0.005, 0.03)), rng)
        visible = alpha * (1 - front)
        if (visible >= 0.5).sum() > 0.6 * (alpha >= 0.5).sum():
            canvas = _place(canvas, _fill(other, recipe.root, canvas, front, rng), front, rng)
            alpha = visible
    return _camera(canvas, rng), (alpha >= 0.5).astype(np.uint8)


def _shape(longest: int | None, rng: np.random.Generator) -> tuple[int, int]:
    drawn = int(rng.integers(SHORTEST // 32, LONGEST // 32 + 1)) * 32
    side = longest or drawn
    across, down = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    scale = side / max(across, down)
    return max(1, round(down * scale)), max(1, round(across * scale))


def _three(names: tuple[str, ...] | None, rng: np.random.Generator) -> tuple[str, str, str]:
    """Names of the photographs of background, object and other things; background and object differ."""
    backgrounds, fillings = (names, names) if names else (photos.BACKGROUNDS, photos.FILLINGS)
    background = backgrounds[int(rng.integers(len(backgrounds)))]
    rest = [name for name in fillings if name != background]
    return background, rest[int(rng.integers(len(rest)))], rest[int(rng.integers(len(rest)))]


def _fill(
    name: str,
    root: str | None,
    canvas: np.ndarray,
    alpha: np.ndarray,
    rng: np.random.Generator,
    camouflage: float = _CAMOUFLAGE,
) -> np.ndarray:
    """Return the material of a thing, (H, W, 3): a photograph, nearer in colour to what it covers, with light on it."""
    height, width = alpha.shape
    piece = photos.crop(photos.photograph(name, root), height, width, float(rng.uniform(0.8, 2.2)), rng)
    inside = alpha > 0.5
    if inside.any():
        covered, own = canvas[inside].mean(axis=0), piece[inside].mean(axis=0)
        piece += (covered - own) * np.float32(rng.uniform(0, camouflage))
    return np.clip(piece * _light(alpha, rng)[..., None], 0, 255)


def _light(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the brightness (H, W) of a rounded body lit from one side."""
    height, width = alpha.shape
    scale = 256 / max(height, width)
    small = cv2.resize(
        alpha, (max(2, round(width * scale)), max(2, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    depth = cv2.distanceTransform((small > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    relief = cv2.GaussianBlur(np.sqrt(depth), (0, 0), 3)
    slope_y, slope_x = np.gradient(relief)
    turn = rng.uniform(0, 2 * np.pi)
    lit = 1 + rng.uniform(0.2, 0.9) * (slope_x * np.cos(turn) + slope_y * np.sin(turn)) + rng.uniform(-0.15, 0.1)
    return cv2.resize(np.clip(lit, 0.35, 1.6).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def _place(canvas: np.ndarray, material: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay a thing over the canvas, perhaps with a soft shadow beside it."""
    strength = float(rng.uniform(0.2, 0.55)) if rng.uniform() < 0.6 else 0.0
    away = rng.uniform(-0.02, 0.02, 2) * max(alpha.shape)
    if strength:
        # A shadow is smooth: a quarter of the size is enough for it.
        height, width = alpha.shape
        small = cv2.resize(alpha, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
        move = np.array([[1, 0, away[0] / 4], [0, 1, away[1] / 4]])
        small = cv2.warpAffine(small, move, small.shape[::-1])
        small = cv2.GaussianBlur(small, (0, 0), max(1.0, 0.002 * max(height, width)))
        shadow = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        canvas = canvas * (1 - np.float32(strength) * shadow)[..., None]
    return canvas + (material - canvas) * alpha[..., None]


def _camera(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uneven light, a little blur, sensor noise."""
    height, width = canvas.shape[:2]
    corners = rng.uniform(0.75, 1.15, (2, 2)).astype(np.float32)
    canvas = canvas * cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    sigma = float(rng.uniform(0.3, 1.1)) * max(height, width) / 1024
    canvas = cv2.GaussianBlur(canvas, (0, 0), max(sigma, 0.25))
    grain = float(rng.uniform(1, 7))
    canvas = canvas + rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(grain)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
