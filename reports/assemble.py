"""Makes the whole report of a run: tables, plots, page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import UserError
from reports import page, plots, table, tables
from reports.frames import Run, read
from reports.style import Plot

FORMATS = {"md": table.to_markdown, "csv": table.to_csv, "tex": table.to_latex}


def build(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a sweep's folder and return the path of its page.

    Args:
        run: folder of a sweep.
        out: folder of the report; `run/report` where None.

    Raises:
        UserError: no sweep there, or the report's folder cannot be written.
    """
    source = read(run)
    folder = Path(out).expanduser().absolute() if out is not None else source.path / "report"
    made = all_tables(source)
    drawn = all_plots(source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_tables(made, folder)
        for plot in drawn:
            plot.save(folder)
        html = page.render(source, made, drawn)
        path = folder / "index.html"
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write the report to {folder}: {error.strerror or error}. Choose another folder with out=DIR."
        ) from error
    finally:
        for plot in drawn:
            plot.close()
    return path


def all_tables(run: Run) -> list[table.Table]:
    """Every table that has something to show, in the order of the page."""
    return [made for made in tables.of(run, list(tables.ALL)) if made.rows]


def all_plots(run: Run) -> list[Plot]:
    """Every plot that the run has data for, in the order of the page."""
    drawn: list[Plot | None] = []
    for dataset in run.datasets:
        if run.samples(dataset):
            drawn += [plots.iou_curves(run, dataset), plots.noc_against_time(run, dataset)]
    return [p for p in drawn if p is not None]


def write_tables(made: Sequence[table.Table], folder: Path) -> None:
    """Each table as CSV, Markdown and LaTeX, and all of them in one document of each kind."""
    for one in made:
        for ending, writer in FORMATS.items():
            (folder / f"{one.name}.{ending}").write_text(writer(one), encoding="utf-8")
    (folder / "tables.md").write_text("\n".join(map(table.to_markdown, made)), encoding="utf-8")
    (folder / "tables.tex").write_text(table.document(made), encoding="utf-8")
