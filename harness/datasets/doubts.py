"""What nobody can have meant by a mask: whole images as objects, soft edges as objects, a photograph turned alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.datasets.decode import header
from harness.datasets.files import FileDataset
from harness.datasets.masks import Rule, read_values
from harness.errors import SampleError, UserError
from harness.sample import Sample
from harness.text import printable

_MOST_VALUES = 3


def fills_the_image(sample: Sample) -> bool:
    """Whether no pixel is background."""
    return not (sample.mask == 0).any()


def refuse_whole_images(dataset: Any) -> None:
    """Read samples until one has a background.

    Raises:
        UserError: in no sample is a pixel background; the message says how the masks can be read.
    """
    if not isinstance(dataset, FileDataset):
        return
    full = None
    for name in dataset.names:
        try:
            if not fills_the_image(dataset.load(name)):
                return
            full = full or name
        except SampleError:
            continue
    if full is not None:
        raise UserError(f"data set {dataset.name!r}: {whole_images(dataset, full)}")


def whole_images(dataset: FileDataset, name: str) -> str:
    """What to say where the object of every sample is the whole image; `name`: one of them."""
    entry = dataset.entries[name]
    example = f"{entry.mask}, {dataset.rule}"
    return f"the object fills the whole image of every sample ({example}). {other_reading(dataset, name)}"


def other_reading(dataset: FileDataset, name: str) -> str:
    """How the mask of a sample might be meant, where it is object from edge to edge."""
    entry = dataset.entries[name]
    about = header(entry.mask) if entry.mask is not None else None
    if entry.mask is None or about is None:
        return "Are the masks inverted?"
    if about.mode == "P" and not dataset.rule.indices:
        return "It is a palette file whose background is not black: read its indices with dataset.indices=true."
    values = read_values(entry.mask, rule=dataset.rule)
    rows = values.reshape(-1, values.shape[2]) if values.ndim == 3 else values.reshape(-1, 1)
    height, width = values.shape[:2]
    rim = np.ones((height, width), bool)
    rim[1:-1, 1:-1] = False
    colours, counts = np.unique(rows[rim.ravel()], axis=0, return_counts=True)
    common = [int(v) for v in colours[counts.argmax()]]
    shown = f"[{','.join(map(str, common))}]" if len(common) > 1 else str(common[0])
    return (
        f"Its rim is mostly {shown}: if that is the background, read the folder with dataset=folder "
        f"dataset.background={shown}."
    )


def soft_edges(path: Path, rule: Rule, objects: Sequence[int]) -> str:
    """Says that most objects of a mask with several objects are only the rim of others; "" if they are not.

    Args:
        objects: values of the mask that are samples.
    """
    try:
        values = read_values(path, rule=rule)
    except SampleError:
        return ""
    if values.ndim == 3:
        return ""
    # What has no pixel whose eight neighbours are the same: a rim, or a hair.
    thin = [v for v in objects if not cv2.erode((values == v).astype(np.uint8), np.ones((3, 3), np.uint8)).any()]
    if len(objects) <= _MOST_VALUES or 2 * len(thin) < len(objects):
        return ""
    return printable(
        f"{path}: {len(objects)} values, {len(thin)} of them only a rim one or two pixels wide: smoothed edges are "
        "read as objects. Export the mask without smoothing (nearest neighbour), or leave small ones out: "
        "dataset.smallest=25"
    )


def turned_alone(image: Path | None, mask: Path | None) -> bool:
    """Whether the image is turned by its EXIF orientation, and its mask says nothing of one."""
    if image is None or mask is None:
        return False
    of_image, of_mask = header(image), header(mask)
    return of_image is not None and of_mask is not None and of_image.orientation != 1 and of_mask.orientation == 1
