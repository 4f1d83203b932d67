"""Entries of a data set on disk: matching images with masks, split lists, limit and shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from harness.datasets.problems import MissingFile
from harness.errors import SampleError, UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")


Item = TypeVar("Item")


@dataclass(frozen=True)
class Entry:
    """One sample before it is loaded.

    Attributes:
        name: unique within the data set.
        image, mask: files; None where there is none, or where `problem` says why it is unclear.
        value: the object's value in a mask of several objects; None: the data set's rule decides.
        problem: why this entry cannot be loaded; None if it can.
    """

    name: str
    image: Path | None
    mask: Path | None
    value: int | None = None
    problem: SampleError | None = None


@dataclass(frozen=True)
class Listing:
    """What a folder holds: entries, and files that belong to none of them (one readable line each)."""

    entries: Sequence[Entry]
    stray: Sequence[str] = field(default_factory=tuple)


def files_in(folder: Path, endings: Iterable[str] = IMAGE_ENDINGS) -> Iterator[Path]:
    """Files of a folder with one of these endings (any case), sorted; hidden files are left out."""
    allowed = tuple(endings)
    yield from (p for p in sorted(folder.iterdir()) if p.suffix.lower() in allowed and not p.name.startswith("."))


def by_stem(folder: Path, endings: Iterable[str] = IMAGE_ENDINGS) -> dict[str, list[Path]]:
    """Files of a folder by stem; more than one per stem is a problem that `pair` reports."""
    found: dict[str, list[Path]] = {}
    for path in files_in(folder, endings):
        found.setdefault(path.stem, []).append(path)
    return found


def pair(name: str, images: Sequence[Path], masks: Sequence[Path], wanted_image: str, wanted_mask: str) -> Entry:
    """One entry from the candidates for its image and mask; anything but one of each is its problem.

    Args:
        wanted_image, wanted_mask: what should be there, for the message.
    """
    for candidates in (images, masks):
        if len(candidates) > 1:
            which = " and ".join(p.name for p in candidates)
            problem = MissingFile(f"{candidates[0].parent}: {which} have the same stem; keep one of them.")
            return Entry(name, None, None, problem=problem)
    if not images:
        problem = MissingFile(f"{name}: no image {wanted_image}; add it, or leave this sample out.")
        return Entry(name, None, None, problem=problem)
    if not masks:
        problem = MissingFile(f"{images[0]}: no mask {wanted_mask}; add it, or remove the image.")
        return Entry(name, images[0], None, problem=problem)
    return Entry(name, images[0], masks[0])


def pairs_by_stem(images: Path, masks: Path, prefix: str = "") -> Listing:
    """Match the images of one folder with the masks of another by stem; the images decide what a sample
    is."""
    image_of, mask_of = by_stem(images), by_stem(masks)
    entries = [
        pair(prefix + stem, found, mask_of.get(stem, []), f"{images.name}/{stem}.*", f"{masks.name}/{stem}.*")
        for stem, found in image_of.items()
    ]
    stray = [
        f"{path}: no image {images.name}/{stem}.*"
        for stem, found in mask_of.items()
        if stem not in image_of
        for path in found
    ]
    return Listing(entries, stray)


def read_split(path: Path) -> list[str]:
    """Names of a split file, one a line; blank lines and further columns are skipped.

    Raises:
        UserError: the file is missing or empty.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such split file; it lists the samples, one name without ending a line.")
    names = [Path(line.split()[0]).stem for line in path.read_text().splitlines() if line.strip()]
    if not names:
        raise UserError(f"{path}: the split file is empty; it lists the samples, one name without ending a line.")
    return list(dict.fromkeys(names))


def select(entries: Sequence[Item], limit: int | None, shard: tuple[int, int] | None) -> list[Item]:
    """Apply limit, then shard, to entries sorted by name.

    `limit` takes the middle of each of so many equal stretches, so that a small subset spreads over sequences
    and classes that sort together; `shard` (i, n) takes every n-th of what is left.
    """
    chosen = list(entries)
    if limit is not None and limit < len(chosen):
        chosen = [chosen[(2 * i + 1) * len(chosen) // (2 * limit)] for i in range(limit)]
    return chosen if shard is None else chosen[shard[0] - 1 :: shard[1]]


def check_limit(limit: int | None) -> int | None:
    """Return the limit; UserError unless it is None or a whole number from 1."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise UserError(f"dataset.limit={limit}: give a number of samples from 1, or null for all.")
    return limit


def parse_shard(shard: str | None) -> tuple[int, int] | None:
    """(i, n) from "i/n"; UserError unless 1 <= i <= n."""
    if shard is None:
        return None
    index, _, count = str(shard).partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise UserError(f"dataset.shard={shard}: write i/n with i from 1 to n, for example 1/4 for the first quarter.")
    return int(index), int(count)
