"""What is clicked: samples of a data set, or the images of a folder, which have no truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from harness.clicking.loop import Truth
from harness.clicking.recorded import names_of
from harness.datasets.decode import read_image
from harness.datasets.pairs import files_in
from harness.errors import SampleError, UserError, near_miss
from harness.sample import Sample
from harness.text import sample_name

LONGEST_SHOWN = 3072
"""Pixels of the longest side that reach the browser; models get the whole image."""
MOST_PIXELS = 64 << 20
"""Larger images are refused: several models would need tens of gigabytes for one."""


@dataclass(frozen=True)
class Picture:
    """One image with the object that is to be clicked, if it is known.

    Attributes:
        name: of the sample, unique in its collection.
        image, object: its columns in the records.
        pixels: (H, W, 3) uint8 RGB.
        truth: scorers of the sample's mask; None: nobody knows the object.
    """

    name: str
    image: str
    object: str
    pixels: np.ndarray
    truth: Truth | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width as the browser gets it."""
        return shown_size(self.size)

    @cached_property
    def file(self) -> bytes:
        """The image for the browser, as a PNG, or a JPEG where that would take seconds."""
        height, width = self.shown_size
        shown = self.pixels
        if (height, width) != self.size:
            shown = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)
        planes = cv2.cvtColor(shown, cv2.COLOR_RGB2BGR)
        if height * width > 1 << 20:
            return bytes(cv2.imencode(".jpg", planes, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
        return bytes(cv2.imencode(".png", planes, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


class Pictures(Protocol):
    """A collection of pictures."""

    label: str
    names: Sequence[str]

    def load(self, name: str) -> Picture:
        """Read one picture; SampleError if that is not possible."""
        ...


class SamplePictures:
    """Samples of a data set as pictures.

    Args:
        dataset: built one, with `names` and `load`.
        label: its name in the records.
        names: the samples and their order; None: all, as the data set lists them.

    Raises:
        UserError: a name that the data set does not have.
    """

    def __init__(self, dataset: Any, label: str, names: Sequence[str] | None = None):
        self._dataset, self.label = dataset, label
        self.names: Sequence[str] = list(dataset.names) if names is None else list(names)
        for name in self.names:
            if name not in set(dataset.names):
                raise UserError(f"data set {label!r} has no sample {name!r}. {near_miss(name, dataset.names, '')}")

    def load(self, name: str) -> Picture:
        """Read one sample; SampleError if that is not possible."""
        try:
            sample: Sample = self._dataset.load(name)
        except (SampleError, UserError):
            raise
        except Exception as error:  # a data set is the user's code
            raise SampleError(f"{name}: {type(error).__name__}: {error}") from error
        return Picture(name, *names_of(sample), _checked(name, sample.image), Truth(sample))


class FolderPictures:
    """The images of a folder, by file name.

    Args:
        folder: holds image files; folders inside it are not looked at.

    Raises:
        UserError: no such folder, or no image in it.
    """

    def __init__(self, folder: str):
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise UserError(f"images={folder}: no such folder. Give a folder that holds image files.")
        try:
            self._files = {sample_name(path.name): path for path in files_in(root)}
        except OSError as error:
            raise UserError(f"images={folder}: cannot be listed ({error.strerror or error}).") from error
        if not self._files:
            raise UserError(f"images={folder}: no image file in it (.jpg, .png, .tif, .webp, …). Give another folder.")
        self.names: Sequence[str] = list(self._files)
        self.label = sample_name(root.resolve().name)

    def load(self, name: str) -> Picture:
        """Read one image; SampleError if that is not possible."""
        return Picture(name, name, "", _checked(name, read_image(self._files[name])))


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) within `LONGEST_SHOWN`, of the same shape.

    >>> shown_size((6144, 1000)), shown_size((480, 640))
    ((3072, 500), (480, 640))
    """
    scale = min(1.0, LONGEST_SHOWN / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _checked(name: str, pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise SampleError(
            f"{name}: {pixels.shape[1]}x{pixels.shape[0]} px, more than the {MOST_PIXELS >> 20} megapixels that the "
            "page takes; shrink it or cut it into tiles."
        )
    return pixels
