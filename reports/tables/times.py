"""Times of several runs: the same condition side by side, and whether the last run got slower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.scoring.decision import Decision, Timed, decide_over_runs, holm, not_compared, run_to_run_p
from reports.read.runs import Run
from reports.tables.columns import KIND, SIZE_BIN, VARIANT, VERDICT
from reports.tables.table import Column, Row, Value

KEYS = ["variant", "threads", "resolution", "kind", "size_bin"]


def same_machine(a: Run, b: Run) -> bool:
    """Whether absolute times may be compared."""
    keys = ("cpu_model", "cpus", "node")
    return bool(a.machine) and all(a.machine.get(k) == b.machine.get(k) for k in keys)


def slower(a: Run, b: Run, earlier: Sequence[Run] = ()) -> list[tuple[str, Row]]:
    """Latency of the same condition in both runs, where both ran on the same machine: (reading, row)."""
    return [(decision.text, row) for decision, row in judged(a, b, earlier)]


def judged(a: Run, b: Run, earlier: Sequence[Run] = ()) -> list[tuple[Decision, Row]]:
    """What may be said of every condition that two runs timed, with its row.

    Args:
        a, b: the runs side by side.
        earlier: runs before `a`, for the variation from run to run; those of another machine are left out. The p of
            the conditions of one variant are adjusted by Holm's method.
    """
    past = [_timed(run) for run in earlier if same_machine(run, b)] + [_timed(a)]
    old, new = past[-1], _timed(b)
    pairs: list[tuple[Decision, Row]] = []
    for variant in dict.fromkeys(key[0] for key in new.index):
        shared = [key for key in new.index if key[0] == variant and key in old.index]
        # Rows of another definition are no earlier runs of the same thing.
        series = [
            [t for t, v in (_of(f, key) for f in past if key in f.index) if v == _of(new, key)[1]] for key in shared
        ]
        now = [_of(new, key)[0] for key in shared]
        adjusted = holm([run_to_run_p(many, one) for many, one in zip(series, now, strict=True)])
        for key, many, one, p_adjusted in zip(shared, series, now, adjusted, strict=True):
            before, version = _of(old, key)
            if version != _of(new, key)[1]:
                decision = not_compared("other definition of this time (timing_version)")
            else:
                decision = decide_over_runs(many, one, None if math.isnan(p_adjusted) else p_adjusted)
            pairs.append((decision, _row(key, before, one, decision)))
    return pairs


def worse_lines(pairs: Sequence[tuple[Decision, Row]]) -> list[str]:
    """One line a variant: in how many of its timed conditions it got slower, and by how much in the middle one."""
    lines = []
    for variant in dict.fromkeys(str(row.cells[0]) for _, row in pairs):
        mine = [(decision, row.cells[7]) for decision, row in pairs if row.cells[0] == variant]
        ratios = sorted(v.measured for d, v in mine if d.text == "worse" and isinstance(v, Value) and v.measured)
        if ratios:
            lines.append(
                f"{variant}: slower in {len(ratios)} of {len(mine)} timed conditions, × {ratios[len(ratios) // 2]:.2f}"
            )
    return lines


def _timed(run: Run) -> pd.DataFrame:
    return run.latency[run.latency["median_ms"].notna()].drop_duplicates(KEYS).set_index(KEYS)


def _of(frame: pd.DataFrame, key: tuple[Any, ...]) -> tuple[Timed, int]:
    """A time and the version of its definition."""
    line = frame.loc[key]
    contended = str(line["contended"]).strip()
    median, low, high = (float(line[name]) for name in ("median_ms", "low_ms", "high_ms"))
    return Timed(median, low, high, "" if contended == "nan" else contended), int(line["timing_version"])


def _row(key: tuple[Any, ...], before: Timed, after: Timed, decision: Decision) -> Row:
    values = [
        Value(t.median, t.low, t.high, digits=1) if t.has_interval else Value(t.median, digits=1)
        for t in (before, after)
    ]
    ratio = Value(after.median / before.median, digits=2)
    return Row((*map(str, key), *values, ratio, decision.text), "", str(key[-1]))


COLUMNS = (
    VARIANT,
    Column("threads", "Threads"),
    Column("resolution", "Resolution"),
    KIND,
    SIZE_BIN,
    Column("before", "Before ms"),
    Column("after", "After ms"),
    Column("ratio", "After / before"),
    VERDICT,
)
