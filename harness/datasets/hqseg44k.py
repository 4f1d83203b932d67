"""HQSeg-44K, validation (Ke et al. 2023): 1,537 images in four parts, binarised at 0 or at 128.

SegNext and Inter2Former take every value above 0 as object, HQ-SAM those above 128; masks with soft edges
differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.datasets.files import FileDataset
from harness.datasets.masks import Rule
from harness.datasets.pairs import Entry, Listing, pairs_by_stem
from harness.errors import UserError, near_miss

PARTS = {
    "DIS-VD": ("DIS5K/DIS-VD/im", "DIS5K/DIS-VD/gt"),
    "ThinObject5K": (
        "thin_object_detection/ThinObject5K/images_test",
        "thin_object_detection/ThinObject5K/masks_test",
    ),
    "COIFT": ("thin_object_detection/COIFT/images", "thin_object_detection/COIFT/masks"),
    "HRSOD": ("thin_object_detection/HRSOD/images", "thin_object_detection/HRSOD/masks_max255"),
}


class HqSeg44k(FileDataset):
    """The four validation parts; a sample is called PART/NAME.

    Args:
        root, limit, shard, name: see `FileDataset`; `root` is the folder that holds DIS5K and
            thin_object_detection.
        above: object above this value: 0 (SegNext, Inter2Former) or 128 (HQ-SAM).
        subsets: parts to use, of DIS-VD, ThinObject5K, COIFT, HRSOD.
        note: default names the binarisation, and the parts unless all four.
    """

    layout = "DIS5K/DIS-VD/{im,gt} and thin_object_detection/{ThinObject5K/{images_test,masks_test},COIFT/{images,masks},HRSOD/{images,masks_max255}}"  # noqa: E501

    def __init__(
        self,
        root: str | None,
        above: int = 0,
        subsets: Sequence[str] = tuple(PARTS),
        limit: int | None = None,
        shard: str | None = None,
        name: str = "hqseg44k",
        note: str | None = None,
    ):
        if above not in (0, 128):
            raise UserError(f"dataset.above={above}: the field binarises HQSeg-44K at 0 or 128.")
        for subset in subsets:
            if subset not in PARTS:
                raise UserError(f"dataset.subsets: unknown part {subset!r}. {near_miss(subset, PARTS)}")
        self.subsets = tuple(subsets)
        self.parts = [folder for subset in self.subsets for folder in PARTS[subset]]
        self.rule = Rule(above=above)
        described = f">{above}" + ("" if len(self.subsets) == len(PARTS) else ", " + "+".join(self.subsets))
        super().__init__(root, limit, shard, name, described if note is None else note)

    def listing(self) -> Listing:
        """Pairs by stem of each part."""
        entries: list[Entry] = []
        stray: list[str] = []
        for subset in self.subsets:
            images, masks = PARTS[subset]
            pairs = pairs_by_stem(self.root / images, self.root / masks, prefix=f"{subset}/")
            entries += pairs.entries
            stray += pairs.stray
        return Listing(entries, stray)
