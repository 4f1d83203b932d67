"""Pascal VOC 2012, segmentation split: each instance of SegmentationObject is a sample; 255 (void) is
ignored."""

from __future__ import annotations

from harness.datasets.files import FileDataset
from harness.datasets.instances import instance_entries
from harness.datasets.masks import Rule
from harness.datasets.pairs import Listing, by_stem
from harness.datasets.split_list import listed_pairs


class PascalVoc(FileDataset):
    """`JPEGImages`, `SegmentationObject` and `ImageSets/Segmentation/SPLIT.txt`.

    RITM evaluated an unreleased selection of these instances, so the split stands in the note of every table.

    Args:
        root, limit, shard, name: see `FileDataset`; `root` is the folder that holds JPEGImages
            (VOCdevkit/VOC2012).
        split: name of the split file without ending.
        note: default "all instances of SPLIT".
    """

    layout = "JPEGImages/NAME.jpg with SegmentationObject/NAME.png, names in ImageSets/Segmentation/val.txt"
    rule = Rule(ignore=255, indices=True)

    def __init__(
        self,
        root: str | None,
        split: str = "val",
        limit: int | None = None,
        shard: str | None = None,
        name: str = "pascal_voc",
        note: str | None = None,
    ):
        self.split = split
        self.parts = ("JPEGImages", "SegmentationObject", f"ImageSets/Segmentation/{split}.txt")
        super().__init__(root, limit, shard, name, f"all instances of {split}" if note is None else note)

    def listing(self) -> Listing:
        """One entry per instance of the split; opens each mask once, and remembers what it held."""
        images, masks = by_stem(self.root / "JPEGImages"), by_stem(self.root / "SegmentationObject")
        split = self.root / "ImageSets" / "Segmentation" / f"{self.split}.txt"
        pairs = listed_pairs(split, images, masks, "JPEGImages/{}.jpg", "SegmentationObject/{}.png")
        return Listing(list(instance_entries(pairs, ignore=255)))
