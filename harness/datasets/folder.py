"""Any folder of images with a folder of masks beside it: your own data, and sets without a layout of their
own."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.files import FileDataset
from harness.datasets.instances import instance_entries
from harness.datasets.masks import Rule
from harness.datasets.pairs import Listing, pairs_by_stem
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
        ignore: value that is ignored, for example 255 or 128; null: none.
        equals: object exactly where the value is this one, instead of `above`.
        indices: read palette files as indices instead of colours; always so with objects=values.
        limit, shard, name, note: see `FileDataset`; the name defaults to that of the root folder.
    """

    def __init__(
        self,
        root: str | None,
        images: str = "images",
        masks: str = "masks",
        objects: str = "one",
        above: int = 0,
        ignore: int | None = None,
        equals: int | None = None,
        indices: bool = False,
        limit: int | None = None,
        shard: str | None = None,
        name: str | None = None,
        note: str = "",
    ):
        if objects not in ("one", "values"):
            raise UserError(f"dataset.objects: unknown {objects!r}. {near_miss(objects, ('one', 'values'))}")
        self.images, self.masks, self.objects = images, masks, objects
        self.layout = f"{images}/NAME.jpg with {masks}/NAME.png (dataset.images, dataset.masks: other folder names)"
        self.parts = (images, masks)
        self.rule = Rule(above, ignore, equals, indices or objects == "values")
        named = name or (Path(root).expanduser().resolve().name if root else "folder")
        super().__init__(root, limit, shard, named, note)

    def listing(self) -> Listing:
        """Pairs by stem, or one entry per value in each mask."""
        found = pairs_by_stem(self.root / self.images, self.root / self.masks)
        if self.objects == "one":
            return found
        return Listing(list(instance_entries(found.entries, ignore=self.rule.ignore)), found.stray)
