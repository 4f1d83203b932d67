"""Examines a data set: what it holds, what cannot be used, and what looks wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets import doubts, published
from harness.datasets.decode import header
from harness.datasets.files import FileDataset
from harness.datasets.folder import Folder
from harness.datasets.loader import prefetch
from harness.datasets.pairs import Entry
from harness.datasets.problems import kind_of
from harness.datasets.published import Content
from harness.errors import SampleError
from harness.sample import Sample
from harness.scoring.sizes import SIZE_BINS, size_bin
from harness.text import printable

# Samples of the complete sets in the field's tables (protocols.md, section 4); another number is another data set.
COMPLETE = {
    "grabcut": 50,
    "berkeley": 100,
    "davis": 345,
    "davis_focuscut": 345,
    "coco_mval": 800,
    "sbd": 6671,
    "hqseg44k": 1537,
    "davis_val138": 138,
    "ecssd200": 200,
    "cracks60": 60,
    "duts_val250": 250,
}
_SOFT_VALUES = 3  # more distinct values than this in a binary mask: soft edges or JPEG noise
_TINY_PIXELS = 25
_FULL_SHARE = 0.98


@dataclass(frozen=True)
class Checkup:
    """What was found. `problems` make samples unusable; `warnings` let them load, but deserve a look.

    Attributes:
        name, note, digest: of the data set; the digest covers the selected samples.
        expected_layout: how the folder should look; "" for generated data sets.
        selected, usable: numbers of samples, after limit and shard.
        heights, widths: (smallest, median, largest) in pixels.
        size_bins: object-size bin -> usable samples.
        ignoring: usable samples with ignored pixels.
        mask_values: value in the mask files -> number of files that have it (the commonest twelve).
        problems: (kind, message) of every sample that cannot be used.
        warnings: readable sentences.
        published: what may be said of it beside the sets whose digests are published; "" where nothing.
    """

    name: str
    note: str
    digest: str
    expected_layout: str
    selected: int
    usable: int
    heights: tuple[int, int, int]
    widths: tuple[int, int, int]
    size_bins: dict[str, int]
    ignoring: int
    mask_values: dict[int, int]
    problems: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    published: str = ""

    @property
    def healthy(self) -> bool:
        """Whether there are samples, and every selected one can be used."""
        return self.usable > 0 and not self.problems

    def record(self) -> dict[str, Any]:
        """Machine-readable form, for --json."""
        counts = Counter(kind for kind, _ in self.problems)
        return {**asdict(self), "healthy": self.healthy, "problem_counts": dict(counts)}


@dataclass
class _Tally:
    """What is gathered sample by sample; images are not kept."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    ignoring: int = 0
    values: Counter[int] = field(default_factory=Counter)
    soft: list[str] = field(default_factory=list)
    tiny: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    whole: int = 0
    turned: list[str] = field(default_factory=list)
    deep: list[str] = field(default_factory=list)
    looked_at: set[Path] = field(default_factory=set)
    rims: list[str] = field(default_factory=list)
    images: dict[bytes, list[str]] = field(default_factory=dict)
    pairs: dict[bytes, list[str]] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)

    def add(self, sample: Sample, image_file: Path | None) -> None:
        self.sizes.append((sample.mask.shape[0], sample.mask.shape[1]))
        self.shares.append(sample.object_share)
        self.ignoring += bool((sample.mask == 255).any())
        objects = int((sample.mask == 1).sum())
        if objects < _TINY_PIXELS:
            self.tiny.append(sample.name)
        if objects > _FULL_SHARE * sample.mask.size:
            self.full.append(sample.name)
        self.whole += doubts.fills_the_image(sample)
        image = hashlib.blake2b(np.ascontiguousarray(sample.image).tobytes(), digest_size=16).digest()
        mask = hashlib.blake2b(np.ascontiguousarray(sample.mask).tobytes(), digest_size=16).digest()
        self.contents[sample.name] = Content.of(image_file, image, mask)
        # Several objects of one image file are no duplicates.
        file = sample.name if image_file is None else printable(image_file)
        if file not in self.images.setdefault(image, []):
            self.images[image].append(file)
        self.pairs.setdefault(image + mask, []).append(sample.name)

    def add_values(self, dataset: FileDataset, name: str) -> None:
        entry = dataset.entries[name]
        if doubts.turned_alone(entry.image, entry.mask):
            self.turned.append(name)
        if entry.value is not None:
            self._add_instances(dataset, entry)
            return
        values = np.unique(dataset.read_values(entry))
        self.values.update(int(v) for v in values)
        if len(values) > _SOFT_VALUES and not dataset.rule.named and not dataset.rule.indices:
            self.soft.append(name)
        if dataset.rule.above and values.max() > 255:
            self.deep.append(name)

    def _add_instances(self, dataset: FileDataset, entry: Entry) -> None:
        if entry.mask is None or entry.mask in self.looked_at or entry.mask.suffix.lower() == ".mat":
            return
        self.looked_at.add(entry.mask)
        objects = [e.value for e in dataset.entries.values() if e.mask == entry.mask and e.value is not None]
        rim = doubts.soft_edges(entry.mask, dataset.rule, objects)
        self.rims += [rim] if rim else []


