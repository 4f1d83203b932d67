"""What the board shows of an entry: its metrics, what a click costs, and the marks that must stand beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from harness.scoring.registry import metric
from reports.repository import cards
from reports.repository.as_runs import newest
from reports.repository.entry import TRAINED
from reports.repository.store import Stored
from reports.tables.table import Value

METRICS = ("noc85", "noc90", "noc95", "nof90", "miou5", "biou5")


@dataclass(frozen=True)
class Mark:
    """A word beside a number, and what it means."""

    word: str
    meaning: str


MARKS: Mapping[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("trained on this data set", "its training sets hold images of this data set: the number is no test"),
        Mark("trained on this collection", "its training sets hold other images of the same collection"),
        Mark("training data unknown", "nobody published what its weights saw"),
        Mark("own weights", "trained by this project, not by the method's authors"),
        Mark("untrained", "random weights: shows that it runs, says nothing of quality, is never ranked"),
        Mark("small", "fewer than 30 samples: see the interval"),
        Mark("composed", "pictures composed by a program, no photographs of a benchmark"),
        Mark("verified", "run again by a maintainer: equal rows, or no difference shown"),
        Mark("contended", "some of its times were taken while other work ran: doubtful"),
        Mark("uncommitted code", "made with code that is in no commit"),
        Mark("other settings", "settings differ from those that the protocol asks for"),
    )
}


@dataclass(frozen=True)
class Cost:
    """What a click of a system costs on one kind of machine.

    Attributes:
        online, spc20, encode: ms with their intervals; condition: threads and size.
        gmacs: of a click after the first; gmacs_image: of the encoding.
        times_from, flops_from: ids of the entries that were measured; "" where there is none.
        times_on: the data set whose images were timed.
        contended: whether one of these times was taken beside other work.
    """

    online: Value = Value(missing="not timed")
    spc20: Value = Value(missing="not timed")
    encode: Value = Value(missing="not timed")
    condition: str = ""
    gmacs: Value = Value(missing="not counted")
    gmacs_image: Value = Value(missing="not counted")
    times_from: str = ""
    flops_from: str = ""
    contended: bool = False
    times_on: str = ""


@dataclass(frozen=True, eq=False)
class Line:
    """One entry as a line of the board.

    Attributes:
        values: metric -> its value in the shown unit.
        cost: of this system on this kind of machine, measured in this entry or in another one of the two.
    """

    stored: Stored
    values: Mapping[str, Value]
    cost: Cost
    marks: tuple[Mark, ...]

    @property
    def id(self) -> str:
        """The entry's id, its permanent name."""
        return self.stored.entry.id

    @property
    def ranked(self) -> bool:
        """Whether its quality may be ranked."""
        return self.stored.entry.weights.status in (*TRAINED, "no weights")

    @property
    def noc90(self) -> float:
        """To sort by; infinite where it may not be ranked."""
        value = self.values["noc90"].measured if "noc90" in self.values else None
        return math.inf if value is None or not self.ranked else value


def lines(stored: Sequence[Stored]) -> list[Line]:
    """The newest entry of each system, data set, protocol and kind of machine, best NoC@90 first."""
    costs: dict[tuple[str, str], Cost] = {}
    several = []
    for one in newest(stored):
        key = (one.entry.system, one.entry.machine.kind)
        if key not in costs:
            costs[key] = _cost([s for s in stored if (s.entry.system, s.entry.machine.kind) == key])
        cost = _cost([one], costs[key])
        several.append(Line(one, _values(one), cost, _marks(one, cost)))
    return sorted(several, key=lambda line: (line.noc90, line.stored.entry.system, line.stored.entry.path))


def _values(one: Stored) -> dict[str, Value]:
    values = {}
    for key in METRICS:
        stored, m = one.value(key), metric(key)
        if stored is None:
            values[key] = Value(missing="not in this protocol")
            continue
        number, low, high = (v * m.scale for v in stored)
        digits = 1 if m.unit == "%" else m.digits
        values[key] = _with_limits(number, low, high, digits)
    return values


