"""Delivers a sweep: a parent run, a run for each cell; again changes nothing, and completes what was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.results.mlflow import contents, identity
from harness.results.mlflow.contents import CellContent, SweepFolder
from harness.results.mlflow.runs import CONTENT, OPEN, ROWS, Runs

if TYPE_CHECKING:
    from mlflow.entities import Run


def deliver(folder: SweepFolder, uri: str, runs: Runs) -> None:
    """Bring the experiment into agreement with the folder."""
    parent = parent_run(folder, uri, runs)
    for cell in folder.cells():
        _deliver_cell(cell, parent, runs)
    runs.add_tags(parent, folder.tags)
    for file, place in folder.files():
        runs.add_file(parent, file, place)
    runs.end(parent, folder.status)


def parent_run(folder: SweepFolder, uri: str, runs: Runs) -> Run:
    """The sweep's run with its parameters."""
    mine = identity.of(folder.out, folder.name)
    by = {"is.sweep": mine.id}
    earlier = mine.older_run(uri)
    if earlier is not None and not runs.find(by):
        runs.adopt(earlier, by)
    parent, others = runs.find_or_make(by, folder.name, {**folder.tags, "is.kind": "sweep"})
    runs.delete(others)
    runs.add_params(parent, folder.params)
    return parent


def open_cell(folder: SweepFolder, header: Mapping[str, Any], parent: Run, runs: Runs) -> Run:
    """The run of a cell that is being clicked through; `deliver` completes it."""
    by = _cell_identity(str(header["cell"]), parent)
    tags = {**folder.cell_tags(header), ROWS: OPEN}
    run, _ = runs.find_or_make(by, contents.cell_name(header), tags, lambda run: run.data.tags.get(ROWS) == OPEN)
    return run


def _deliver_cell(cell: CellContent, parent: Run, runs: Runs) -> None:
    # Curves cannot be taken back: a run that holds those of other rows is replaced by a new one.
    run, others = runs.find_or_make(
        _cell_identity(cell.key, parent),
        cell.name,
        {**cell.tags, ROWS: cell.rows_digest},
        lambda run: run.data.tags.get(ROWS) in (cell.rows_digest, OPEN),
    )
    if run.data.tags.get(CONTENT) != cell.digest or run.info.status != cell.status:
        runs.add_tags(run, {**cell.tags, ROWS: cell.rows_digest})
        runs.add_params(run, cell.params)
        runs.add_dataset(run, *cell.dataset)
        runs.add_points(run, cell.points)
        runs.add_file(run, cell.rows, "rows")
        runs.end(run, cell.status)
        runs.add_tags(run, {CONTENT: cell.digest})  # last: all of the above is there
    runs.delete(others)


def _cell_identity(key: str, parent: Run) -> dict[str, str]:
    return {"mlflow.parentRunId": parent.info.run_id, "is.cell": key}
