"""Series of one number over many results: from runs' folders, or from the entries of a repository."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.cli import EXIT_FAILURES, EXIT_UNDECIDED
from harness.scoring.registry import metric
from reports.read.runs import Run
from reports.repository import naming
from reports.tables.speed import SPC
from reports.tables.table import Column, Row, Table, Value
from reports.tables.timeline import age, name
from reports.trend.changes import FEWEST, Step, steps


@dataclass(frozen=True)
class Point:
    """One result: what it is called (commit, day), and the number."""

    label: str
    value: float


@dataclass(frozen=True)
class Series:
    """One number of one system under equal conditions, oldest result first.

    Attributes:
        system: or variant.
        what: the condition in words: data set, protocol and metric, or machine and time.
        unit, digits: of the number.
        time: whether it is a time: judged by ratios, and lower is better.
        better: "low" or "high".
    """

    system: str
    what: str
    points: tuple[Point, ...]
    unit: str
    digits: int
    time: bool
    better: str

    @property
    def values(self) -> list[float]:
        """The numbers alone."""
        return [p.value for p in self.points]

    @property
    def long_enough(self) -> bool:
        """Whether a change could be seen."""
        return len(self.points) >= 2 * FEWEST

    def steps(self) -> list[Step]:
        """Changes of level."""
        return steps(self.values, logarithmic=self.time)

    def worse(self, step: Step) -> bool:
        """Whether a step is a change for the worse."""
        return (step.after > step.before) == (self.better == "low")


def of_runs(runs: Sequence[Run]) -> list[Series]:
    """Every series with two points or more; runs in the order of their age.

    Times are of one kind of machine and one condition; quality is of one data set (by content) and set of rules.
    """
    points_of: dict[tuple[str, str, bool], list[Point]] = {}
    facts: dict[tuple[str, str, bool], tuple[str, int, str]] = {}
    for run in runs:
        for key, value, fact in [*_quality(run), *_times(run)]:
            points_of.setdefault(key, []).append(Point(f"{name(run)}, {age(run)}", value))
            facts[key] = fact
    return [
        Series(key[0], key[1], tuple(points), facts[key][0], facts[key][1], key[2], facts[key][2])
        for key, points in points_of.items()
        if len(points) > 1
    ]


def _quality(run: Run) -> Iterable[tuple[tuple[str, str, bool], float, tuple[str, int, str]]]:
    m = metric(run.primary)
    rows = run.summary[(run.summary["metric"] == run.primary) & run.summary["size_bin"].isin(("", "all"))]
    for line in rows.to_dict("records"):
        dataset = str(line["dataset"])
        rules = f"{run.protocol(dataset)} {run.versions(dataset)}, data {run.digest(dataset)[:8] or 'not recorded'}"
        yield (
            (str(line["variant"]), f"{m.title} on {dataset} ({rules})", False),
            float(line["value"]) * m.scale,
            (m.unit, m.digits, m.better),
        )


def _times(run: Run) -> Iterable[tuple[tuple[str, str, bool], float, tuple[str, int, str]]]:
    rows = run.latency[run.latency["kind"].isin(SPC) & run.latency["median_ms"].notna()]
    rows = rows[rows["size_bin"].isin(("", "all")) & ~rows["contended"].astype(str).str.strip().ne("")]
    machine = str(run.machine.get("kind") or naming.machine_kind(run.machine))
    for line in rows.to_dict("records"):
        what = f"{SPC[line['kind']]}, {line['threads']} threads, {line['resolution']} px, {machine}"
        what += f", definition {line['timing_version']}"
        yield (str(line["variant"]), what, True), float(line["median_ms"]), ("ms", 1, "low")


def table(series: Sequence[Series]) -> Table:
    """A row for each change, then one for each series without."""
    rows = []
    for one in series:
        steps = one.steps()
        for step in steps:
            p = one.points[step.at]
            word = "worse" if one.worse(step) else "better"
            values = (Value(step.before, digits=one.digits), Value(step.after, digits=one.digits))
            rows.append(Row((one.system, one.what, p.label, *values, Value(step.p_value, digits=4), word)))
        if not steps:
            level = Value(float(sorted(one.values)[len(one.values) // 2]), digits=one.digits)
            word = "no change shown" if one.long_enough else f"too few results to tell ({len(one.points)})"
            rows.append(Row((one.system, one.what, "–", level, Value(missing="–"), Value(missing="–"), word)))
    columns = (
        Column("system", "System"),
        Column("what", "What"),
        Column("at", "First result of the new level"),
        Column("before", "Before"),
        Column("after", "After"),
        Column("p_value", "p (Holm)"),
        Column("verdict", "Reading"),
    )
    caption = (
        "Levels of each number over all results, oldest first: PELT, then a permutation test of each change "
        f"(p < 0.002). A change needs {FEWEST} results on either side. Contended times are left out."
    )
    return Table("change_points", "Change points", caption, columns, tuple(rows))


def exit_code(series: Sequence[Series]) -> int:
    """1: some last level is worse than the one before; 3: no series is long enough to tell; 0 otherwise."""
    last = [(one, one.steps()[-1:]) for one in series]
    if any(one.worse(step) for one, steps in last for step in steps):
        return EXIT_FAILURES
    return 0 if any(one.long_enough for one in series) else EXIT_UNDECIDED
