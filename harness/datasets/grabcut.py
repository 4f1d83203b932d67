"""GrabCut (Rother et al. 2004): 50 images; masks of 0, 128 (ignored band along the outline) and 255."""

from __future__ import annotations

import numpy as np

from harness.datasets.files import Entry, FileDataset, Listing, pairs_by_stem
from harness.datasets.masks import Rule
from harness.errors import SampleError


class GrabCut(FileDataset):
    """`data_GT/*` with `boundary_GT/*` of the same stem; object above 128, 128 ignored."""

    layout = "data_GT/NAME.jpg (or .bmp) with boundary_GT/NAME.bmp (or .png)"
    parts = ("data_GT", "boundary_GT")
    rule = Rule(above=128, ignore=128)

    def __init__(
        self,
        root: str | None,
        limit: int | None = None,
        shard: str | None = None,
        name: str = "grabcut",
        note: str = "",
    ):
        super().__init__(root, limit, shard, name, note)

    def listing(self) -> Listing:
        """Pairs by stem."""
        return pairs_by_stem(self.root / "data_GT", self.root / "boundary_GT")

    def mask_of(self, entry: Entry, values: np.ndarray) -> np.ndarray:
        """As the rule says; a mask of small values only would become empty without a word."""
        return above_128(entry, values, self.rule)


def above_128(entry: Entry, values: np.ndarray, rule: Rule) -> np.ndarray:
    """Apply a rule "object above 128"; SampleError for a mask that was plainly stored as 0/1."""
    strongest = int(values.max(initial=0))
    if 0 < strongest < 128:
        raise SampleError(
            f"{entry.mask}: largest value {strongest}, but the object must be above 128; store it as 0/255 "
            f"(multiply by 255), or read it with dataset=folder dataset.above=0."
        )
    return rule.apply(values)
