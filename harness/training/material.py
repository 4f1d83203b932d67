"""What a training sample asks for, beyond the one salient object that a data set marks: `Mixture` says how often.

`object`      the marked object.
`background`  everything but the marked object: clicks count, not salience.
`pasted`      an object of another photograph laid over this one; asked for is it, the original object, or both.
`region`      a region of similar colour, with an ignored band around its uncertain edge: stuff and parts.
`scene`       a composed scene, where a second data set offers some.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from harness.datasets.synthesis import complement, paste, region
from harness.sample import Sample
from harness.training.packed import Packed


@dataclass(frozen=True)
class Mixture:
    """How often each kind is drawn, relative to each other."""

    object: float = 0.55
    background: float = 0.08
    pasted: float = 0.2
    region: float = 0.07
    scene: float = 0.1

    def shares(self) -> dict[str, float]:
        """The weights, adding up to 1."""
        values = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        total = sum(values.values())
        return {name: value / total for name, value in values.items()}


class Material:
    """Draws training samples.

    Args:
        photographs: packed data set with one marked object per image.
        scenes: packed composed scenes; None: `scene` gives an `object`.
        mixture: how often each kind is drawn.
    """

    def __init__(self, photographs: Packed, scenes: Packed | None, mixture: Mixture):
        self.photographs, self.scenes = photographs, scenes
        shares = mixture.shares()
        self._kinds, self._shares = list(shares), list(shares.values())
        self._make: dict[str, Callable[[Sample, np.random.Generator], Sample]] = {
            "object": lambda sample, _: sample,
            "background": complement,
            "pasted": self._pasted,
            "region": region,
            "scene": self._scene,
        }

    def draw(self, index: int, random: np.random.Generator) -> Sample:
        """A task made from photograph `index`; a kind that this photograph cannot give falls back to its object."""
        kind = self._kinds[int(random.choice(len(self._kinds), p=self._shares))]
        return self._make[kind](self.photographs.load(index), random)

    def _pasted(self, sample: Sample, random: np.random.Generator) -> Sample:
        other = self.photographs.load(int(random.integers(len(self.photographs))))
        return paste(sample, other, random)

    def _scene(self, sample: Sample, random: np.random.Generator) -> Sample:
        if self.scenes is None:
            return sample
        return self.scenes.load(int(random.integers(len(self.scenes))))
