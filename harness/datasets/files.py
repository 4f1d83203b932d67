"""What all data sets on disk share: finding pairs by stem, limit and shard, loading, digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.content import HashCache
from harness.datasets.masks import Rule, check_size, read_image, read_values
from harness.errors import SampleError, UserError
from harness.sample import Sample

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")


@dataclass(frozen=True)
class Entry:
    """One sample before it is loaded.

    Attributes:
        name: unique within the data set.
        image, mask: files; None where there is none, or where `problem` says why it is unclear.
        value: index of the object in a mask of several objects; None: the data set's rule decides.
        problem: why this entry cannot be loaded; "" if it can.
    """

    name: str
    image: Path | None
    mask: Path | None
    value: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """What a folder holds: entries in a stable order, and what does not belong to any of them."""

    entries: Sequence[Entry]
    stray: Sequence[str] = field(default_factory=tuple)


class FileDataset:
    """A data set on disk; a layout gives `layout`, `parts` and `listing`.

    Args:
        root: folder of the data set.
        limit: at most so many samples, evenly spread over the sorted names; the same ones every time.
        shard: "i/n" with i from 1: every n-th of the samples that `limit` left; the shards are disjoint.
        name: what the tables call it.

    Raises:
        UserError: no root, or it does not have the expected folders.
    """

    layout = ""
    parts: Sequence[str] = ()
    rule = Rule()

    def __init__(
        self,
        root: str | None,
        limit: int | None = None,
        shard: str | None = None,
        name: str = "",
        note: str = "",
    ):
        self.name = name
        self.note = note
        self.limit = check_limit(limit)
        self.shard = parse_shard(shard)
        self.root = self._checked_root(root)

    def _checked_root(self, root: str | None) -> Path:
        expected = f"Expected layout: {self.layout}."
        if root is None:
            raise UserError(f"data set {self.name!r} needs its folder: dataset.root=DIR. {expected}")
        path = Path(root).expanduser()
        if not path.is_dir():
            raise UserError(f"dataset.root={root}: no such folder. {expected}")
        missing = [part for part in self.parts if not (path / part).exists()]
        if missing:
            inside = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
            raise UserError(
                f"dataset.root={root} has no {' and no '.join(missing)} (it holds: {inside}). {expected}"
            )
        return path

    def listing(self) -> Listing:
        """List the folder without opening images."""
        raise NotImplementedError

    @cached_property
    def listed(self) -> Listing:
        """The whole folder, before limit and shard, sorted by name."""
        found = self.listing()
        return Listing(sorted(found.entries, key=lambda e: e.name), found.stray)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Selected entries by name, in order."""
        return {e.name: e for e in select(self.listed.entries, self.limit, self.shard)}

    @property
    def names(self) -> list[str]:
        """Names of the selected samples, in a stable order."""
        return list(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def load(self, name: str) -> Sample:
        """Read one sample.

        Raises:
            SampleError: a file is missing, damaged, of another size or with values that the layout does not
                know.
        """
        entry = self.entries[name]
        if entry.problem or entry.image is None or entry.mask is None:
            raise SampleError(entry.problem or f"{name}: image or mask is missing.")
        image = read_image(entry.image)
        values = self.read_values(entry)
        check_size(image, values, entry.image, entry.mask)
        return Sample(name, image, self.mask_of(entry, values))

    def read_values(self, entry: Entry) -> np.ndarray:
        """Values of an entry's mask file."""
        assert entry.mask is not None
        return read_values(entry.mask, self.rule_of(entry).indices)

    def rule_of(self, entry: Entry) -> Rule:
        """The rule that applies to one entry."""
        return self.rule if entry.value is None else Rule(equals=entry.value, ignore=self.rule.ignore)

    def mask_of(self, entry: Entry, values: np.ndarray) -> np.ndarray:
        """(H, W) uint8 mask from the values of the file; subclasses refuse values that they do not know."""
        return self.rule_of(entry).apply(values)

    def digest(self) -> str:
        """32 hexadecimal digits over the names, the mask rule and the content of all files of the selected
        samples."""
        whole = hashlib.blake2b(json.dumps(self.rule_record(), sort_keys=True).encode(), digest_size=16)
        with HashCache().open() as cache:
            for entry in self.entries.values():
                whole.update(f"\n{entry.name}\n{entry.value}".encode())
                for path in (entry.image, entry.mask):
                    whole.update(
                        cache.hash(path).encode() if path is not None and path.is_file() else b"absent"
                    )
        return whole.hexdigest()

    def rule_record(self) -> dict[str, Any]:
        """What decides how files become masks."""
        return self.rule.record()


def select(entries: Sequence[Entry], limit: int | None, shard: tuple[int, int] | None) -> list[Entry]:
    """Apply limit, then shard, to entries sorted by name."""
    chosen = list(entries)
    if limit is not None and limit < len(chosen):
        # The middle of each of `limit` equal stretches: spread over sequences and classes that sort together.
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
        raise UserError(
            f"dataset.shard={shard}: write i/n with i from 1 to n, for example 1/4 for the first quarter."
        )
    return int(index), int(count)


def files_in(folder: Path, endings: Iterable[str] = IMAGE_ENDINGS) -> Iterator[Path]:
    """Files of a folder with one of these endings (any case), sorted; hidden files are left out."""
    allowed = tuple(endings)
    yield from (
        p for p in sorted(folder.iterdir()) if p.suffix.lower() in allowed and not p.name.startswith(".")
    )


def pairs_by_stem(images: Path, masks: Path, prefix: str = "") -> Listing:
    """Match the images of one folder with the masks of another by stem; the images decide what a sample
    is."""
    image_of, mask_of = _by_stem(images), _by_stem(masks)
    entries = [
        _pair(prefix + stem, found, mask_of.get(stem, []), masks, stem) for stem, found in image_of.items()
    ]
    stray = [
        f"{p}: no image {images.name}/{s}.*"
        for s, found in mask_of.items()
        if s not in image_of
        for p in found
    ]
    return Listing(entries, stray)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in files_in(folder):
        found.setdefault(path.stem, []).append(path)
    return found


def _pair(name: str, images: list[Path], masks: list[Path], mask_folder: Path, stem: str) -> Entry:
    if len(images) > 1:
        which = " and ".join(p.name for p in images)
        return Entry(
            name, None, None, problem=f"{images[0].parent}: {which} have the same stem; keep one of them."
        )
    if not masks:
        return Entry(
            name,
            images[0],
            None,
            problem=f"{images[0]}: no mask {mask_folder.name}/{stem}.*; add it or remove the image.",
        )
    if len(masks) > 1:
        which = " and ".join(p.name for p in masks)
        return Entry(
            name, images[0], None, problem=f"{mask_folder}: {which} have the same stem; keep one of them."
        )
    return Entry(name, images[0], masks[0])
