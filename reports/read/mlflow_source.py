"""Sweeps on a tracking server, brought back into folders that every other reader of the reports takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import UserError, near_miss
from harness.planning.addresses import without_secrets
from harness.results import (
    mlflow as tracking,  # first: it sets what MLflow reads from the environment when it is imported
)
from reports.read.words import slug

_FOLDER = "tables"  # artifact folder of a sweep's parent run, see harness.results.mlflow


def fetch(experiment: str, runs: Sequence[str], uri: str | None, into: Path) -> list[tuple[str, Path]]:
    """Download the tables of sweeps.

    Args:
        experiment: name of the MLflow experiment.
        runs: ids (or their beginnings) or names of parent runs; empty: the newest sweep.
        uri: tracking server; None: $MLFLOW_TRACKING_URI, or SQLite beside ./runs as the sweep writes it.
        into: folder that gets one folder a run.

    Returns:
        (run id, folder) in the order of `runs`.

    Raises:
        UserError: no server, experiment or run, or a run without tables.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    where = uri or os.environ.get("MLFLOW_TRACKING_URI") or tracking.tracking_uri(Path("runs/any"), {})
    if where.startswith("sqlite:///") and not Path(where.removeprefix("sqlite:///")).exists():
        raise UserError(f"no MLflow data at {without_secrets(where)}. Give mlflow.uri=URI or set MLFLOW_TRACKING_URI.")
    shown = without_secrets(where)
    folders: list[tuple[str, Path]] = []

    def work() -> None:
        client = MlflowClient(tracking_uri=where)
        for run in _choose(client, experiment, runs, shown):
            folders.append((run.info.run_id, _download(client, run, into)))

    try:
        tracking.within(tracking.TIME_LIMIT_S, f"{shown} has not answered everything within", work)
    except MlflowException as error:
        text = without_secrets(" ".join(str(error).split()))[:200]
        raise UserError(
            f"MLflow at {shown} did not answer: {text}. Is the server up, and is mlflow.uri right?"
        ) from error
    return folders


def _choose(client: Any, experiment: str, run_names: Sequence[str], where: str) -> list[Any]:
    record = client.get_experiment_by_name(experiment)
    if record is None:
        names = [e.name for e in client.search_experiments()]
        raise UserError(f"no MLflow experiment {experiment!r} at {where}. {near_miss(experiment, names)}")
    sweeps = list(
        client.search_runs([record.experiment_id], "tags.`is.kind` = 'sweep'", order_by=["attributes.start_time DESC"])
    )
    if not sweeps:
        raise UserError(
            f"experiment {experiment!r} at {where} holds no sweep. Run python -m harness.sweep or harness.sync first."
        )
    if not run_names:
        return sweeps[:1]
    return [_one(sweeps, name, experiment) for name in run_names]


def _one(sweeps: Sequence[Any], name: str, experiment: str) -> Any:
    # Newest first, so that a name means the newest run of that name; "dead" is rather a name than the start of an id.
    for fits in (lambda info: info.run_name == name, lambda info: info.run_id.startswith(name)):
        for run in sweeps:
            if fits(run.info):
                return run
    known = [f"{run.info.run_name} ({run.info.run_id[:8]})" for run in sweeps[:10]]
    raise UserError(f"experiment {experiment!r} has no sweep {name!r}. The newest: {', '.join(known)}.")


def _download(client: Any, run: Any, into: Path) -> Path:
    # What a server answers is data: its names lead to no other folder than this one.
    folder = into / f"{slug(str(run.info.run_name or 'run'))}-{slug(str(run.info.run_id)[:8])}"
    listed = [item.path for item in client.list_artifacts(run.info.run_id, _FOLDER)]
    names = [name for name in listed if PurePosixPath(name).parent == PurePosixPath(_FOLDER) and ".." not in name]
    if not names:
        raise UserError(
            f"MLflow run {run.info.run_id} holds no tables. Deliver the sweep again: python -m harness.sync run=DIR."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        # One by one: the server answers a folder's download with files whose names it may have changed.
        path = Path(client.download_artifacts(run.info.run_id, name, str(folder)))
        target = folder / Path(name).name
        if path != target:
            path.replace(target)
    return folder
