"""`reports compare A B` and `reports history A B …`: pages over several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import UserError
from reports.pages import page
from reports.plots.drift import drift
from reports.plots.style import Plot
from reports.read.runs import Run
from reports.tables import across
from reports.tables.conclusion import Conclusion, conclude
from reports.tables.table import Table
from reports.tables.timeline import age, name, timeline, timelines
from reports.trend import series

__all__ = ["age", "compare", "drift", "history", "name", "timeline", "write_compare", "write_history"]


def compare(a: Run, b: Run, out: Path) -> Path:
    """Write the page that says what changed from `a` to `b`, and return its path.

    Raises:
        UserError: the folder cannot be written.
    """
    return write_compare(a, b, out)[0]


def write_compare(a: Run, b: Run, out: Path) -> tuple[Path, Conclusion]:
    """As `compare`, with everything that may be said of `b` against `a`."""
    conclusion = conclude(a, b)
    comparison = [across.changed(a, b), changes_table(a, b, "Quality")]
    notes = _notes(a, b)
    if across.same_machine(a, b):
        rows = tuple(row for _, row in across.slower(a, b))
        caption = (
            "Medians with 95 % intervals over the rounds of each run, on the same machine. A run's interval holds no "
            "variation from run to run, so two runs alone are not judged."
        )
        comparison.append(Table("latency", "Latency", caption, across.LATENCY_COLUMNS, rows))
    elif len(a.latency) and len(b.latency):
        notes.append("The runs come from different machines, so their times are not compared.")
    shown = [t for t in comparison if t.rows]
    title = f"{name(a)} against {name(b)}"
    return _write(out, "compare", title, shown, [], notes, conclusion, [a, b]), conclusion


def changes_table(a: Run, b: Run, title: str) -> Table:
    """Every metric of every variant and data set that both runs have."""
    caption = (
        f"{name(b)} against {name(a)}: paired on the samples that both have, 95 % interval and paired permutation test."
    )
    return Table("changes", title, caption, across.CHANGE_COLUMNS, across.change_rows(across.changes(a, b)))


def history(runs: Sequence[Run], out: Path) -> tuple[Path, list[str]]:
    """Write the page over runs, oldest first; returns its path and the regressions of the last step.

    Raises:
        UserError: fewer than two runs, or the folder cannot be written.
    """
    path, conclusion = write_history(runs, out)
    return path, list(conclusion.worse)


def write_history(runs: Sequence[Run], out: Path) -> tuple[Path, Conclusion]:
    """As `history`, with everything that may be said of the last step."""
    if len(runs) < 2:
        raise UserError("history needs at least two runs: python -m reports history runs/old runs/new.")
    conclusion = conclude(runs[-2], runs[-1], runs[:-2])
    followed = [one for one in series.of_runs(runs) if one.long_enough]
    history_tables = [
        *timelines(runs),
        *([series.table(followed)] if followed else []),
        changes_table(runs[-2], runs[-1], "Last step"),
        across.changed(runs[-2], runs[-1]),
    ]
    drawn = [p for d in _datasets(runs) for p in [drift(runs, d)] if p is not None]
    title = f"History of {runs[-1].name}"
    return _write(
        out, "history", title, [t for t in history_tables if t.rows], drawn, _notes(*runs), conclusion, runs
    ), conclusion


def _datasets(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(d for run in runs for d in run.datasets))


def _notes(*runs: Run) -> list[str]:
    return [f"{name(run)}: {note}" for run in runs for note in run.notes]


def _write(
    out: Path,
    kind: str,
    title: str,
    all_tables: Sequence[Table],
    drawn: Sequence[Plot],
    notes: Sequence[str],
    conclusion: Conclusion,
    runs: Sequence[Run],
) -> Path:
    from reports.pages.assemble import distinct, write_tables, write_text

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_tables(all_tables, out)
        drawn = distinct(drawn)
        for plot in drawn:
            plot.save(out)
        path = out / "index.html"
        html = page.fill(
            "across.html.j2",
            kind=kind,
            title=title,
            tables=all_tables,
            plots=drawn,
            notes=[*conclusion.remarks, *notes],
            conclusion=conclusion,
            runs=runs,
            name=name,
            age=age,
            datasets=_datasets(runs),
        )
        write_text(path, html)
    except OSError as error:
        raise UserError(
            f"cannot write to {out}: {error.strerror or error}. Choose another folder with out=DIR."
        ) from error
    return path
