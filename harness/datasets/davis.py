"""The 345 DAVIS frames of the field, in its two packages; their masks and therefore their numbers differ.

RITM's package (also the layout of COCO_MVal) has no ignored pixels; FocusCut's has, at value 255. The same
model has been published with NoC@90 5.54 on one and 6.19 on the other.
"""

from __future__ import annotations

import numpy as np

from harness.datasets.files import FileDataset
from harness.datasets.masks import Rule
from harness.datasets.pairs import Listing, by_stem, pairs_by_stem
from harness.datasets.split_list import listed_pairs


class Davis(FileDataset):
    """RITM's package: `img/*.jpg` with `gt/*.png`; any channel above 0 is object. Arguments:
    `FileDataset`."""

    called = "davis"
    layout = "img/NAME.jpg with gt/NAME.png"
    parts = ("img", "gt")
    rule = Rule(above=0)

    def listing(self) -> Listing:
        """Pairs by stem."""
        return pairs_by_stem(self.root / "img", self.root / "gt")


class DavisFocusCut(FileDataset):
    """FocusCut's package: `img/`, `gt/` and `list/val.txt`; 255 is ignored, any other value above 0 is
    object.

    Arguments: `FileDataset`.
    """

    called = "davis_focuscut"
    layout = "img/NAME.jpg with gt/NAME.png (object 1, ignored 255), names in list/val.txt"
    parts = ("img", "gt", "list/val.txt")
    rule = Rule(above=0, ignore=255, indices=True)

    def listing(self) -> Listing:
        """The names of the split file."""
        images, masks = by_stem(self.root / "img"), by_stem(self.root / "gt")
        return Listing(listed_pairs(self.root / "list" / "val.txt", images, masks, "img/{}.*", "gt/{}.*"))

    def why_empty(self, rule: Rule, values: np.ndarray) -> str:
        """Masks of 0 and 255 come from the other package."""
        if set(np.unique(values).tolist()) <= {0, 255} and values.any():
            return (
                "its values are 0 and 255, and 255 is ignored in FocusCut's package; "
                "this is RITM's package: read it with dataset=davis."
            )
        return super().why_empty(rule, values)
