"""Tiny masks in every kind of file seen in the wild, all of the same object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SHAPE = (12, 16)


def object_mask() -> np.ndarray:
    """(12, 16) bool: a block, and a pixel in the corner."""
    mask = np.zeros(SHAPE, bool)
    mask[3:8, 4:11] = True
    mask[0, 0] = True
    return mask


def image(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(H, W, 3) uint8 RGB noise."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def save_image(path: Path, seed: int = 0, shape: tuple[int, int] = SHAPE) -> None:
    """Write an image; a JPEG keeps its size, not its values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image(seed, shape)).save(path)


def save_values(path: Path, values: np.ndarray) -> None:
    """Write (H, W) uint8 values as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def _palette(mask: np.ndarray) -> Image.Image:
    made = Image.fromarray(mask.astype(np.uint8), mode="P")
    made.putpalette([0, 0, 0, 128, 0, 0] + [7] * 762)
    return made


def _white_palette(mask: np.ndarray) -> Image.Image:
    made = Image.fromarray(mask.astype(np.uint8), mode="P")
    made.putpalette([0, 0, 0, 255, 255, 255] + [7] * 762)
    return made


def _rgba(mask: np.ndarray) -> Image.Image:
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[..., :3] = 255 * mask[..., None]
    rgba[..., 3] = 255
    return Image.fromarray(rgba, "RGBA")


def _only_opacity(mask: np.ndarray) -> Image.Image:
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[..., 3] = 255 * mask
    return Image.fromarray(rgba, "RGBA")


def _one_channel_of_rgb(mask: np.ndarray) -> Image.Image:
    rgb = np.zeros((*mask.shape, 3), np.uint8)
    rgb[..., 2] = 200 * mask
    return Image.fromarray(rgb, "RGB")


def _grey_alpha(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([255 * mask, np.full(mask.shape, 255)]).astype(np.uint8), "LA")


# kind -> (file ending, writer); each reads as the object under "any channel above 0"
KINDS: dict[str, tuple[str, Callable[[np.ndarray], Image.Image]]] = {
    "0/1": (".png", lambda m: Image.fromarray(m.astype(np.uint8))),
    "0/255": (".png", lambda m: Image.fromarray(255 * m.astype(np.uint8))),
    "bilevel": (".png", lambda m: Image.fromarray(m)),
    "bilevel tiff": (".tif", lambda m: Image.fromarray(m)),
    "bmp": (".bmp", lambda m: Image.fromarray(255 * m.astype(np.uint8))),
    "palette": (".png", _palette),
    "white palette": (".png", _white_palette),
    "gif": (".gif", _white_palette),
    "rgb": (".png", lambda m: Image.fromarray(255 * m.astype(np.uint8)).convert("RGB")),
    "rgb of one channel": (".png", _one_channel_of_rgb),
    "rgba": (".png", _rgba),
    "rgba, only opacity": (".png", _only_opacity),
    "grey with opacity": (".png", _grey_alpha),
    "16 bits": (".png", lambda m: Image.fromarray(65535 * m.astype(np.uint16))),
    "16 bits, small": (".png", lambda m: Image.fromarray(m.astype(np.uint16))),
    "32-bit float": (".tif", lambda m: Image.fromarray(m.astype(np.float32))),
}
