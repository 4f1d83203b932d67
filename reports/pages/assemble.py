"""Makes the whole report of a run: tables, plots, page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.planning.disk import Trust
from reports.episodes import apart, gallery, pictures
from reports.pages import former, page
from reports.plots import cost, parts, people, scaling
from reports.plots import quality as plots
from reports.plots.style import Plot
from reports.read.frames import read
from reports.read.runs import Run
from reports.read.words import slug
from reports.tables import latex, table
from reports.tables import quality as tables

PAGE_LIMIT = 9_500_000
"""Bytes of a page; a mail or a wiki takes ten million."""
PLOT_FORMATS = ("png", "svg", "pdf")
FORMATS = {"md": table.to_markdown, "csv": table.to_csv, "tex": latex.to_latex}


def build(run: str | Path, out: str | Path | None = None, episodes_s: float = 15.0, trust: Trust | None = None) -> Path:
    """Write the report of a sweep's folder and return the path of its page.

    Args:
        run: folder of a sweep.
        out: folder of the report; `run/report` where None.
        episodes_s: seconds for replaying episodes; 0 leaves the gallery out. No new one is begun after them, and all
            is ended after `apart.limit_s` of them, or when it takes too much memory.
        trust: what of the run's configuration may be built beside this project's own classes; None: nothing.

    Raises:
        UserError: no sweep there, or the report's folder cannot be written.
    """
    source = read(run)
    folder = Path(out).expanduser().absolute() if out is not None else source.path / "report"
    return write(source, folder, episodes_s, trust)


def write(source: Run, folder: Path, episodes_s: float, trust: Trust | None = None) -> Path:
    """Write the report of a run that was read, wherever it came from."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    page_tables, drawn = all_tables(source), all_plots(source)
    stories, problems = apart.stories(source, episodes_s, trust) if episodes_s > 0 else ([], [])
    strips = [_strips(number, story) for number, story in enumerate(stories, 1)]
    try:
        if strips:
            (folder / "episodes").mkdir(exist_ok=True)
        write_tables(page_tables, folder)
        for plot in drawn:
            plot.save(folder, PLOT_FORMATS)
        for strip in (s for group in strips for s in group):
            strip.save(folder / "episodes", ("jpg",))
        shown = [page.shown(story, group) for story, group in zip(stories, strips, strict=True)]
        path = folder / "index.html"
        write_text(path, _within_limit(source, page_tables, drawn, shown, problems))
        former.clear(folder, _files(page_tables, drawn, strips))
    except OSError as error:
        raise _unwritable(folder, error) from error
    return path


def _files(page_tables: list[table.Table], drawn: list[Plot], strips: list[list[Plot]]) -> set[str]:
    """Every file that `write` writes, from the folder of the report."""
    return {
        *(f"{one.name}.{ending}" for one in page_tables for ending in FORMATS),
        *(f"{plot.name}.{ending}" for plot in drawn for ending in PLOT_FORMATS),
        *(f"episodes/{strip.name}.jpg" for group in strips for strip in group),
        *("tables.md", "tables.tex", "index.html"),
    }


def _within_limit(
    source: Run, page_tables: list[table.Table], drawn: list[Plot], shown: list[dict[str, Any]], problems: list[str]
) -> str:
    """The page, with as many episodes as fit."""
    html = page.render(source, page_tables, drawn, shown, problems)
    while len(html.encode("utf-8", "backslashreplace")) > PAGE_LIMIT and shown:
        shown = shown[:-1]
        more = [*problems, "Some episodes were left out to keep this page small; their pictures lie in episodes/."]
        html = page.render(source, page_tables, drawn, shown, more)
    return html


def _unwritable(folder: Path, error: OSError) -> UserError:
    reason = error.strerror or error
    return UserError(f"cannot write the report to {folder}: {reason}. Choose another with out=DIR.")


def _strips(number: int, story: gallery.Story) -> list[Plot]:
    heading = story.choice.title
    several = len(story.episodes) > 1
    return [
        pictures.strip(
            episode,
            f"{slug(episode.dataset)}_{number}_{slug(episode.variant)}",
            f"{heading}: {episode.variant}" if several else heading,
        )
        for episode in story.episodes
    ]


def all_tables(run: Run) -> list[table.Table]:
    """Every table that has something to show, in the order of the page."""
    return [one for one in tables.of(run, list(tables.ALL)) if one.rows]


def all_plots(run: Run) -> list[Plot]:
    """Every plot that the run has data for, in the order of the page."""
    drawn: list[Plot | None] = []
    for dataset in run.datasets:
        if run.samples(dataset):
            drawn += [plots.iou_curves(run, dataset), plots.noc_against_time(run, dataset)]
            drawn += [people.group_curves(run, dataset), people.click_map(run, dataset)]
            drawn += [plots.differences(run, dataset), plots.noc_histograms(run, dataset)]
    drawn += [parts.stacked(run), parts.roofline(run), cost.latency_by_size(run)]
    drawn += [cost.latency_over(run, "threads"), cost.latency_over(run, "resolution")]
    drawn += [cost.time_against_object(run, dataset) for dataset in run.datasets]
    drawn += [cost.time_against_boundary(run), scaling.exponents(run), scaling.attention(run)]
    return distinct([p for p in drawn if p is not None])


def distinct(drawn: Sequence[Plot]) -> list[Plot]:
    """The plots, where two have one file name (names that differ in signs only) with a number behind the later one."""
    names: set[str] = set()
    named = []
    for plot in drawn:
        name, count = plot.name, 1
        while name in names:
            count += 1
            name = f"{plot.name}-{count}"
        names.add(name)
        named.append(plot if count == 1 else replace(plot, name=name))
    return named


def write_tables(written: Sequence[table.Table], folder: Path) -> None:
    """Each table as CSV, Markdown and LaTeX, and all of them in one document of each kind."""
    for one in written:
        for ending, writer in FORMATS.items():
            write_text(folder / f"{one.name}.{ending}", writer(one))
    write_text(folder / "tables.md", "\n".join(map(table.to_markdown, written)))
    write_text(folder / "tables.tex", latex.document(written))


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8; what no UTF-8 can hold (parts of a name that was none) is written out as its code."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