def _with_limits(number: float, low: float, high: float, digits: int) -> Value:
    known = math.isfinite(low) and math.isfinite(high)
    return Value(number, low if known else None, high if known else None, digits=digits, too_few=True)


def _cost(stored: Iterable[Stored], other: Cost | None = None) -> Cost:
    """What the newest of these entries measured; what none of them did is `other`'s."""
    cost = other or Cost()
    for one in sorted(stored, key=lambda s: s.entry.at):
        cost = _with_times(cost, one)
        cost = _with_flops(cost, one)
    return cost


def _with_times(cost: Cost, one: Stored) -> Cost:
    frame = one.table("latency.csv")
    if len(frame) == 0:
        return cost
    frame = frame[frame["median_ms"].notna() & frame["size_bin"].isin(("", "all"))]
    if len(frame) == 0:
        return cost
    threads = frame["threads"].min()
    side = frame.loc[frame["threads"] == threads, "resolution"].max()
    frame = frame[(frame["threads"] == threads) & (frame["resolution"] == side)]
    contended = bool((frame["contended"].astype(str).str.strip() != "").any())
    condition = f"{threads} thread{'' if threads == 1 else 's'}, {side} px"
    return replace(
        cost,
        online=_time(frame, "online_spc"),
        spc20=_time(frame, "spc20"),
        encode=_time(frame, "encode"),
        condition=condition,
        times_from=one.entry.id,
        contended=contended,
        times_on=one.entry.data.name,
    )


def _time(frame: pd.DataFrame, kind: str) -> Value:
    rows = frame[frame["kind"] == kind]
    if len(rows) == 0:
        return Value(missing="not timed")
    median, low, high = (float(rows[name].iloc[0]) for name in ("median_ms", "low_ms", "high_ms"))
    return _with_limits(median, low, high, 1)


def _with_flops(cost: Cost, one: Stored) -> Cost:
    frame = one.table("flops.csv")
    if len(frame) == 0:
        return cost
    frame = frame[(frame["part"] == "total") & frame["size_bin"].isin(("", "all")) & frame["gmacs"].notna()]
    return replace(cost, gmacs=_gmacs(frame, "later"), gmacs_image=_gmacs(frame, "encode"), flops_from=one.entry.id)


def _gmacs(frame: pd.DataFrame, kind: str) -> Value:
    rows = frame[frame["kind"] == kind]
    rows = rows[rows["resolution"] == rows["resolution"].max()] if "resolution" in rows else rows
    return Value(float(rows["gmacs"].iloc[0]), digits=2) if len(rows) else Value(missing="not counted")


def _marks(one: Stored, cost: Cost) -> tuple[Mark, ...]:
    entry = one.entry
    saw = cards.saw(entry)
    words = [
        ("trained on this data set", saw == "images"),
        ("trained on this collection", saw == "part"),
        ("training data unknown", saw == "unknown"),
        ("own weights", entry.weights.status == "trained here"),
        ("untrained", entry.weights.status not in (*TRAINED, "no weights")),
        ("small", entry.small),
        ("composed", entry.data.note.startswith("composed")),
        ("verified", one.verification is not None),
        ("contended", cost.contended),
        ("uncommitted code", entry.code.dirty),
        ("other settings", bool(entry.deviations)),
    ]
    return tuple(MARKS[word] for word, holds in words if holds)


def entry_lines(stored: Sequence[Stored]) -> list[Line]:
    """Every entry as a line, newest first, with its own cost only."""
    ordered = sorted(stored, key=lambda s: (s.entry.at, s.entry.id), reverse=True)
    costs = [_cost([one]) for one in ordered]
    return [Line(one, _values(one), cost, _marks(one, cost)) for one, cost in zip(ordered, costs, strict=True)]
