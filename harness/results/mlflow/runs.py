"""Runs of one experiment: found again before they are made, completed before they are called finished.

Every step may have happened already, in whole or in part: an earlier delivery may have ended after any request, an
answer may have been lost, and MLflow's own client repeats requests whose answer was lost. So each step first looks
at what is there, and only what is missing is sent.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.planning.addresses import without_secrets
from harness.results.mlflow import names
from harness.results.mlflow.quiet import hush

if TYPE_CHECKING:
    from mlflow.entities import Run

_PARAMS_PER_CALL = 100
_METRICS_PER_CALL = 500
ROWS, CONTENT = "is.rows", "is.content"
NOTE = "mlflow.note.content"  # the description, the one tag that has lines
OPEN = "open"  # value of ROWS while a sweep still runs: no curve of this run is final


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class DataSet:
    """A data set that a run used.

    Attributes:
        name, digest: by which MLflow knows it.
        source: its settings, as JSON.
        samples: their number, None where it isn't known.
    """

    name: str
    digest: str
    source: str
    samples: int | None = None


def open_client(uri: str) -> Any:
    """An MlflowClient that keeps its migrations and tracebacks to itself: every error is raised, and said in a line."""
    from mlflow import MlflowClient

    hush()
    return MlflowClient(tracking_uri=uri)


class Runs:
    """The runs of one experiment.

    Args:
        uri: tracking server or data base.
        experiment: name; made if it is missing.
        artifacts: folder for the artifacts of a new experiment; None: the server chooses.
        until: `time.monotonic()` after which no request is sent any more.

    Raises:
        UserError: of every method: the time is over.
        Exception: of every method: whatever MLflow's client raises when the server is away or refuses.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path | None, until: float = math.inf):
        self._uri, self._until = without_secrets(uri), until
        self._client = open_client(uri)
        self._experiment = self._find_or_make_experiment(experiment, artifacts)

    def find(self, identity: Mapping[str, str]) -> list[Run]:
        """Runs that are not deleted and have these tags, oldest first."""
        query = " and ".join(f"tags.`{name}` = '{text}'" for name, text in identity.items())
        runs = self._ask("search_runs", [self._experiment], query, max_results=1000)
        return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def find_or_make(
        self,
        identity: Mapping[str, str],
        name: str,
        tags: Mapping[str, str],
        usable: Callable[[Run], bool] = lambda run: True,
        start_ms: int | None = None,
    ) -> tuple[Run, list[Run]]:
        """The one run with these tags that is `usable`, and the others with these tags, which are to be deleted.

        `start_ms` (ms since 1970; None: now) is the begin of a run that is made here: MLflow never changes it later.
        """
        runs = self.find(identity)
        if not any(map(usable, runs)):
            every_tag = _texts({**tags, **identity})
            shown = names.value(name)[:250]
            self._ask("create_run", self._experiment, start_time=start_ms, run_name=shown, tags=every_tag)
            # Asked again: the request may have been sent twice, or another process may have made the same run.
            runs = self.find(identity)
        chosen = next((run for run in runs if usable(run)), None)
        if chosen is None:
            raise RuntimeError("the server has made a run but does not find it; try again later")
        return chosen, [run for run in runs if run is not chosen]

    def delete(self, runs: Iterable[Run]) -> None:
        """Delete runs."""
        for run in runs:
            self._ask("delete_run", run.info.run_id)

    def adopt(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Put tags on a run that an older version made, if it is still there."""
        from mlflow.exceptions import MlflowException

        try:
            info = self._ask("get_run", run_id).info
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return
            raise
        if info.lifecycle_stage == "active" and info.experiment_id == self._experiment:
            self.add_tags_to(run_id, tags)

    def add_tags(self, run: Run, tags: Mapping[str, object]) -> None:
        """Set those tags that are missing or have another value."""
        self.add_tags_to(run.info.run_id, tags, run.data.tags)

    def add_tags_to(self, run_id: str, tags: Mapping[str, object], known: Mapping[str, str] | None = None) -> None:
        """Set tags of a run, those that are `known` left out."""
        from mlflow.entities import RunTag

        changed = [RunTag(k, v) for k, v in _texts(tags).items() if (known or {}).get(k) != v]
        for some in _portions(changed, _PARAMS_PER_CALL):
            self._ask("log_batch", run_id, tags=some)

    def add_params(self, run: Run, values: Mapping[str, str]) -> None:
        """Log parameters that are missing. MLflow never changes one; what differs by now stands in a tag."""
        from mlflow.entities import Param

        known = run.data.params
        by_key = {key: values[name] for name, key in names.keys(values).items()}
        for some in _portions([Param(k, v) for k, v in by_key.items() if k not in known], _PARAMS_PER_CALL):
            self._ask("log_batch", run.info.run_id, params=some)
        changed = {k: v for k, v in by_key.items() if k in known and known[k] != v}
        if changed:
            self.add_tags(run, {"is.changed_params": json.dumps(changed)})

    def add_points(self, run: Run, points: Iterable[Point]) -> None:
        """Log values of metrics that are missing; NaN and infinity are no values."""
        from mlflow.entities import Metric

        finite: dict[str, dict[int, float]] = defaultdict(dict)
        for point in points:
            if math.isfinite(point.value):
                finite[point.name][point.step] = float(point.value)
        now = int(time.time() * 1000)
        missing = []
        for name, key in names.keys(finite).items():
            known = self._known(run, key, curve=set(finite[name]) != {0})
            missing += [
                Metric(key, value, now, step) for step, value in finite[name].items() if known.get(step) != value
            ]
        for some in _portions(missing, _METRICS_PER_CALL):
            self._ask("log_batch", run.info.run_id, metrics=some)

    def add_datasets(self, run: Run, datasets: Iterable[DataSet]) -> None:
        """Log those data sets that the run does not have yet."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        known = [one.dataset for one in run.inputs.dataset_inputs] if run.inputs is not None else []
        keys = {(one.name, one.digest) for one in known}
        missing = []
        for one in datasets:
            name, digest = names.value(one.name)[:500] or "_", names.value(one.digest)[:36] or "_"
            if (name, digest) not in keys:
                keys.add((name, digest))
                profile = None if one.samples is None else json.dumps({"num_rows": one.samples})
                dataset = Dataset(name, digest, "local", one.source[:65000], profile=profile)
                missing.append(DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")]))
        if missing:
            self._ask("log_inputs", run.info.run_id, missing)

    def add_file(self, run: Run, file: Path, folder: str | None = None) -> None:
        """Upload a file into a folder of the run's artifacts, in the place of one of that name."""
        self._ask("log_artifact", run.info.run_id, str(file), folder)

    def end(self, run: Run, status: str, end_ms: int | None = None) -> None:
        """Set the status (FINISHED, FAILED or KILLED) and the end (ms since 1970; None: now).

        A run that has ended keeps its end where there is no better one: versions before made runs that begin with
        their delivery, long after the work.
        """
        if end_ms is None or end_ms < run.info.start_time:
            end_ms = None if run.info.status == "RUNNING" else run.info.end_time
        self._ask("set_terminated", run.info.run_id, status=status, end_time=end_ms)

    def artifact_link(self, run: Run, path: str) -> str:
        """Where MLflow's pages show an artifact of a run, relative to them."""
        return f"#/experiments/{self._experiment}/runs/{run.info.run_id}/artifacts/{path}"

    def reopen(self, run: Run) -> None:
        """Set the status to RUNNING."""
        if run.info.status != "RUNNING":
            self._ask("update_run", run.info.run_id, status="RUNNING")

    def _known(self, run: Run, key: str, curve: bool) -> dict[int, float]:
        """Values that the run has, by step."""
        if key not in run.data.metrics:
            return {}
        if not curve:
            return {0: run.data.metrics[key]}
        history = self._ask("get_metric_history", run.info.run_id, key)
        return {m.step: m.value for m in sorted(history, key=lambda m: m.timestamp)}

    def _find_or_make_experiment(self, name: str, artifacts: Path | None) -> str:
        experiment = self._ask("get_experiment_by_name", name)
        if experiment is None:
            root = artifacts.as_uri() if artifacts else None
            try:
                return str(self._ask("create_experiment", name, artifact_location=root))
            except UserError:
                raise
            except Exception:
                # Made by another process meanwhile, or by this request, whose answer was lost.
                experiment = self._ask("get_experiment_by_name", name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise UserError(
                f"the MLflow experiment {name!r} at {self._uri} is deleted. Restore it (mlflow experiments restore "
                f"--experiment-id {experiment.experiment_id}) or choose another name with experiment=NAME."
            )
        return str(experiment.experiment_id)

    def _ask(self, method: str, *arguments: Any, **settings: Any) -> Any:
        if time.monotonic() > self._until:
            raise UserError(f"{self._uri} is too slow: the time limit (timeout_s) is over")
        return getattr(self._client, method)(*arguments, **settings)


def _texts(tags: Mapping[str, object]) -> dict[str, str]:
    """Keys and values as MLflow takes them."""
    return {names.key(k): str(v) if k == NOTE else names.value(v) for k, v in tags.items()}


def _portions(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))
