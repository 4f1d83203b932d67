"""From outcomes to verdicts, a table and an exit code."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from harness import cli
from harness.console import Console, markup
from harness.reproducing import causes, tolerance
from harness.reproducing.rows import Row
from harness.reproducing.running import Outcome
from harness.reproducing.tolerance import Tolerance

REPRODUCED, OFF, FAILED, MISSING, NOT_JUDGED = "reproduced", "off", "failed", "not here", "not judged"
_COLOURS = {REPRODUCED: "green", OFF: "bold red", FAILED: "bold red", MISSING: "yellow", NOT_JUDGED: "yellow"}
_SLACK = 1e-9
"""Rounding of the binary difference of two decimal numbers."""


@dataclass(frozen=True)
class Verdict:
    """What may be said of a row.

    Attributes:
        outcome: what was measured.
        word: reproduced | off | failed | not here | not judged.
        tolerance: that was applied; None where nothing was measured.
        causes: ranked, for a row that is off.
    """

    outcome: Outcome
    word: str
    tolerance: Tolerance | None = None
    causes: tuple[causes.Cause, ...] = ()

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.outcome.value is None else self.outcome.value - self.outcome.row.value


def judge(outcome: Outcome) -> Verdict:
    """The verdict of a row.

    A number within its tolerance that was made with other weights than those that were fetched is off all the same: it
    reproduces nothing.
    """
    if outcome.missing:
        return Verdict(outcome, MISSING)
    if outcome.value is None:
        return Verdict(outcome, FAILED)
    allowed = tolerance.of(outcome.row, outcome.samples)
    ranked = tuple(causes.ranked(outcome.row, outcome.evidence)) if outcome.evidence else ()
    if not outcome.complete and not outcome.changed:
        return Verdict(outcome, NOT_JUDGED, allowed, ranked)
    near = abs(outcome.value - outcome.row.value) <= allowed.value + _SLACK
    if near and not outcome.changed:
        return Verdict(outcome, REPRODUCED, allowed)
    return Verdict(outcome, OFF, allowed, ranked)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0: every row is reproduced; 1: some is off or failed; 3: none of these, but some could not be judged."""
    words = {v.word for v in verdicts}
    if words & {OFF, FAILED}:
        return cli.EXIT_FAILURES
    return cli.EXIT_UNDECIDED if words & {MISSING, NOT_JUDGED} else 0


def show(verdicts: Sequence[Verdict], console: Console) -> None:
    """The table, and under it why rows are off or could not be judged."""
    table = Table(title="published and measured", title_justify="left")
    for column in (
        "variant",
        "data set",
        "protocol",
        "metric",
        "published",
        "measured",
        "difference",
        "tolerance",
        "verdict",
    ):
        right = column in ("published", "measured", "difference", "tolerance")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for verdict in verdicts:
        row, value = verdict.outcome.row, verdict.outcome.value
        table.add_row(
            markup(row.label), markup(row.dataset), markup(row.protocol), markup(row.metric), row.shown,
            "-" if value is None else f"{value:.{row.digits + 1}f}",
            "-" if verdict.difference is None else f"{verdict.difference:+.{row.digits + 1}f}",
            "-" if verdict.tolerance is None else f"{verdict.tolerance.value:.{row.digits + 1}f}",
            f"[{_COLOURS[verdict.word]}]{verdict.word}[/]",
        )  # fmt: skip
    console.print(table)
    reasons = dict.fromkeys(
        f"{v.tolerance.value:.{v.outcome.row.digits + 1}f}: {v.tolerance.reason}" for v in verdicts if v.tolerance
    )
    for reason in reasons:
        console.print(f"tolerance {markup(reason)}", highlight=False, soft_wrap=True)
    for text in dict.fromkeys(v.outcome.problem for v in verdicts if v.word in (MISSING, NOT_JUDGED, FAILED)):
        console.print(markup(text), highlight=False, soft_wrap=True)
    explained: set[object] = set()
    for verdict in (v for v in verdicts if v.word == OFF):
        _explain(verdict, console, explained)


def _explain(verdict: Verdict, console: Console, explained: set[object]) -> None:
    row = verdict.outcome.row
    same = (row.label, row.dataset, row.protocol)
    if same in explained:
        return
    explained.add(same)
    console.print(
        f"{markup(row.label)} on {markup(row.dataset)} is off. Where to look, the likeliest first:",
        highlight=False,
        soft_wrap=True,
    )
    for number, cause in enumerate(verdict.causes, 1):
        console.print(f"  {number}. {cause.name}: {cause.state}: {markup(cause.text)}", highlight=False, soft_wrap=True)


_NUMBERS = ("published", "measured", "difference", "tolerance", "tolerance_reason", "samples")
COLUMNS = ("variant", "dataset", "protocol", "metric", *_NUMBERS, "verdict", "problem", "causes", "source")


def write(verdicts: Sequence[Verdict], path: Path) -> None:
    """The table as CSV, one line a row."""
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for verdict in verdicts:
            writer.writerow(_line(verdict, verdict.outcome.row))


def _line(verdict: Verdict, row: Row) -> list[object]:
    allowed = verdict.tolerance
    return [
        row.label, row.dataset, row.protocol, row.metric, f"{row.value:.{row.digits}f}",
        _or_empty(verdict.outcome.value), _or_empty(verdict.difference),
        "" if allowed is None else allowed.value, "" if allowed is None else allowed.reason, verdict.outcome.samples,
        verdict.word, verdict.outcome.problem, "; ".join(f"{c.name}: {c.state}" for c in verdict.causes), row.source,
    ]  # fmt: skip


def _or_empty(value: float | None) -> object:
    return "" if value is None else value
