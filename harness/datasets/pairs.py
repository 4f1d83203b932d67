"""Entries of a data set on disk: matching images with masks, limit and shard."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from harness.datasets.problems import MissingFile
from harness.errors import SampleError, UserError
from harness.text import printable, sample_name

IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm",
    ".pbm", ".pnm", ".gif", ".jp2", ".avif",
)  # fmt: skip


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


class Stems(dict[str, list[Path]]):
    """Files of a folder by stem, as `sample_name` writes it; several of one stem are a problem that `pair` reports."""

    def of(self, stem: str) -> list[Path]:
        """Files of this stem; where there is none, those of the only stem that differs in case alone."""
        if stem in self:
            return self[stem]
        same = self._folded.get(stem.casefold(), [])
        return self[same[0]] if len(same) == 1 else []

    def nearest(self, stem: str, others: Stems) -> Path | None:
        """A file whose stem is nearly this one (longer, or hardly different, with the same numbers), if it is free.

        Args:
            others: files of the other kind; what has a partner there is not free.
        """
        free = [s for s in self if not others.of(s)]
        longer = [s for s in free if stem and (s.startswith(stem) or s.endswith(stem))]
        alike = [s for s in free if _numbers(s) == _numbers(stem)]
        close = [s for s in longer if s in alike] or longer or difflib.get_close_matches(stem, alike, n=1)
        return self[close[0]][0] if close else None

    @cached_property
    def _folded(self) -> dict[str, list[str]]:
        folded: dict[str, list[str]] = {}
        for stem in self:
            folded.setdefault(stem.casefold(), []).append(stem)
        return folded


def _numbers(stem: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]+", stem)]


def by_stem(folder: Path, endings: Iterable[str] = IMAGE_ENDINGS) -> Stems:
    """Files of a folder by stem."""
    stems = Stems()
    for path in files_in(folder, endings):
        stems.setdefault(sample_name(path.stem), []).append(path)
    return stems


def pair(
    name: str,
    images: Sequence[Path],
    masks: Sequence[Path],
    wanted_image: str,
    wanted_mask: str,
    near: Path | None = None,
) -> Entry:
    """One entry from the candidates for its image and mask; anything but one of each is its problem.

    Args:
        wanted_image, wanted_mask: what should be there, for the message.
        near: a mask of a similar name, for the message.
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
        problem = MissingFile(f"{images[0]}: no mask {wanted_mask}; {_advice(images[0], near)}.")
        return Entry(name, images[0], None, problem=problem)
    return Entry(name, images[0], masks[0])


def _advice(image: Path, near: Path | None) -> str:
    if near is None:
        return "add it, or remove the image"
    stem, other = sample_name(image.stem), sample_name(near.stem)
    ending = other.removeprefix(stem)
    if ending != other and ending:
        return f"the nearest is {near.name}: if that is its mask, say dataset=folder dataset.mask_suffix={ending}"
    return f"the nearest is {near.name}: rename it if that is its mask, add one, or remove the image"


def pairs_by_stem(images: Path, masks: Path, prefix: str = "", suffix: str = "") -> Listing:
    """Match the images of one folder with the masks of another by stem; the images decide what a sample is.

    Stems are compared in Unicode's composed form, and without case where that leaves no doubt.

    Args:
        prefix: of the samples' names.
        suffix: what a mask's stem has more than its image's.
    """
    image_of, mask_of = by_stem(images), by_stem(masks)
    entries, used = [], set()
    for stem, paths in image_of.items():
        candidates = mask_of.of(stem + suffix)
        # A mask that has an image of exactly its name belongs to that one.
        if stem + suffix not in mask_of and any(_image_stem(path, suffix) in image_of for path in candidates):
            candidates = []
        used |= {sample_name(path.stem) for path in candidates}
        near = None if candidates else mask_of.nearest(stem, image_of)
        patterns = f"{images.name}/{stem}.*", f"{masks.name}/{stem}{suffix}.*"
        entries.append(pair(prefix + stem, paths, candidates, *patterns, near))
    stray = [
        f"{path}: no image {images.name}/{stem}.*{_other_ending(images, stem)}"
        for stem, paths in mask_of.items()
        if stem not in used
        for path in paths
    ]
    return Listing(entries, [printable(line) for line in stray])


def _image_stem(mask: Path, suffix: str) -> str:
    return sample_name(mask.stem).removesuffix(suffix)


def _other_ending(folder: Path, stem: str) -> str:
    for path in sorted(folder.iterdir()):
        if sample_name(path.stem) == stem and path.suffix.lower() not in IMAGE_ENDINGS:
            return f" ({path.name} is there, but {path.suffix or 'a name without ending'} is none of the endings read)"
    return ""


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
