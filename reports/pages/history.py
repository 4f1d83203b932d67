"""`reports compare A B` and `reports history A B …`: pages over several runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

from harness.errors import UserError
from reports.pages import page
from reports.plots.style import Plot, drawing, looks
from reports.read.metric_names import metric
from reports.read.runs import Run
from reports.read.words import label, slug
from reports.tables import across
from reports.tables.table import Column, Row, Table, Value

_KEYS = ("noc90", "noc95", "miou5", "biou5", "auc")


def compare(a: Run, b: Run, out: Path) -> Path:
    """Write the page that says what changed from `a` to `b`, and return its path.

    Raises:
        UserError: the folder cannot be written.
    """
    found = across.changes(a, b)
    made = [across.changed(a, b)]
    caption = "95 % intervals and permutation tests on the same samples where both runs have them."
    made.append(Table("changes", "Quality", caption, across.CHANGE_COLUMNS, across.change_rows(found)))
    notes = [*_notes(a, b), *filter(None, [_chance(len(found))])]
    if across.same_machine(a, b):
        rows = tuple(row for _, row in across.slower(a, b))
        caption = "Medians with 95 % intervals on the same machine; a reading only where the intervals do not overlap."
        made.append(Table("latency", "Latency", caption, across.LATENCY_COLUMNS, rows))
    elif len(a.latency) and len(b.latency):
        notes.append("The runs come from different machines, so their times are not compared.")
    worse = [f"{c.variant} on {c.dataset}: {metric(c.metric).title}" for c in found if c.verdict == "worse"]
    return _write(out, "compare", f"{name(a)} against {name(b)}", [t for t in made if t.rows], [], notes, worse, [a, b])


def history(runs: Sequence[Run], out: Path) -> tuple[Path, list[str]]:
    """Write the page over runs, oldest first; returns its path and the regressions of the last step.

    Raises:
        UserError: fewer than two runs, or the folder cannot be written.
    """
    if len(runs) < 2:
        raise UserError("history needs at least two runs: python -m reports history runs/old runs/new.")
    last = across.changes(runs[-2], runs[-1])
    worse = [f"{c.variant} on {c.dataset}: {metric(c.metric).title} {_arrow(c)}" for c in last if c.verdict == "worse"]
    if across.same_machine(runs[-2], runs[-1]):
        worse += _slower_lines(runs[-2], runs[-1])
    caption = f"{name(runs[-1])} against {name(runs[-2])}, on the same samples where both have them."
    made = [
        timeline(runs),
        Table("changes", "Last step", caption, across.CHANGE_COLUMNS, across.change_rows(last)),
        across.changed(runs[-2], runs[-1]),
    ]
    drawn = [p for d in _datasets(runs) for p in [drift(runs, d)] if p is not None]
    path = _write(
        out,
        "history",
        f"History of {runs[-1].name}",
        [t for t in made if t.rows],
        drawn,
        [*_notes(*runs), *filter(None, [_chance(len(last))])],
        worse,
        runs,
    )
    return path, worse


def _slower_lines(a: Run, b: Run) -> list[str]:
    """One line a variant: in how many of its timed conditions it got slower, and by how much in the middle one."""
    rows = across.slower(a, b)
    lines = []
    for variant in dict.fromkeys(str(row.cells[0]) for _, row in rows):
        mine = [(verdict, row.cells[7]) for verdict, row in rows if row.cells[0] == variant]
        ratios = sorted(v.measured for verdict, v in mine if verdict == "worse" and isinstance(v, Value) and v.measured)
        if ratios:
            lines.append(
                f"{variant}: slower in {len(ratios)} of {len(mine)} timed conditions, × {ratios[len(ratios) // 2]:.2f}"
            )
    return lines


def _chance(count: int) -> str:
    return (
        f"{count} comparisons at 95 % each: about {count * 0.025:.0f} would read “worse” by chance alone."
        if count >= 20
        else ""
    )


def timeline(runs: Sequence[Run]) -> Table:
    """A row per run, variant and data set."""
    rows = []
    for run in runs:
        whole = run.summary[run.summary["size_bin"].isin(("", "all"))]
        for dataset in run.datasets:
            for variant in run.variants:
                mine = whole[(whole["variant"] == variant) & (whole["dataset"] == dataset)].set_index("metric")
                if len(mine) == 0:
                    continue
                cells = [_summary_value(mine, key) for key in _KEYS]
                head = (name(run), age(run), variant, dataset, run.note(dataset) or "–", run.status(variant))
                rows.append(
                    Row(
                        (*head, Value(float(mine["samples"].max()), digits=0), *cells, run.protocol(dataset)),
                        dataset,
                    )
                )
    columns = [
        Column("run", "Run"),
        Column("written", "Written"),
        Column("variant", "Variant"),
        Column("dataset", "Data set"),
    ]
    columns += [
        Column("dataset_note", "Kind of data"),
        Column("weights_status", "Weights"),
        Column("samples", "Samples"),
    ]
    columns += [Column(k, metric(k).title, better=metric(k).better, help=metric(k).meaning) for k in _KEYS]
    columns.append(Column("protocol", "Protocol"))
    return Table(
        "timeline",
        "All runs",
        "Means with 95 % intervals, oldest run first.",
        tuple(columns),
        tuple(rows),
    )


def _summary_value(mine: pd.DataFrame, key: str) -> Value:
    if key not in mine.index:
        return Value(missing="not measured")
    m, line = metric(key), mine.loc[[key]].iloc[0]
    limits = [float(line[k]) * m.scale for k in ("low", "high")]
    low, high = (limits[0], limits[1]) if all(map(math.isfinite, limits)) else (None, None)
    return Value(float(line["value"]) * m.scale, low, high, digits=m.digits)


def drift(runs: Sequence[Run], dataset: str, key: str = "noc90") -> Plot | None:
    """A metric over the runs, one line a variant, with intervals."""
    variants = list(dict.fromkeys(v for run in runs for v in run.variants))
    look = looks(variants)
    m = metric(key)
    told, drawn = [], False
    with drawing(6.4, 3.8) as (figure, (ax,)):
        for position, variant in enumerate(variants):
            points = []
            for x, run in enumerate(runs):
                line = run.summary[(run.summary["variant"] == variant) & (run.summary["dataset"] == dataset)]
                line = line[(line["metric"] == key) & line["size_bin"].isin(("", "all"))]
                if len(line):
                    points.append(
                        (
                            x + 0.05 * (position - len(variants) / 2),
                            *line.iloc[0][["value", "low", "high"]].astype(float),
                        )
                    )
            if not points:
                continue
            drawn = True
            style = look[variant]
            at, value, low, high = (list(column) for column in zip(*points, strict=True))
            ax.plot(
                at,
                [v * m.scale for v in value],
                color=style.colour,
                linestyle=style.dash,
                marker=style.marker,
                label=label(runs[-1], variant),
            )
            ax.vlines(at, [v * m.scale for v in low], [v * m.scale for v in high], color=style.colour, linewidth=1)
            told.append(f"{variant} " + ", ".join(f"{v * m.scale:.2f}" for v in value))
        ax.set_xticks(range(len(runs)), [name(run) for run in runs], rotation=20 if len(runs) > 3 else 0)
        ax.set_xlim(-0.4, len(runs) - 0.6)
        ax.set(ylabel=f"{m.title} ({m.unit})")
        ax.set_title(dataset)
        if drawn:
            ax.legend(loc="best", handlelength=2.6)
    if not drawn:
        return None
    caption = f"{m.title} of each run with its 95 % interval, oldest run left; protocol {runs[-1].protocol(dataset)}."
    return Plot(
        f"history_{key}_{slug(dataset)}",
        f"{m.title} over the runs, {dataset}",
        caption,
        f"Line chart of {m.title} over {len(runs)} runs: {'; '.join(told)}.",
        figure,
        dataset,
    )


def name(run: Run) -> str:
    """Short name of a run: its folder and, where recorded, its commit."""
    commit = str(run.machine.get("commit") or "")
    return f"{run.path.name} @ {commit[:7]}{'+' if commit.endswith('+') else ''}" if commit else run.path.name


def age(run: Run) -> str:
    """When its rows were written (UTC), as far as the files tell."""
    for file in ("clicks.parquet", "config.yaml"):
        if (run.path / file).exists():
            written = datetime.fromtimestamp((run.path / file).stat().st_mtime, tz=timezone.utc)
            return written.strftime("%Y-%m-%d %H:%M")
    return "–"


def _arrow(change: across.Change) -> str:
    m = metric(change.metric)
    return f"{change.before * m.scale:.{m.digits}f} → {change.after * m.scale:.{m.digits}f}"


def _datasets(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(d for run in runs for d in run.datasets))


def _notes(*runs: Run) -> list[str]:
    return [f"{name(run)}: {note}" for run in runs for note in run.notes]


def _write(
    out: Path,
    kind: str,
    title: str,
    made: Sequence[Table],
    drawn: Sequence[Plot],
    notes: Sequence[str],
    worse: Sequence[str],
    runs: Sequence[Run],
) -> Path:
    from reports.pages.assemble import write_tables

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_tables(made, out)
        for plot in drawn:
            plot.save(out)
        path = out / "index.html"
        html = page.fill(
            "across.html.j2",
            kind=kind,
            title=title,
            tables=made,
            plots=drawn,
            notes=notes,
            worse=worse,
            runs=runs,
            name=name,
            age=age,
            datasets=_datasets(runs),
        )
        path.write_text(html, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(
            f"cannot write to {out}: {error.strerror or error}. Choose another folder with out=DIR."
        ) from error
    return path
