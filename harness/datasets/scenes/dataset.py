"""`scenes`: composed at run time from photographs inside wheels: something to click on without any download.

The mask is exact, since the object was put there; the scenes are nobody's photographs, so tables say "composed".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from harness.datasets.pairs import check_limit, parse_shard, select
from harness.datasets.scenes import photos
from harness.datasets.scenes.composition import VERSION, Recipe, compose
from harness.errors import UserError, near_miss
from harness.sample import Sample

_SPLITS = ("test", "train")
_LEVELS = ("hard", "plain")


class Scenes:
    """Composed scenes; see `scenes_composition.compose` for what is in one.

    Args:
        count: number of scenes.
        seed: other scenes for another seed.
        split: "test" or "train": no scene is in both.
        longest: longest side in pixels; None: drawn between 640 and 1536 for each scene.
        root: folder with photographs of your own; None: those inside scikit-image and scikit-learn.
        level: "hard" (thin, tiny, pierced and camouflaged objects among the others) or "plain" (compact ones).
        limit, shard: a stable subset, and a share "i/n" of it.

    Raises:
        UserError: unknown split, a count or side too small, a folder without photographs.
    """

    name = "scenes"
    note = "composed"

    def __init__(
        self,
        count: int = 12,
        seed: int = 0,
        split: str = "test",
        longest: int | None = None,
        root: str | None = None,
        level: str = "hard",
        limit: int | None = None,
        shard: str | None = None,
    ):
        if level not in _LEVELS:
            raise UserError(f"dataset.level={level!r}. {near_miss(str(level), _LEVELS)}")
        if split not in _SPLITS:
            raise UserError(f"dataset.split={split!r}. {near_miss(str(split), _SPLITS)}")
        if not isinstance(count, int) or count < 1:
            raise UserError(f"dataset.count={count}: the number of scenes must be at least 1.")
        if longest is not None and not 64 <= longest <= 4096:
            raise UserError(f"dataset.longest={longest}: the longest side must be 64 to 4096 pixels, or null.")
        if root is not None:
            photos.own_photographs(root)
        self.seed, self.split, self.longest, self.root, self.level = seed, split, longest, root, level
        self.note = "composed" if level == "hard" else "composed, plain"
        everything = [self._recipe(i) for i in range(count)]
        chosen = select(everything, check_limit(limit), parse_shard(shard))
        self.names: Sequence[str] = [f"{r.split}{r.seed}-{r.index:04d}-{r.kind}" for r in chosen]

    def __len__(self) -> int:
        return len(self.names)

    def load(self, name: str) -> Sample:
        """Compose the scene; the same pixels every time."""
        match = re.fullmatch(rf"{self.split}{self.seed}-(\d+)-\w+", name)
        if match is None:
            raise KeyError(f"{name!r} is no scene of this set")
        image, mask = compose(self._recipe(int(match[1])))
        return Sample(name, image, mask)

    def digest(self) -> str:
        """Hash of everything that decides the scenes: generator version, parameters, the photographs' bytes."""
        hashed = hashlib.sha256(repr((VERSION, self.split, self.seed, self.longest, list(self.names))).encode())
        if self.level != "hard":
            hashed.update(self.level.encode())
        for path in self._photographs():
            hashed.update(path.name.encode())
            hashed.update(path.read_bytes())
        return hashed.hexdigest()[:32]

    def _photographs(self) -> list[Path]:
        if self.root is not None:
            return [Path(self.root) / name for name in photos.own_photographs(self.root)]
        return [photos.inside_wheel(name) for name in photos.FILLINGS]

    def _recipe(self, index: int) -> Recipe:
        return Recipe(self.split, self.seed, index, self.longest, self.root, self.level == "plain")
