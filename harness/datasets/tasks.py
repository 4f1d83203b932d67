"""Held-out tasks that no data set marks: the background, a pasted object, a region, asked for in one's own photographs.

What training draws at random (`training.mixture`) can so be measured on other photographs, always the same tasks.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from harness.datasets.folder import Folder
from harness.datasets.synthesis import complement, paste, region
from harness.errors import SampleError, UserError, near_miss
from harness.sample import Sample

TASKS = ("object", "background", "pasted", "region")
_TRIES = 20


class Tasks(Folder):
    """Pairs of a folder with another question asked of each photograph.

    Args:
        root, images, masks, above, limit, shard: as for `Folder`.
        task: `object`: the marked one; `background`: everything else; `pasted`: an object of another photograph of
            the folder laid over this one, and it, the original or both asked for; `region`: of similar colour, its
            edge ignored.
        seed: of the draws; each sample's depends on its name, too, not on the selection.
        name: defaults to the task.
        note: shown beside the name in every table.
    """

    def __init__(
        self,
        root: str | None,
        task: str = "object",
        seed: int = 0,
        images: str = "images",
        masks: str = "masks",
        above: int = 0,
        limit: int | None = None,
        shard: str | None = None,
        name: str | None = None,
        note: str = "",
    ):
        if task not in TASKS:
            raise UserError(f"dataset.task: unknown {task!r}. {near_miss(task, TASKS)}")
        self.task, self.seed = task, int(seed)
        note = note or f"task drawn by the harness, seed {seed}: {task}"
        super().__init__(root, images, masks, above=above, limit=limit, shard=shard, name=name or task, note=note)

    def load(self, name: str) -> Sample:
        """The task made from one photograph.

        Raises:
            SampleError: the pair cannot be read, or the photograph does not give such a task.
        """
        sample = super().load(name)
        if self.task == "object":
            return sample
        random = np.random.default_rng((self.seed, zlib.crc32(name.encode())))
        for _ in range(_TRIES):
            task = self._made(sample, random)
            if task is not sample:
                return task
        raise SampleError(f"{name}: gives no task of kind {self.task!r} (object or background too small)")

    def _made(self, sample: Sample, random: np.random.Generator) -> Sample:
        if self.task == "background":
            return complement(sample, random)
        if self.task == "region":
            return region(sample, random)
        # Drawn from the whole folder, so that a sample is the same whatever limit and shard select.
        everyone = self.listed.entries
        other = everyone[int(random.integers(len(everyone)))]
        if other.problem is not None or other.image is None:
            return sample
        return paste(sample, self.pair(other), random)

    def digest(self) -> str:
        """As the folder's, with task and seed; pasted objects count by name only."""
        names = [entry.name for entry in self.listed.entries]
        mixed = zlib.crc32(f"{self.task} {self.seed} {names}".encode())
        return super().digest()[:24] + f"{mixed:08x}"

    def record(self) -> dict[str, Any]:
        """As the folder's, with task and seed."""
        return {**super().record(), "task": self.task, "seed": self.seed}
