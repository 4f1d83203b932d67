"""A data set decoded once: all images and masks as bytes in one file, mapped into memory.

Decoding a JPEG costs as much as augmenting it, at every epoch; the packed file costs disk once (about 0.3 MB for a
photograph of 320 px). The folder's name carries the digest of the data set, so that changed files are packed afresh.
A sample that cannot be read is named in `skipped.json` and left out; training goes on without it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from harness.errors import SampleError, UserError
from harness.progress import Bar
from harness.sample import Sample

_FORM = 1
"""Raised when the layout of the packed files changes."""


class SampleSource(Protocol):
    """What packing needs of a data set."""

    name: str

    @property
    def names(self) -> Sequence[str]: ...
    def load(self, name: str) -> Sample: ...
    def digest(self) -> str: ...


@dataclass(frozen=True)
class Packed:
    """Samples in one memory-mapped file.

    Attributes:
        digest: of the data set and of how it was packed.
        names: of the samples, in the data set's order.
        shapes: (n, 2) int64 height and width.
        offsets: (n + 1,) int64 places in `data`; a sample is its image (H, W, 3), then its mask (H, W).
        data: (bytes,) uint8.
        skipped: why a sample was left out, by name.
    """

    digest: str
    names: tuple[str, ...]
    shapes: np.ndarray
    offsets: np.ndarray
    data: np.ndarray
    skipped: dict[str, str]

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        """The sample as views of the file; do not write into them."""
        height, width = (int(v) for v in self.shapes[index])
        start, pixels = int(self.offsets[index]), height * width
        image = self.data[start : start + 3 * pixels].reshape(height, width, 3)
        mask = self.data[start + 3 * pixels : start + 4 * pixels].reshape(height, width)
        return Sample(self.names[index], image, mask)


def pack(source: SampleSource, cache: Path, longest: int | None = None, bar: Bar | None = None) -> Packed:
    """Open the packed form of a data set, making it first where it does not exist.

    Args:
        cache: folder of all packed data sets.
        longest: shrink images whose longest side is greater, in pixels; None: keep the size.
        bar: advanced once per sample while packing.

    Raises:
        UserError: no sample can be read, or the disk is full.
    """
    digest = f"{source.digest()}-{longest or 'full'}-{_FORM}"
    folder = cache / f"{source.name}-{digest}"
    if not (folder / "index.npz").exists():
        _write(source, folder, longest, bar)
    index = np.load(folder / "index.npz")
    names = tuple(json.loads((folder / "names.json").read_text()))
    skipped = json.loads((folder / "skipped.json").read_text())
    data = np.memmap(folder / "data.bin", np.uint8, mode="r")
    return Packed(digest, names, index["shapes"], index["offsets"], data, skipped)


def _write(source: SampleSource, folder: Path, longest: int | None, bar: Bar | None) -> None:
    # Written beside and renamed, so that a killed run leaves nothing that looks complete.
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    names, shapes, offsets, skipped = [], [], [0], {}
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        with open(temporary / "data.bin", "wb") as file:
            for name in source.names:
                try:
                    sample = shrink(source.load(name), longest)
                except SampleError as error:
                    skipped[name] = " ".join(str(error).split())
                else:
                    file.write(np.ascontiguousarray(sample.image, dtype=np.uint8).data)
                    file.write(np.ascontiguousarray(sample.mask, dtype=np.uint8).data)
                    names.append(name)
                    shapes.append(sample.mask.shape)
                    offsets.append(offsets[-1] + 4 * sample.mask.size)
                if bar is not None:
                    bar.advance(name)
        if not names:
            example = next(iter(skipped.values()), "it is empty")
            raise UserError(f"data set {source.name!r} has no sample that can be read: {example}")
        (temporary / "names.json").write_text(json.dumps(names))
        (temporary / "skipped.json").write_text(json.dumps(skipped, indent=1))
        np.savez(temporary / "index.npz", shapes=np.array(shapes, np.int64), offsets=np.array(offsets, np.int64))
        _publish(temporary, folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(cache_root(folder)).free / 2**20
            raise UserError(
                f"no space to pack data set {source.name!r} into {folder.parent} ({free:.0f} MiB free). Free some, or "
                "give another folder: cache=DIR"
            ) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(complete: Path, folder: Path) -> None:
    # No look before the leap: the processes of one torchrun pack at the same time, and all but the first are late.
    try:
        os.rename(complete, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def cache_root(folder: Path) -> Path:
    """The nearest folder above that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def shrink(sample: Sample, longest: int | None) -> Sample:
    """The sample with its longest side at most `longest` px: area-averaged image, nearest mask."""
    height, width = sample.mask.shape
    if longest is None or max(height, width) <= longest:
        return sample
    scale = longest / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    return Sample(sample.name, image, cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST_EXACT))
