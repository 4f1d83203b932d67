"""Batches as a function of the step: nothing to remember, so that a resumed run sees what it would have seen.

The sample at a place of batch `step` is drawn from a generator seeded by (seed, step, place). The order of the
photographs is a fresh permutation per epoch. The next batches are made by threads while the model trains; OpenCV
releases the lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from harness.sample import Sample
from harness.training.augmentation import Augmentation, crop
from harness.training.material import Material


@dataclass(frozen=True)
class Batch:
    """Training samples of one size.

    Attributes:
        step: its number, from 0.
        images: (B, S, S, 3) uint8 RGB.
        masks: (B, S, S) uint8: 1 object, 0 background, 255 ignore.
    """

    step: int
    images: np.ndarray
    masks: np.ndarray


class Batches:
    """Makes the batch of any step.

    Args:
        material: where samples come from.
        how: augmentation.
        seed: decides everything.
        batch: samples per step and process at the first size; greater sizes get fewer, for about as many pixels.
        sizes: sides of the crops in pixels; each step takes one at random.
        rank, world: this process and their number.
    """

    def __init__(
        self,
        material: Material,
        how: Augmentation,
        seed: int,
        batch: int,
        sizes: Sequence[int],
        rank: int = 0,
        world: int = 1,
    ):
        self.material, self.how, self.seed = material, how, seed
        self.batch, self.sizes = batch, tuple(sizes)
        self.rank, self.world = rank, world
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def size(self, step: int) -> tuple[int, int]:
        """(samples, side) of a step; the same for all processes."""
        side = int(self.sizes[int(np.random.default_rng((self.seed, step, 1)).integers(len(self.sizes)))])
        return max(round(self.batch * (self.sizes[0] / side) ** 2), 1), side

    def sample(self, step: int, place: int) -> Sample:
        """The augmented sample at one place of a batch; place counts over all processes."""
        random = np.random.default_rng((self.seed, step, 2, place))
        _, side = self.size(step)
        index = self._index(step * self.batch * self.world + place)
        for _ in range(4):
            cropped = crop(self.material.draw(index, random), side, self.how, random)
            if (cropped.mask == 1).sum() >= 32:
                return cropped
            index = int(random.integers(len(self.material.photographs)))
        return cropped

    def make(self, step: int) -> Batch:
        """The batch of a step."""
        count, _ = self.size(step)
        samples = [self.sample(step, self.rank * count + place) for place in range(count)]
        return Batch(step, np.stack([s.image for s in samples]), np.stack([s.mask for s in samples]))

    def from_step(self, first: int, last: int, threads: int = 1, ahead: int = 3) -> Iterator[Batch]:
        """Batches first, …, last - 1, made ahead by threads."""
        with ThreadPoolExecutor(max_workers=max(threads, 1)) as pool:
            waiting: deque[Future[Batch]] = deque()
            for step in range(first, last + ahead):
                if step < last:
                    waiting.append(pool.submit(self.make, step))
                if step - first >= ahead and waiting:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _index(self, position: int) -> int:
        count = len(self.material.photographs)
        epoch, place = divmod(position, count)
        epoch_order = self._epoch  # kept in a local name: another thread may move on to the next epoch meanwhile
        if epoch_order[0] != epoch:
            epoch_order = (epoch, np.random.default_rng((self.seed, epoch, 0)).permutation(count))
            self._epoch = epoch_order
        return int(epoch_order[1][place])
