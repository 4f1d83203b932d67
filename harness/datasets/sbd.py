"""SBD (Hariharan et al. 2011), validation: 2,857 images; each of the 6,671 instances is a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from harness.datasets.files import FileDataset
from harness.datasets.instances import instance_entries
from harness.datasets.pairs import Entry, Listing, by_stem
from harness.datasets.problems import Unreadable
from harness.datasets.split_list import listed_pairs


class Sbd(FileDataset):
    """`img/*.jpg`, `inst/*.mat` (GTinst.Segmentation) and `SPLIT.txt`.

    Args:
        root, limit, shard, name, note: see `FileDataset`.
        split: name of the split file without ending: val, train or train_val.
    """

    layout = "img/NAME.jpg with inst/NAME.mat (field GTinst.Segmentation), names in val.txt"

    def __init__(
        self,
        root: str | None,
        split: str = "val",
        limit: int | None = None,
        shard: str | None = None,
        name: str = "sbd",
        note: str = "",
    ):
        self.split = split
        self.parts = ("img", "inst", f"{split}.txt")
        super().__init__(root, limit, shard, name, note)

    def listing(self) -> Listing:
        """One entry per instance of the split; opens each .mat once, and remembers what it held."""
        images, masks = by_stem(self.root / "img"), by_stem(self.root / "inst", (".mat",))
        pairs = listed_pairs(self.root / f"{self.split}.txt", images, masks, "img/{}.jpg", "inst/{}.mat")
        return Listing(list(instance_entries(pairs, _instances, kind="sbd instances and areas")))

    def read_values(self, entry: Entry) -> np.ndarray:
        """(H, W) instance numbers."""
        assert entry.mask is not None
        return segmentation(entry.mask)

    def reading_of(self, path: Path) -> str:
        """MATLAB files have one reading."""
        return ""


def segmentation(path: Path) -> np.ndarray:
    """(H, W) instance numbers of an SBD file, 0 is background.

    Raises:
        Unreadable: not a MATLAB file of this kind.
    """
    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False)
    except NotImplementedError as error:  # HDF5
        raise Unreadable(
            f"{path}: saved by MATLAB 7.3 or later, which is HDF5; save it with -v7, or fetch SBD's own file."
        ) from error
    except Exception as error:  # SciPy raises many kinds for a damaged file
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unreadable(f"{path}: cannot be read as a MATLAB file ({why}); fetch it again.") from error
    values = getattr(content.get("GTinst"), "Segmentation", None)
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "buif":
        fields = ", ".join(k for k in content if not k.startswith("__")) or "nothing"
        raise Unreadable(
            f"{path}: no field GTinst.Segmentation (it holds: {fields}); take the files of SBD's folder inst, not cls."
        )
    return values


def _instances(path: Path) -> list[list[int]]:
    values, pixels = np.unique(segmentation(path), return_counts=True)
    return [[int(v), int(n)] for v, n in zip(values, pixels, strict=True) if v > 0]
