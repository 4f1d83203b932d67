"""What all data sets on disk share: the root's check, selection, loading with readable errors, digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.decode import header
from harness.datasets.facts import FileFacts, content_hash
from harness.datasets.masks import Rule, check_size, differences, read_image, read_values
from harness.datasets.pairs import Entry, Listing, check_limit, parse_shard, select
from harness.datasets.problems import EmptyMask
from harness.errors import SampleError, UserError
from harness.fetching import places
from harness.fetching.manifests import Catalogue
from harness.sample import Sample
from harness.text import printable


class FileDataset:
    """A data set on disk; a layout gives `called`, `layout`, `parts` and `listing()`.

    Nothing is opened before it is needed: the constructor looks at the folders, `names` lists them, `load` reads one
    pair.

    Args:
        root: folder of the data set; `fetched:NAME` is where `python -m harness.fetch data=NAME` put it.
        limit: at most so many samples, evenly spread over the sorted names; the same ones every time.
        shard: "i/n" with i from 1: every n-th of the samples that `limit` left; the shards are disjoint.
        name: what the tables call it; None: its own name.
        note: shown beside the name in every table.

    Raises:
        UserError: no root, or it does not have the expected folders.
    """

    called = ""
    """Name where none is given."""
    layout = ""
    parts: Sequence[str] = ()
    rule = Rule()

    def __init__(
        self,
        root: str | None,
        limit: int | None = None,
        shard: str | None = None,
        name: str | None = None,
        note: str = "",
    ):
        self.name = printable(str(self.called if name is None else name))
        self.note = note
        self.limit = check_limit(limit)
        self.shard = parse_shard(shard)
        self.root = self._checked_root(root)

    def _checked_root(self, root: str | None) -> Path:
        expected = f"Expected layout: {self.layout}."
        if root is None:
            raise UserError(f"data set {self.name!r} needs its folder: dataset.root=DIR. {expected}")
        if str(root).startswith(places.FETCHED):
            try:
                root = str(places.data_root(str(root)))
            except UserError as error:
                raise UserError(f"{error}; or give its folder: dataset.root=DIR. {expected}") from error
        path = Path(str(root)).expanduser()
        if not path.is_dir():
            raise UserError(f"dataset.root={root}: no such folder. {expected}")
        missing = [part for part in self.parts if not (path / part).exists()]
        if missing:
            inside = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
            lacks = " and no ".join(missing)
            raise UserError(f"dataset.root={root} has no {lacks} (it holds: {inside}). {_resembles(path)}{expected}")
        return path

    def listing(self) -> Listing:
        """List the whole folder without opening images."""
        raise NotImplementedError

    @cached_property
    def listed(self) -> Listing:
        """The whole folder, before limit and shard, sorted by name."""
        listing = self.listing()
        return Listing(sorted(listing.entries, key=lambda e: e.name), listing.stray)

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
            SampleError: a file is missing, damaged, of another size, or its values mean nothing in this
                layout.
        """
        return self.pair(self.entries[name])

    def pair(self, entry: Entry) -> Sample:
        """Read the sample of an entry; raises as `load`."""
        if entry.problem is not None:
            raise type(entry.problem)(*entry.problem.args)
        assert entry.image is not None and entry.mask is not None
        image = read_image(entry.image)
        values = self.read_values(entry)
        check_size(image, values, entry.image, entry.mask)
        inside = entry.image.is_relative_to(self.root)
        source = entry.image.relative_to(self.root).as_posix() if inside else entry.image.name
        return Sample(entry.name, image, self.mask_of(entry, values), source)

    def read_values(self, entry: Entry) -> np.ndarray:
        """(H, W) or (H, W, 3) values of an entry's mask file, as stored."""
        assert entry.mask is not None
        return read_values(entry.mask, rule=self.rule_of(entry))

    def rule_of(self, entry: Entry) -> Rule:
        """How the values of one entry's mask are read."""
        if entry.value is None:
            return self.rule
        return Rule(equals=entry.value, ignore=self.rule.ignore, indices=True, stored=self.rule.stored)

    def mask_of(self, entry: Entry, values: np.ndarray) -> np.ndarray:
        """(H, W) uint8 mask: 1 object, 0 background, 255 ignore.

        Raises:
            EmptyMask: no pixel is object; the message says which values there are and what they may mean.
        """
        rule = self.rule_of(entry)
        mask = rule.apply(values)
        if not (mask == 1).any():
            hint = self._of_palette(entry, rule)
            raise EmptyMask(f"{entry.mask}: no object pixel ({rule}); {self.why_empty(rule, values)}{hint}")
        return mask

    @staticmethod
    def _of_palette(entry: Entry, rule: Rule) -> str:
        about = header(entry.mask) if entry.mask is not None else None
        if about is None or about.mode != "P" or entry.value is not None:
            return ""
        was, other = ("colours", "true") if rule.indices is False else ("indices", "false")
        return f" It is a palette file, read as {was}: try dataset.indices={other}."

    def why_empty(self, rule: Rule, values: np.ndarray) -> str:
        """What to do about a mask without an object."""
        distinct = np.unique(values)
        listed = ", ".join(f"{v:g}" for v in distinct[:6]) + (", …" if len(distinct) > 6 else "")
        if len(distinct) == 1 and distinct[0] == 0:
            return "the mask is all 0: annotate the object, or remove the pair."
        if rule.ignore is not None and rule.ignore in distinct:
            return (
                f"its values are {listed}, and {rule.ignore} is ignored here: export the object with another value, "
                f"or read the data with dataset=folder dataset.ignore=null."
            )
        return (
            f"its values are {listed}: store the object as 255, or read the data with dataset=folder and "
            f"dataset.above or dataset.equals to fit."
        )

    def digest(self) -> str:
        """32 hexadecimal digits over names, mask rule and content of all files of the selected samples."""
        whole = hashlib.blake2b(json.dumps(self.rule.record(), sort_keys=True).encode(), digest_size=16)
        with FileFacts() as facts:
            hashes: dict[Path, str] = {}
            for entry in self.entries.values():
                whole.update(f"\n{entry.name}\n{entry.value}".encode())
                for path in (entry.image, entry.mask):
                    if path is not None and path not in hashes:
                        hashes[path] = self._hash(facts, path, is_mask=path == entry.mask)
                    whole.update((hashes[path] if path is not None else "absent").encode())
        return whole.hexdigest()

    def _hash(self, facts: FileFacts, path: Path, is_mask: bool) -> str:
        """Content of one file, and how a mask of its kind is read where that is not the plain way."""
        try:
            if not path.is_file():
                return "absent"
            content: str = facts.get(path, "content", content_hash)
            reading = f"reading {self.rule.stored} {self.rule.named} {self.rule.above}"
            return content + (facts.get(path, reading, self.reading_of) if is_mask else "")
        except OSError:
            return "unreadable"

    def reading_of(self, path: Path) -> str:
        """What of a mask file is read otherwise than its plain values; "" for most files."""
        try:
            return differences(path, self.rule)
        except SampleError:
            return ""

    def record(self) -> dict[str, Any]:
        """Machine-readable description: what was selected and how masks are read."""
        return {
            "name": self.name,
            "note": self.note,
            "layout": type(self).__name__,
            "rule": self.rule.record(),
            "limit": self.limit,
            "shard": None if self.shard is None else "/".join(map(str, self.shard)),
            "samples": len(self),
        }


def _resembles(folder: Path) -> str:
    """Which data sets with a layout of their own the folder looks like, as a sentence; "" for none."""
    layouts = {name: entry.layout for name, entry in Catalogue().of("data").items() if entry.layout}
    fitting = {name: parts for name, parts in layouts.items() if all((folder / part).exists() for part in parts)}
    packaged = resources.files("sweeps") / "dataset"
    longest = max((len(parts) for parts in fitting.values()), default=0)
    names = [name for name, parts in fitting.items() if len(parts) == longest and (packaged / f"{name}.yaml").is_file()]
    return f"It looks like dataset={' or dataset='.join(names)}. " if names else ""
