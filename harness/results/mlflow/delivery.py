"""Delivers a sweep: a parent run, a run for each cell; again changes nothing, and completes what was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.results.mlflow import contents, identity, note
from harness.results.mlflow.contents import CellContent, SweepFolder
from harness.results.mlflow.runs import CONTENT, OPEN, ROWS, Runs
from harness.results.mlflow.times import Span

if TYPE_CHECKING:
    from mlflow.entities import Run


def deliver(folder: SweepFolder, uri: str, runs: Runs) -> None:
    """Bring the experiment into agreement with the folder."""
    parent = parent_run(folder, uri, runs)
    for cell in folder.cells():
        _deliver_cell(cell, parent, runs)
    runs.add_tags(parent, folder.tags)
    runs.add_datasets(parent, folder.datasets)
    runs.add_points(parent, folder.points)
    for file, place in folder.files():
        runs.add_file(parent, file, place)
    text = folder.description(runs.artifact_link(parent, "report/index.html"))
    runs.add_tags(parent, note.tags(text, parent.data.tags))
    span = folder.span
    runs.end(parent, folder.status, span.end_ms if span else None)


def parent_run(folder: SweepFolder, uri: str, runs: Runs) -> Run:
    """The sweep's run with its parameters."""
    mine = identity.of(folder.out, folder.name)
    by = {"is.sweep": mine.id}
    earlier = mine.older_run(uri)
    if earlier is not None and not runs.find(by):
        runs.adopt(earlier, by)
    span = folder.span
    start_ms = span.start_ms if span else None
    parent, others = runs.find_or_make(by, folder.name, {**folder.tags, "is.kind": "sweep"}, start_ms=start_ms)
    runs.delete(others)
    runs.add_params(parent, folder.params)
    return parent


def open_cell(folder: SweepFolder, header: Mapping[str, Any], parent: Run, runs: Runs, span: Span | None) -> Run:
    """The run of a cell that is being clicked through, `span` until now; `deliver` completes it."""
    by = _cell_identity(str(header["cell"]), parent)
    tags = {**folder.cell_tags(header), ROWS: OPEN}
    name, start_ms = contents.cell_name(header), span.start_ms if span else None
    run, _ = runs.find_or_make(by, name, tags, lambda run: run.data.tags.get(ROWS) == OPEN, start_ms)
    return run


def _deliver_cell(cell: CellContent, parent: Run, runs: Runs) -> None:
    # Curves cannot be taken back: a run that holds those of other rows is replaced by a new one.
    run, others = runs.find_or_make(
        _cell_identity(cell.key, parent),
        cell.name,
        {**cell.tags, ROWS: cell.rows_digest},
        lambda run: run.data.tags.get(ROWS) in (cell.rows_digest, OPEN),
        cell.span.start_ms if cell.span else None,
    )
    if run.data.tags.get(CONTENT) != cell.digest or run.info.status != cell.status:
        runs.add_tags(run, {**cell.tags, ROWS: cell.rows_digest})
        runs.add_params(run, cell.params)
        runs.add_datasets(run, [cell.dataset])
        runs.add_points(run, cell.points)
        runs.add_file(run, cell.rows, "rows")
        runs.end(run, cell.status, cell.span.end_ms if cell.span else None)
        runs.add_tags(run, {CONTENT: cell.digest})  # last: all of the above is there
    runs.delete(others)


def _cell_identity(key: str, parent: Run) -> dict[str, str]:
    return {"mlflow.parentRunId": parent.info.run_id, "is.cell": key}
