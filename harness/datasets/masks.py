"""Reads images and masks of every kind seen in the wild, with errors that name the file and the fix."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from harness.datasets.problems import MissingFile, SizeMismatch, Unreadable

Image.MAX_IMAGE_PIXELS = None  # annotated photographs may be large; Pillow would take them for an attack


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB; turned upright if the file says so, as the field's loaders do (OpenCV).

    Raises:
        MissingFile, Unreadable: the file is missing or cannot be decoded.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such image; restore it, or remove its mask.")
    # Through bytes, since OpenCV cannot open every path on every system.
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if decoded is None:
        raise Unreadable(
            f"{path}: cannot be decoded as an image (damaged or not an image); fetch it again or remove it."
        )
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def read_values(path: Path, indices: bool = False) -> np.ndarray:
    """Values of a mask file as stored: (H, W), or (H, W, 3) for colours that differ between channels.

    Bilevel files give 0 and 255. Palette files give their colours, or with `indices` the indices. An opacity
    channel is dropped, unless the colours are constant and it alone carries the mask. 16 bits are scaled to 8
    unless `indices`.

    Raises:
        MissingFile, Unreadable: the file is missing or cannot be decoded.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such mask; add it (same stem as the image), or remove the image.")
    try:
        with Image.open(path) as opened:
            opened.load()
            return _values(opened, indices)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise Unreadable(f"{path}: cannot be decoded as a mask ({error}); fetch or export it again.") from error


def _values(opened: Image.Image, indices: bool) -> np.ndarray:
    mode = opened.mode
    if mode == "1":
        return np.asarray(opened.convert("L"))
    if mode == "P":
        values = np.asarray(opened) if indices else np.asarray(opened.convert("RGB"))
    elif mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        values = _without_opacity(np.asarray(opened.convert("RGBA")))
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        values = np.asarray(opened.convert("RGB"))
    else:
        values = np.asarray(opened)
    if values.dtype.kind == "f":
        values = np.rint(values * (255 if values.max(initial=0) <= 1 else 1)).astype(np.int64)
    if not indices and values.dtype != np.uint8 and values.max(initial=0) > 255:
        values = np.ceil(values.astype(np.float64) / 257)  # 16 bits; ceil: what is above 0 stays above 0
    if values.ndim == 3 and (values == values[:, :, :1]).all():
        values = values[:, :, 0]
    return values.astype(np.uint8) if values.max(initial=0) <= 255 and values.min(initial=0) >= 0 else values


def _without_opacity(rgba: np.ndarray) -> np.ndarray:
    colours, opacity = rgba[:, :, :3], rgba[:, :, 3]
    flat = (colours == colours[:1, :1]).all()
    return opacity if flat and (opacity != opacity[0, 0]).any() else colours


@dataclass(frozen=True)
class Rule:
    """How the values of a mask file become object, background and ignored.

    Attributes:
        above: object where any channel is greater.
        ignore: value that is ignored, or None.
        equals: object exactly where the value is this one, instead of `above`.
        indices: palette files are read as their indices, not as colours.
    """

    above: int = 0
    ignore: int | None = None
    equals: int | None = None
    indices: bool = False

    def record(self) -> dict[str, Any]:
        """Machine-readable form; part of the digest."""
        return asdict(self)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """(H, W) uint8: 1 object, 0 background, 255 ignore, from the values of `read_values`."""
        strongest = values.max(axis=2) if values.ndim == 3 else values
        object_ = strongest == self.equals if self.equals is not None else strongest > self.above
        mask = object_.astype(np.uint8)
        if self.ignore is not None:
            mask[strongest == self.ignore] = 255
        return mask

    def __str__(self) -> str:
        object_ = f"value {self.equals}" if self.equals is not None else f"above {self.above}"
        return f"object: {object_}" + (f", ignored: {self.ignore}" if self.ignore is not None else "")


def check_size(image: np.ndarray, mask: np.ndarray, image_path: Path, mask_path: Path) -> None:
    """Raise SizeMismatch unless mask and image have the same height and width."""
    if image.shape[:2] == mask.shape[:2]:
        return
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape[:2]
    hint = "one of the two is turned (EXIF orientation?): save both upright"
    if (height, width) != (mask_width, mask_height):
        hint = "export the mask at the image's size (nearest neighbour), or fetch the matching pair"
    raise SizeMismatch(
        f"{mask_path}: mask is {mask_width}x{mask_height}, image {image_path.name} is {width}x{height}; {hint}."
    )
