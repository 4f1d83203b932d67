"""Any folder of images with a folder of masks beside it: users' own data, and data sets without a layout of
their own."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.files import FileDataset, Listing, pairs_by_stem
from harness.datasets.masks import Rule


class Folder(FileDataset):
    """`images/NAME.*` with `masks/NAME.*`.

    Args:
        root: folder that holds both.
        images, masks: names of the two folders.
        above: object where any channel is greater; 0 suits 0/1, 0/255, bilevel, palette and RGB masks; 128
            suits masks that went through JPEG or were resized smoothly.
        ignore: value that is ignored, for example 255 or 128; null: none.
        equals: object exactly where the (palette) index has this value, instead of `above`.
        limit, shard, name, note: see `FileDataset`; the name defaults to that of the root folder.
    """

    def __init__(
        self,
        root: str | None,
        images: str = "images",
        masks: str = "masks",
        above: int = 0,
        ignore: int | None = None,
        equals: int | None = None,
        limit: int | None = None,
        shard: str | None = None,
        name: str | None = None,
        note: str = "",
    ):
        self.images, self.masks = images, masks
        self.layout = (
            f"{images}/NAME.jpg with {masks}/NAME.png (dataset.images, dataset.masks: other folder names)"
        )
        self.parts = (images, masks)
        self.rule = Rule(above, ignore, equals)
        super().__init__(
            root, limit, shard, name or (Path(root).expanduser().resolve().name if root else "folder"), note
        )

    def listing(self) -> Listing:
        """Pairs by stem."""
        return pairs_by_stem(self.root / self.images, self.root / self.masks)
