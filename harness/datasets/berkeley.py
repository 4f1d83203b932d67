"""Berkeley (McGuinness and O'Connor 2010): 100 objects in 96 images; several masks of one image are NAME#1,
NAME#2."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.files import FileDataset
from harness.datasets.masks import Rule
from harness.datasets.pairs import Entry, Listing, by_stem, pair
from harness.text import sample_name


class Berkeley(FileDataset):
    """`images/*` with `masks/*`; the masks decide what a sample is. Arguments: `FileDataset`.

    The image of mask NAME#K is images/NAME#K.* where there is one, else images/NAME.*. Mask values as in
    GrabCut.
    """

    called = "berkeley"
    layout = "images/NAME.jpg with masks/NAME.png (several objects of one image: masks/NAME#1.png, masks/NAME#2.png)"
    parts = ("images", "masks")
    rule = Rule(above=128, ignore=128)

    def listing(self) -> Listing:
        """One entry per mask, and one with its problem per image without a mask."""
        images, masks = by_stem(self.root / "images"), by_stem(self.root / "masks")
        used: set[str] = set()
        entries = []
        for stem, paths in masks.items():
            image = stem if images.of(stem) or "#" not in stem else stem.rpartition("#")[0]
            used |= {sample_name(path.stem) for path in images.of(image)}
            entries.append(pair(stem, images.of(image), paths, f"images/{image}.*", f"masks/{stem}.*"))
        entries += [self._without_mask(stem, paths) for stem, paths in images.items() if stem not in used]
        return Listing(entries)

    @staticmethod
    def _without_mask(stem: str, images: list[Path]) -> Entry:
        return pair(stem, images, [], f"images/{stem}.*", f"masks/{stem}.* (or {stem}#1.*)")
