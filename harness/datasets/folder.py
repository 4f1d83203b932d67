"""Any folder of images with a folder of masks beside it: your own data, and sets without a layout of their
own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.datasets.files import FileDataset
from harness.datasets.instances import instance_entries, stored_areas_in
from harness.datasets.masks import Rule, Value, as_value
from harness.datasets.pairs import Entry, Listing, pairs_by_stem
from harness.datasets.problems import EmptyMask
from harness.errors import UserError, near_miss


class Folder(FileDataset):
    """`images/NAME.*` with `masks/NAME.*`.

    Args:
        root: folder that holds both.
        images, masks: names of the two folders.
        objects: `one`: the mask is one object; `values`: each value above 0 is an object of its own (a sample
            NAME#VALUE).
        above: object where any channel is greater; 0 suits 0/1, 0/255, bilevel, palette and RGB masks; 128
            suits masks that went through JPEG or were resized smoothly.
        ignore: value that is ignored, for example 255 or 128; null: none. This and the two below are values of the
            file: grey value, palette index, or a colour [red, green, blue].
        equals: object exactly where the value is this one, instead of `above`.
        background: object wherever the value is not this one, instead of `above`.
        indices: palette files are read as indices (true) or as colours (false). null: as indices where `ignore`,
            `equals` or `background` is set, and always with objects=values.
        smallest: objects of fewer pixels are left out (objects=values) or refused (objects=one).
        mask_suffix: what a mask's name has more than its image's, for example _mask.
        limit, shard, name, note: see `FileDataset`; the name defaults to that of the root folder.
    """

    def __init__(
        self,
        root: str | None,
        images: str = "images",
        masks: str = "masks",
        objects: str = "one",
        above: int = 0,
        ignore: Value | None = None,
        equals: Value | None = None,
        indices: bool | None = None,
        limit: int | None = None,
        shard: str | None = None,
        name: str | None = None,
        note: str = "",
        background: Value | None = None,
        smallest: int = 0,
        mask_suffix: str | None = None,
    ):
        if objects not in ("one", "values"):
            raise UserError(f"dataset.objects: unknown {objects!r}. {near_miss(objects, ('one', 'values'))}")
        self.images, self.masks, self.objects = images, masks, objects
        self.layout = f"{images}/NAME.jpg with {masks}/NAME.png (dataset.images, dataset.masks: other folder names)"
        self.parts = (images, masks)
        if isinstance(above, bool) or not isinstance(above, (int, float)):
            raise UserError(f"dataset.above={above!r}: give a number of the mask file's values, 0 for any above black.")
        if isinstance(smallest, bool) or not isinstance(smallest, int) or smallest < 0:
            raise UserError(f"dataset.smallest={smallest!r}: give a number of pixels, 0 for objects of any size.")
        self.smallest, self.mask_suffix = smallest, "" if mask_suffix is None else str(mask_suffix)
        self.rule = Rule(
            above,
            as_value("ignore", ignore),
            as_value("equals", equals),
            True if objects == "values" else indices,
            as_value("background", background),
            stored=True,
        )
        named = name or (Path(str(root)).expanduser().resolve().name if root is not None else "folder")
        super().__init__(root, limit, shard, named, note)

    def listing(self) -> Listing:
        """Pairs by stem, or one entry per value in each mask."""
        listing = pairs_by_stem(self.root / self.images, self.root / self.masks, suffix=self.mask_suffix)
        if self.objects == "one":
            return listing
        kind = "instances and areas as stored"
        entries = instance_entries(listing.entries, stored_areas_in, self.rule.ignore, kind, self.smallest)
        return Listing(list(entries), listing.stray)

    def mask_of(self, entry: Entry, values: np.ndarray) -> np.ndarray:
        """As `FileDataset.mask_of`; an object of fewer pixels than `smallest` is no object, too."""
        mask = super().mask_of(entry, values)
        pixels = int((mask == 1).sum())
        if pixels < self.smallest:
            raise EmptyMask(
                f"{entry.mask}: the object has {pixels} pixels, fewer than dataset.smallest={self.smallest}; "
                "remove the pair, or ask for less."
            )
        return mask
