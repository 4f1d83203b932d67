"""What may be said of a data set beside those whose content is published here (`harness/fetching/digests`).

Samples are compared by content, not by name or place: pixels of the image (or bytes of its file, since JPEG decoders
differ in last bits) and the mask as it is read (object, background, ignored). So a copy from any source, in any layout
and
lossless format, can be checked.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from harness.datasets.facts import FileFacts, content_hash
from harness.fetching.manifests import Catalogue, Entry, Published

DIGITS = 16
"""Hexadecimal digits of each digest of a sample."""


@dataclass(frozen=True)
class Content:
    """Digests of one sample, DIGITS hexadecimal digits of BLAKE2b each.

    Attributes:
        file: bytes of the image's file; "" where there is none.
        image: its RGB pixels.
        mask: its mask, 1 object, 0 background, 255 ignored.
    """

    file: str
    image: str
    mask: str

    @classmethod
    def of(cls, file: Path | None, image: bytes, mask: bytes) -> Content:
        """From an image's file, and digests of the decoded image and mask."""
        content = ""
        if file is not None:
            with FileFacts() as facts:
                content = facts.get(file, "content", content_hash)
        return cls(content[:DIGITS], image.hex()[:DIGITS], mask.hex()[:DIGITS])

    def equals(self, other: Content) -> bool:
        """Whether both are the same image with the same mask."""
        same = self.image == other.image or (self.file == other.file != "")
        return same and self.mask == other.mask


@functools.cache
def sets() -> tuple[tuple[Entry, Mapping[str, Content]], ...]:
    """Every entry whose samples are published, with the content of each sample by name."""
    pairs = []
    for entry in Catalogue().of("data").values():
        table = resources.files("harness.fetching") / "digests" / f"{entry.name}.csv"
        if entry.published is not None and table.is_file():
            rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
            pairs.append((entry, {row["sample"]: Content(row["file"], row["image"], row["mask"]) for row in rows}))
    return tuple(pairs)


def said(name: str, contents: Mapping[str, Content], selected: int) -> str:
    """One sentence: equal to a published set, a part of it, nearly it; "" where no sample is of one.

    Args:
        name: of the data set; a published set of this name is compared first.
        contents: sample -> content, of those that could be used.
        selected: number of samples, the unusable ones too.
    """
    sentences = []
    for entry, published in sets():
        if not contents:
            break
        index: dict[str, list[Content]] = {}
        for content in published.values():
            index.setdefault(content.mask, []).append(content)
        same = {n for n, c in contents.items() if any(c.equals(p) for p in index.get(c.mask, ()))}
        if same or (entry.name == name and entry.published is not None):
            assert entry.published is not None
            other = [n for n in contents if n not in same]
            sentences.append((len(same), entry.name == name, _sentence(entry.published, len(same), other, selected)))
    return max(sentences)[2] if sentences else ""


def _sentence(published: Published, equal: int, other: Sequence[str], selected: int) -> str:
    whole = published.samples
    if equal == selected == whole:
        return f"equals the published {published.name}, {equal} of {whole}"
    if equal == selected:
        return f"{equal} of the {whole} samples of the published {published.name}, each equal"
    if not equal:
        return f"is not the published {published.name}: none of its {whole} samples is here"
    names = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
    unusable = selected - equal - len(other)
    rest = [f"{len(other)} other ({names})"] * bool(other) + [f"{unusable} that cannot be used"] * bool(unusable)
    return f"is not the published {published.name}: {equal} of {whole} samples equal, {' and '.join(rest)}"


def said_by_digest(dataset: Any, entry: Entry) -> str:
    """One sentence from the digest alone, without decoding anything."""
    published = entry.published
    if published is None:
        return ""
    if dataset.digest() == published.digest:
        return f"equals the published {published.name}, {published.samples} of {published.samples}"
    return (
        f"its digest is {dataset.digest()}, and the published {published.name} has {published.digest}: other files, or "
        "other "
        f"samples; python -m harness.doctor dataset={entry.name} compares them one by one"
    )
