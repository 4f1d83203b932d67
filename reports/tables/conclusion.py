"""What may be said of one run against another, as lines, a headline and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.cli import EXIT_FAILURES, EXIT_UNDECIDED
from harness.scoring.decision import Outcome
from harness.scoring.registry import metric
from reports.read.runs import Run
from reports.tables import across, readings, times
from reports.tables.timeline import name


@dataclass(frozen=True)
class Conclusion:
    """What may be said of one run against another.

    Attributes:
        worse: a line for everything that got worse.
        undecided: a line for every comparison of the primary metric that could not have shown a difference, and one
            where nothing was compared at all.
        judged: number of comparisons of the primary metric that could have.
        remarks: how many comparisons were made.
    """

    worse: tuple[str, ...]
    undecided: tuple[str, ...]
    judged: int
    remarks: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Of `reports history`: 1 something got worse; 3 that cannot be told; 0 all was judged and nothing is worse."""
        return EXIT_FAILURES if self.worse else EXIT_UNDECIDED if self.undecided else 0

    @property
    def nothing_judged(self) -> bool:
        """Whether no comparison at all could have shown a difference; the exit code of `reports compare` is 3 then."""
        return self.judged == 0 and not self.worse


def conclude(a: Run, b: Run, earlier: Sequence[Run] = ()) -> Conclusion:
    """What may be said of `b` against `a`.

    Args:
        earlier: runs before `a`, for the variation of times from run to run.
    """
    differences = across.changes(a, b)
    worse = [
        f"{c.variant} on {c.dataset}: {metric(c.metric).title} {_arrow(c)}, p = {c.decision.p_adjusted:.2g}"
        for c in differences
        if c.decision.outcome is Outcome.WORSE
    ]
    if across.same_machine(a, b):
        worse += times.worse_lines(times.judged(a, b, earlier))
    first = [c for c in differences if c.primary]
    undecided = [
        f"{c.variant} on {c.dataset}: {metric(c.metric).title} {c.verdict}" for c in first if not c.decision.judged
    ]
    if not first:
        undecided.append(
            f"quality is not compared: no variant has {metric(b.primary).title} on one data set in both runs"
        )
    undecided += _alone(a, b)
    counted = readings.counted([(c.primary, c.decision) for c in differences])
    judged = sum(c.decision.judged for c in first)
    return Conclusion(tuple(worse), tuple(undecided), judged, tuple(filter(None, [counted])))


def _alone(a: Run, b: Run) -> list[str]:
    """What only the earlier run has: its loss is no improvement."""
    pairs = [{(v, d) for v in run.variants for d in run.datasets if _rows(run, v, d)} for run in (a, b)]
    return [f"{v} on {d}: not compared: only in {name(a)}" for v, d in sorted(pairs[0] - pairs[1])]


def _rows(run: Run, variant: str, dataset: str) -> bool:
    return bool(((run.clicks["variant"] == variant) & (run.clicks["dataset"] == dataset)).any())


def _arrow(change: across.Change) -> str:
    m = metric(change.metric)
    return f"{change.before * m.scale:.{m.digits}f} → {change.after * m.scale:.{m.digits}f}"
