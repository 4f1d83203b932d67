"""The photographs that scikit-image and scikit-learn carry inside their wheels, and crops of them."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np

from harness.errors import UserError

# Only files inside the wheels: scikit-image fetches its other images from the network.
_SKIMAGE = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
    "galaxies": "hubble_deep_field.jpg",
    "tissue": "ihc.png",
    "retina": "retina.jpg",
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "moon": "moon.png",
}
_SKLEARN = {"temple": "china.jpg", "dahlia": "flower.jpg"}

BACKGROUNDS = (
    "temple",
    "dahlia",
    "coffee",
    "cat",
    "motorcycle",
    "rocket",
    "astronaut",
    "grass",
    "gravel",
    "brick",
)
FILLINGS = (*BACKGROUNDS, "galaxies", "tissue", "retina", "moon")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@functools.lru_cache(maxsize=32)
def photograph(name: str, root: str | None = None) -> np.ndarray:
    """Return a photograph as (H, W, 3) uint8 RGB: one of the wheels', or the file `name` of the folder `root`.

    Raises:
        UserError: the file is absent or unreadable.
    """
    path = Path(root) / name if root is not None else inside_wheel(name)
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        fix = "reinstall it with the project's constraints.txt" if root is None else "remove it or replace it"
        raise UserError(f"photograph {path} for dataset scenes is missing or unreadable; {fix}")
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    pixels.setflags(write=False)
    return pixels


def own_photographs(root: str) -> tuple[str, ...]:
    """Names of the image files of a user's folder.

    Raises:
        UserError: there are fewer than two.
    """
    folder = Path(root)
    files = folder.iterdir() if folder.is_dir() else ()
    names = tuple(sorted(file.name for file in files if file.suffix.lower() in _SUFFIXES))
    if len(names) < 2:
        raise UserError(
            f"dataset.root={root}: {len(names)} photographs; dataset scenes composes at least two image files "
            f"of one folder ({', '.join(sorted(_SUFFIXES))}), or those of scikit-image with dataset.root=null"
        )
    return names


def crop(pixels: np.ndarray, height: int, width: int, zoom: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random (height, width, 3) float32 0..255 piece at `zoom` output pixels per photograph pixel.

    The photograph is continued by reflection where it ends; a `zoom` of 0 makes it just cover the piece.
    """
    rows, columns = pixels.shape[:2]
    zoom = zoom or 1.0001 * max(height / rows, width / columns)  # a hair more: no rounding to the outside
    spare_y, spare_x = rows - height / zoom, columns - width / zoom
    top = rng.uniform(0, spare_y) if spare_y >= 0 else rng.uniform(0, rows)
    left = rng.uniform(0, spare_x) if spare_x >= 0 else rng.uniform(0, columns)
    columns_at = _reflected(left + np.arange(width) / zoom, columns)
    rows_at = _reflected(top + np.arange(height) / zoom, rows)
    if rng.integers(2):
        columns_at = columns_at[::-1]
    map_x = np.broadcast_to(columns_at, (height, width)).astype(np.float32)
    map_y = np.broadcast_to(rows_at[:, None], (height, width)).astype(np.float32)
    return cv2.remap(pixels, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def _reflected(at: np.ndarray, size: int) -> np.ndarray:
    """Coordinates folded back into 0..size-1. OpenCV's own reflection smears the last pixel far outside the picture."""
    last = size - 1
    return last - np.abs(last - at % (2 * last))


def inside_wheel(name: str) -> Path:
    """Path of a photograph in the installed package that carries it."""
    if name in _SKIMAGE:
        import skimage

        return Path(skimage.__file__).parent / "data" / _SKIMAGE[name]
    import sklearn

    return Path(sklearn.__file__).parent / "datasets" / "images" / _SKLEARN[name]
