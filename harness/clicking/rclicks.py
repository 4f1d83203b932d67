"""Ten less and more likely annotators beside the robot (RClicks, Antonov et al., NeurIPS 2024).

Group g1 clicks in the least likely tenth of the probability that a clickability map gives to the error region, g10 in
the most likely tenth; the base is the robot of `Ritm`. `docs/protocols.md` says what is made of their episodes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.clicking.annotators import ErrorSession, Ritm, RitmSession, generator, is_deeper
from harness.clicking.clickability import MAPS, Map, Weighted, as_map, box_of, scaled
from harness.clicking.distance import Depth
from harness.clicking.groups import Group
from harness.clicking.people import Recorded
from harness.errors import UserError
from harness.sample import Sample
from harness.segmenter import Click

GROUPS = tuple(f"g{number}" for number in range(1, 11))
EDGES = tuple(number / 10 for number in range(11))
"""Group g(i) has the band from EDGES[i - 1] to EDGES[i]: together they are the whole probability."""


@dataclass(frozen=True)
class RClicks:
    """The robot, and beside it the ten groups; with a file of recorded clicks also the first clicks of people.

    Args:
        map: `distance`, `uniform`, or a callable by `_target_` (harness/clicking/clickability.py).
        seed: with the sample's name and the group it decides everything.
        first_clicks: CSV of recorded clicks; the first click of each user on a sample is answered, too (User@1).
        dataset: rows of that file whose `dataset` is another one are left out; null: all rows count.
    """

    map: Any = "distance"
    seed: int = 0
    first_clicks: str | None = None
    dataset: str | None = None
    name = "rclicks"
    further = len(GROUPS)
    _map: Map = field(init=False, repr=False, compare=False)
    _map_record: dict[str, Any] | str = field(init=False, repr=False)
    _people: Recorded | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UserError(f"protocol.annotator.seed={self.seed!r}: give a whole number.")
        click_map, record = as_map(self.map)
        people = None if self.first_clicks is None else Recorded(self.first_clicks, dataset=self.dataset)
        for name, value in (("_map", click_map), ("_map_record", record), ("_people", people)):
            object.__setattr__(self, name, value)

    @property
    def label(self) -> str:
        """What every table says beside the protocol's name: which map."""
        record = self._map_record
        return f"map {record if isinstance(record, str) else record.get('name', 'unnamed')}"

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules beside this one whose code decides where it clicks: that of the map."""
        inner = self._map.func if isinstance(self._map, functools.partial) else self._map
        return (str(inner.__module__),)

    def record(self) -> dict[str, Any]:
        """Machine-readable form."""
        people = {} if self._people is None else {"first_clicks": self._people.digest}
        return {"name": self.name, "map": self._map_record, "seed": self.seed, **people}

    def check(self, dataset: Any) -> None:
        """UserError if the file of first clicks is not of this data set."""
        if self._people is not None:
            self._people.check(dataset)

    def start(self, sample: Sample) -> RitmSession:
        """The robot's episode: the base."""
        return Ritm().start(sample)

    def groups(self, sample: Sample) -> Iterator[Group]:
        """The other episodes of a sample: ten groups, then one click of each recorded user."""
        clickability = _Clickability(self._map, self.label, sample)
        for number, name in enumerate(GROUPS):
            random = generator(self.seed, f"{sample.name}\n{name}")
            yield Group(name, BandSession(sample, clickability, (EDGES[number], EDGES[number + 1]), random))
        if self._people is not None and sample.name in self._people.recording.episodes:
            yield from self._people.first_clicks(sample)


class BandSession(ErrorSession):
    """One episode of a group: clicks drawn from one band of the probability.

    Args:
        clickability: of the sample; groups share it, since they often see the same error.
        band: (low, high) part of the probability, 0..1, from the least likely up.
        random: of this episode alone.
    """

    def __init__(
        self,
        sample: Sample,
        clickability: _Clickability,
        band: tuple[float, float],
        random: np.random.Generator,
    ):
        super().__init__(sample)
        self._clickability, self._band, self._random = clickability, band, random

    def click(self, prediction: np.ndarray) -> Click | None:
        """Next click for a (H, W) bool prediction; None when there is no error left that was not clicked."""
        maps = self._truth.errors(prediction)
        missed, excess = (Depth(error, self._clicked) for error in maps)
        positive = is_deeper(missed, excess)
        chosen = missed if positive else excess
        if chosen.bounds[1] == 0:
            return None
        place = self._clickability.of(maps[0 if positive else 1], self._clicked).draw(*self._band, self._random)
        if place is None:  # the map is zero on the whole error: the robot's pixel
            y, x = (int(v) for v in chosen.deepest().at[0])
        else:
            y, x = divmod(place, prediction.shape[1])
        self._clicked.append((y, x))
        return Click(y, x, positive)


class _Clickability:
    """The map on the errors of one sample; the last answer is kept, since the groups begin with the same error."""

    def __init__(self, map: Map, name: str, sample: Sample):
        self._map, self._name, self._sample = map, name, sample
        self._error: np.ndarray | None = None
        self._first: Weighted | None = None

    def of(self, error: np.ndarray, clicked: list[tuple[int, int]]) -> Weighted:
        """Pixels of a (H, W) uint8 error region that may be clicked."""
        if not clicked and self._first is not None and np.array_equal(self._error, error):  # type: ignore[arg-type]
            return self._first
        if self._map in MAPS.values():
            rows, columns = box_of(error)
            inside = np.ascontiguousarray(error[rows, columns])
            field = self._map(self._sample.image, self._sample.mask, inside)
            weighted = Weighted.of(field, inside, clicked, (rows.start, columns.start), error.shape[1])
        else:
            field = scaled(self._map(self._sample.image, self._sample.mask, error), error.shape, self._name)
            weighted = Weighted.of(field, error, clicked)
        if not clicked:
            self._error, self._first = error, weighted
        return weighted