def examine(dataset: Any, progress: Callable[[str], None] | None = None) -> Checkup:
    """Load every selected sample once and gather what is wrong.

    Args:
        dataset: any data set of the harness; those on disk are examined more closely.
        progress: called with the name of each sample after it was read.
    """
    files = dataset if isinstance(dataset, FileDataset) else None
    tally = _Tally()
    problems: list[tuple[str, str]] = []
    names = list(dataset.names)
    for name, loaded in prefetch(dataset, names):
        if isinstance(loaded, SampleError):
            problems.append((kind_of(loaded), str(loaded)))
        else:
            tally.add(loaded, files.entries[name].image if files else None)
            if files:
                tally.add_values(files, name)
        if progress:
            progress(name)
    if files and tally.sizes and tally.whole == len(tally.sizes):
        problems.append(("whole image as object", doubts.whole_images(files, tally.full[0])))
    problems += [("soft edges read as objects", text) for text in tally.rims]
    bins = Counter(size_bin(share) for share in tally.shares)
    return Checkup(
        name=dataset.name,
        note=str(getattr(dataset, "note", "")),
        digest=dataset.digest(),
        expected_layout=files.layout if files else "",
        selected=len(names),
        usable=len(tally.sizes),
        heights=_spread([h for h, _ in tally.sizes]),
        widths=_spread([w for _, w in tally.sizes]),
        size_bins={name: bins[name] for name in SIZE_BINS},
        ignoring=tally.ignoring,
        mask_values=dict(sorted(tally.values.most_common(12))),
        problems=problems,
        warnings=_warnings(dataset, files, tally, len(names)),
        published=published.said(dataset.name, tally.contents, len(names)),
    )


def _spread(values: list[int]) -> tuple[int, int, int]:
    return (min(values), int(np.median(values)), max(values)) if values else (0, 0, 0)


def _warnings(dataset: Any, files: FileDataset | None, tally: _Tally, selected: int) -> list[str]:
    warnings = []
    if selected == 0:
        warnings.append("no samples; check root, limit and shard.")
    complete = COMPLETE.get(dataset.name)
    whole = files is not None and files.limit is None and files.shard is None
    if complete and whole and selected != complete:
        warnings.append(
            f"{selected} samples, but {dataset.name} of the published tables has {complete}: "
            f"call yours otherwise (dataset.name=…), or fetch what is missing."
        )
    if files is not None and files.listed.stray:
        warnings.append(_some("masks without an image, not used", files.listed.stray))
    twice = [" = ".join(names) for names in tally.images.values() if len(names) > 1]
    if twice:
        warnings.append(_some("the same image under several names, counted several times", twice))
    same = [" = ".join(names) for names in tally.pairs.values() if len(names) > 1]
    if same and not twice:
        warnings.append(_some("the same image and mask under several names, counted several times", same))
    if tally.soft and files is not None:
        advice = "" if files.rule.above else "; read a JPEG or resized mask with dataset.above=128"
        about = header(mask) if (mask := files.entries[tally.soft[0]].mask) is not None else None
        if about is not None and about.mode == "P":
            advice = "; these are palette files: dataset.indices=true reads their indices"
        warnings.append(_some(f"masks of more than {_SOFT_VALUES} values ({files.rule}){advice}", tally.soft))
    if tally.tiny:
        warnings.append(_some(f"objects of fewer than {_TINY_PIXELS} pixels", tally.tiny))
    if tally.full:
        hint = ""
        if files is not None and "indices" in (other := doubts.other_reading(files, tally.full[0])):
            hint = f" {other}"
        warnings.append(
            _some(f"objects that fill over {_FULL_SHARE:.0%} of the image (mask inverted?)", tally.full) + hint
        )
    if isinstance(files, Folder) and files.rule.ignore is not None and tally.sizes and not tally.ignoring:
        warnings.append(f"dataset.ignore={files.rule.ignore}: no mask has this value.")
    if tally.turned:
        warnings.append(
            _some("images turned by their EXIF orientation, whose masks carry none: do both fit?", tally.turned)
        )
    if tally.deep and files is not None:
        warnings.append(
            _some(
                f"masks of 16 bits; dataset.above={files.rule.above} counts in their own values (the middle is 32768)",
                tally.deep,
            )
        )
    return warnings


def _some(what: str, names: Any, shown: int = 3) -> str:
    names = list(names)
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return printable(f"{what} ({len(names)}): {', '.join(names[:shown])}{rest}.")
