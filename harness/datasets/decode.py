"""Opens image and mask files: size from the header first, upright, with errors that name the file and the fix."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from harness.datasets.problems import MissingFile, Unreadable

MAX_PIXELS = 1 << 28
"""Larger files are refused before anything is decoded: 16384 x 16384, 0.8 GB as RGB."""
_ORIENTATION = 0x0112
_WITH_OPACITY = ("LA", "PA", "RGBA", "La", "RGBa")
_UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, TypeError, IndexError, EOFError, MemoryError)

Image.MAX_IMAGE_PIXELS = None  # annotated photographs may be large; the limit above is ours, and says so in one line


@dataclass(frozen=True)
class Header:
    """What a file says of itself before it is decoded.

    Attributes:
        width, height: pixels, as stored.
        mode: Pillow's name of the pixel format.
        raw: Pillow's name of the pixel format in the file, such as `L;4` or `RGB;16B`.
        orientation: EXIF orientation, 1 (upright) to 8.
        transparent: whether it has an opacity channel, or names a colour that is transparent.
    """

    width: int
    height: int
    mode: str
    raw: str = ""
    orientation: int = 1
    transparent: bool = False


@dataclass(frozen=True)
class Stored:
    """A decoded mask file, upright, with the very numbers that the file holds.

    Attributes:
        values: (H, W) or (H, W, 3): grey values, palette indices or colours.
        palette: (256, 3) uint8 colours of the indices; None where there is no palette.
        opacity: (H, W) from 0 (transparent); None where it is the same everywhere.
        bits: of one value in the file: 1, 2, 4, 8, 16, 32 (whole numbers) or 0 (floating point).
    """

    values: np.ndarray
    palette: np.ndarray | None
    opacity: np.ndarray | None
    bits: int


def header(path: Path) -> Header | None:
    """What Pillow reads of a file without decoding it; None where it does not know the format."""
    try:
        with Image.open(path) as opened:
            exif = _exif_of_png(path) if opened.format == "PNG" else opened.getexif()
            orientation = _orientation(exif)
            transparent = opened.mode in _WITH_OPACITY or "transparency" in opened.info
            return Header(opened.width, opened.height, opened.mode, _rawmode(opened), orientation, transparent)
    except Exception:  # a damaged header can raise anything; whoever decodes the file says what is wrong
        return None


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB; turned upright if the file says so, as the field's loaders do (OpenCV).

    Raises:
        MissingFile, Unreadable: the file is missing, too large, or cannot be decoded.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such image; restore it, or remove its mask.")
    try:
        about = _checked(path)
        # Through bytes, since OpenCV cannot open every path on every system.
        decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    except (cv2.error, OSError, MemoryError) as error:
        raise Unreadable(f"{path}: cannot be decoded as an image ({_short(error)}); save it anew.") from error
    if decoded is None:
        why = "damaged or not an image"
        if about is not None and about.mode == "F":
            why = "its pixels are floating-point numbers: save it with 8 bits"
        raise Unreadable(f"{path}: cannot be decoded as an image ({why}); fetch it again or remove it.")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def read_stored(path: Path) -> Stored:
    """A mask file as it is stored, turned as its EXIF orientation says; of an animation the first frame.

    Raises:
        MissingFile, Unreadable: the file is missing, too large, or cannot be decoded.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such mask; add it (same stem as the image), or remove the image.")
    try:
        _checked(path)
        with Image.open(path) as opened:
            raw = _rawmode(opened)
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            turns = _orientation(opened.getexif())
            if ";16" in raw and upright.mode in ("RGB", "RGBA", "LA"):  # Pillow keeps only their upper 8 bits
                return _sixteen_bits(path, turns)
            return _stored(upright, raw)
    except _UNREADABLE as error:
        raise Unreadable(f"{path}: cannot be decoded as a mask ({_short(error)}); fetch or export it again.") from error


def _orientation(exif: Image.Exif) -> int:
    value = exif.get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif_of_png(path: Path) -> Image.Exif:
    """Pillow would decode the whole file, since the chunk may stand at its end."""
    exif = Image.Exif()
    with open(path, "rb") as file:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            if kind == b"eXIf":
                exif.load(file.read(length))
                break
            file.seek(length + 4, 1)
    return exif


def _checked(path: Path) -> Header | None:
    about = header(path)
    if about is not None and about.width * about.height > MAX_PIXELS:
        raise Unreadable(
            f"{path}: {about.width}x{about.height} px, more than the {MAX_PIXELS} pixels that are read; "
            "shrink it together with its image or mask, or cut it into tiles."
        )
    return about


def _rawmode(opened: Image.Image) -> str:
    """The pixel format in the file, such as `L;4` or `RGB;16B`; "" where Pillow does not tell."""
    tiles = getattr(opened, "tile", None) or []
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, (tuple, list)) and arguments else arguments
    return first if isinstance(first, str) else ""


def _stored(opened: Image.Image, raw: str) -> Stored:
    mode = opened.mode
    opacity = None
    if mode in _WITH_OPACITY or "transparency" in opened.info:
        alpha = np.asarray(opened.convert("RGBA"))[:, :, 3]
        opacity = alpha if alpha.size and (alpha != alpha.flat[0]).any() else None
    if mode == "1":
        return Stored(np.asarray(opened).astype(np.uint8), None, opacity, 1)
    if mode == "P":
        colours = np.asarray(opened.getpalette("RGB"), np.uint8)
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(colours) // 3] = colours.reshape(-1, 3)
        return Stored(np.asarray(opened), palette, opacity, 8)
    if mode in ("LA", "La"):
        return Stored(np.asarray(opened.convert("LA"))[:, :, 0], None, opacity, 8)
    if mode in ("PA", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        return Stored(np.asarray(opened.convert("RGBA").convert("RGB")), None, opacity, 8)
    values = np.asarray(opened)
    if mode == "L" and raw.startswith(("L;2", "L;4")):  # Pillow spreads them over 0..255
        bits = int(raw[2])
        return Stored(values // (255 // (2**bits - 1)), None, opacity, bits)
    bits = 0 if values.dtype.kind == "f" else 8 * values.dtype.itemsize
    return Stored(values, None, opacity, bits)


def _sixteen_bits(path: Path, orientation: int) -> Stored:
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.ndim != 3:
        raise ValueError("16 bits a channel: save it with 8")
    turned = turn(decoded, orientation)
    alpha = turned[:, :, -1] if turned.shape[2] in (2, 4) else None
    colours = turned[:, :, :1] if turned.shape[2] == 2 else turned[:, :, 2::-1]
    opacity = alpha if alpha is not None and (alpha != alpha.flat[0]).any() else None
    return Stored(np.ascontiguousarray(colours), None, opacity, 16)


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns as EXIF orientation 1..8 says (Exif 3.0, tag 274)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
