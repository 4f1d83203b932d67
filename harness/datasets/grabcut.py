"""GrabCut (Rother et al. 2004): 50 images; masks of 0, 128 (ignored band along the outline) and 255."""

from __future__ import annotations

from harness.datasets.files import FileDataset
from harness.datasets.masks import Rule
from harness.datasets.pairs import Listing, pairs_by_stem


class GrabCut(FileDataset):
    """`data_GT/*` with `boundary_GT/*` of the same stem; object above 128, 128 ignored. Arguments:
    `FileDataset`."""

    called = "grabcut"
    layout = "data_GT/NAME.jpg (or .bmp) with boundary_GT/NAME.bmp (or .png)"
    parts = ("data_GT", "boundary_GT")
    rule = Rule(above=128, ignore=128)

    def listing(self) -> Listing:
        """Pairs by stem."""
        return pairs_by_stem(self.root / "data_GT", self.root / "boundary_GT")
