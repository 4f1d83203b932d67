"""The only module that talks to MLflow: delivers a finished or stopped sweep from its folder.

Everything is read back from disk, so that `python -m harness.sync run=DIR` can deliver later what a missing server
refused, and delivering twice changes nothing. `mlflow.json` in the folder remembers which run belongs to which cell.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from harness.errors import UserError
from harness.results import files
from harness.results.csv_tables import read_csv
from harness.scoring.intervals import is_interval
from harness.text import printable

_PARAMS_PER_CALL = 100
_METRICS_PER_CALL = 500
_STATE = "mlflow.json"

# Before mlflow is imported anywhere: no usage pings, and a dead server must not hold a sweep for minutes.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "GIT_PYTHON_REFRESH": "quiet",
}.items():
    os.environ.setdefault(_name, _value)


def try_deliver(out: Path, settings: Mapping[str, Any]) -> str:
    """Deliver; on any trouble return a line that says what to do instead of raising."""
    try:
        uri = deliver(out, settings)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        return (
            f"MLflow could not be reached or written: {text}\n"
            f"  Every result is in {out}; deliver later with: python -m harness.sync run={out}"
        )
    return f"MLflow: {uri}  (mlflow ui --backend-store-uri {uri})" if uri.startswith("sqlite") else f"MLflow: {uri}"


def tracking_uri(out: Path, settings: Mapping[str, Any]) -> str:
    """Configured URI, else $MLFLOW_TRACKING_URI, else SQLite beside the sweep's folder (absolute)."""
    return (
        settings.get("uri")
        or os.environ.get("MLFLOW_TRACKING_URI")
        or f"sqlite:///{out.absolute().parent / 'mlflow.db'}"
    )


def deliver(out: Path, settings: Mapping[str, Any]) -> str:
    """Log a sweep's folder: a parent run, a child run per cell, metrics, tags, artifacts. Returns the tracking URI.

    Raises:
        UserError: `out` holds no sweep.
        Exception: whatever the MLflow client raises when the server is away.
    """
    if not (out / "config.yaml").exists():
        raise UserError(
            f"{out} holds no sweep (no config.yaml). Give the folder that harness.sweep wrote with out=DIR."
        )
    uri = tracking_uri(out, settings)
    # Two processes that create the SQLite schema at once crash each other.
    with files.Lock(out.absolute().parent / ".mlflow.lock", wait=True):
        return _Delivery(out, uri, str(settings.get("experiment") or "interactive-segmentation")).run()


def try_deliver_training(folder: Path, settings: Mapping[str, Any]) -> str:
    """Deliver a training run (`run.json`, `history.jsonl`); on any trouble return a line instead of raising."""
    try:
        return f"MLflow: {deliver_training(folder, settings)}"
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        return f"MLflow could not be reached or written: {text}. The curves are in {folder / 'history.jsonl'}"


def deliver_training(folder: Path, settings: Mapping[str, Any]) -> str:
    """Log a training run: settings, one metric per curve by step, the record as an artifact. Returns the URI.

    Delivering again replaces the run of before.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    uri = tracking_uri(folder, settings)
    with files.Lock(folder.absolute().parent / ".mlflow.lock", wait=True):
        client = MlflowClient(tracking_uri=uri)
        name = str(settings.get("experiment") or "interactive-segmentation-training")
        found = client.get_experiment_by_name(name)
        root = (folder.absolute().parent / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
        experiment = found.experiment_id if found else client.create_experiment(name, artifact_location=root)
        before = _read_json(folder / _STATE, {}).get(uri)
        if before:
            with contextlib.suppress(Exception):
                client.delete_run(before)
        record = _read_json(folder / "run.json", {})
        run = client.create_run(experiment, run_name=record.get("name"), tags={"is.kind": "training"}).info.run_id
        chosen = {k: record.get(k) for k in ("variant", "settings", "data", "init")}
        params = [Param(k, v[:5000]) for k, v in _flatten(chosen).items()]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            client.log_batch(run, params=params[start : start + _PARAMS_PER_CALL])
        now = int(time.time() * 1000)
        lines = (folder / "history.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        metrics = [
            Metric(_plain(k), float(v), now, int(e["step"])) for e in entries for k, v in e.items() if k != "step"
        ]
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            client.log_batch(run, metrics=metrics[start : start + _METRICS_PER_CALL])
        client.log_artifact(run, str(folder / "run.json"))
        client.set_terminated(run)
        (folder / _STATE).write_text(json.dumps({uri: run}))
    return uri


class _Delivery:
    def __init__(self, out: Path, uri: str, experiment: str):
        import logging

        from mlflow import MlflowClient

        # After the import, which sets levels of its own: schema migrations are not the user's business.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)

        self.out, self.uri = out, uri
        self.client = MlflowClient(tracking_uri=uri)
        self.config = yaml.safe_load((out / "config.yaml").read_text())
        self.experiment = self._experiment(experiment)
        self.state: dict[str, Any] = _read_json(out / _STATE, {}).get(uri, {})
        self.machine = _read_json(out / "machine.json", {})

    def run(self) -> str:
        parent = self._parent()
        for entry in _read_json(self.out / "cells.json", []):
            self._cell(parent, entry)
        self._log_tables(parent)
        self.client.set_terminated(parent, status="FINISHED" if _empty(self.out / "failures.csv") else "FAILED")
        self._remember()
        return self.uri

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        # SQLite's default artifact root is ./mlruns of whoever runs; servers choose their own.
        root = (self.out.absolute().parent / "mlartifacts").as_uri() if self.uri.startswith("sqlite") else None
        return self.client.create_experiment(name, artifact_location=root)

    def _parent(self) -> str:
        known = self.state.get("parent")
        if known and self._exists(known):
            return known
        name = self.config["ablation"]["name"]
        run = self.client.create_run(self.experiment, run_name=name, tags={**self._tags(), "is.kind": "sweep"})
        self.state = {"parent": run.info.run_id, "cells": {}}
        self._remember()
        self._log_params(run.info.run_id, _flatten({k: self.config[k] for k in ("ablation", "protocol", "resolved")}))
        return run.info.run_id

    def _cell(self, parent: str, entry: Mapping[str, Any]) -> None:
        rows = self.out / entry["file"]
        stamp = hashlib.sha256(rows.read_bytes()).hexdigest()[:16]
        before = self.state["cells"].get(entry["cell"])
        if before and before["stamp"] == stamp and self._exists(before["run"]):
            return
        if before and self._exists(before["run"]):
            self.client.delete_run(before["run"])  # the cell has grown: its curves are logged afresh
        tags = {
            **self._tags(),
            "mlflow.parentRunId": parent,
            "is.kind": "cell",
            "is.cell": entry["cell"],
            "is.variant": entry["variant"],
            "is.dataset": entry["dataset"],
            "is.dataset_digest": entry["dataset_digest"],
            "is.dataset_note": entry["dataset_note"],
            "is.protocol": entry["protocol"],
        }
        run = self.client.create_run(self.experiment, run_name=f"{entry['variant']} on {entry['dataset']}", tags=tags)
        run_id = run.info.run_id
        config = {
            "variant": entry["variant_config"],
            "dataset": entry["dataset_config"],
            "protocol": entry["protocol_record"],
        }
        self._log_params(run_id, _flatten(config))
        self._log_dataset(run_id, entry)
        self._log_metrics(run_id, [*self._curves(entry), *self._numbers(entry)])
        self.client.log_artifact(run_id, str(rows), "rows")
        self.client.set_terminated(run_id)
        self.state["cells"][entry["cell"]] = {"run": run_id, "stamp": stamp}
        self._remember()

    def _curves(self, entry: Mapping[str, Any]) -> Iterable[tuple[str, float, int]]:
        path = self.out / "clicks.parquet"
        if not path.exists():
            return
        clicks = pd.read_parquet(path, columns=["cell", "sample", "click", "iou", "biou"])
        mine = clicks[clicks["cell"] == entry["cell"]]
        for metric in ("iou", "biou"):
            # An episode that stopped early keeps its last value, as in the metrics.
            wide = mine.pivot(index="sample", columns="click", values=metric).ffill(axis=1)
            for click, value in wide.mean().items():
                yield f"{metric}/{entry['dataset']}", float(value), int(str(click))

    def _numbers(self, entry: Mapping[str, Any]) -> Iterable[tuple[str, float, int]]:
        summary = read_csv(self.out / "summary.csv")
        for row in summary.to_dict("records"):
            if (
                row["variant"] == entry["variant"]
                and row["dataset"] == entry["dataset"]
                and row.get("size_bin", "all") == "all"
            ):
                name = f"{row['metric']}/{entry['dataset']}"
                yield name, row["value"], 0
                if is_interval(float(row["low"]), float(row["high"])):
                    yield f"{name}/low", row["low"], 0
                    yield f"{name}/high", row["high"], 0
        for row in read_csv(self.out / "latency.csv").to_dict("records"):
            if row["variant"] == entry["variant"]:
                yield (
                    f"latency_ms/{row['kind']}/{row['threads']}thr/{row['resolution']}px/{_plain(row['size_bin'])}",
                    row["median_ms"],
                    0,
                )
        for row in read_csv(self.out / "flops.csv").to_dict("records"):
            if row["variant"] == entry["variant"]:
                yield f"gmacs/{row['kind']}/{row['part']}/{_plain(row['size_bin'])}", row["gmacs"], 0

    def _log_tables(self, parent: str) -> None:
        for pattern in ("*.csv", "*.parquet", "*.json", "*.yaml"):
            for file in sorted(self.out.glob(pattern)):
                if file.name != _STATE:
                    self.client.log_artifact(parent, str(file), "tables")
        if (self.out / "report").is_dir():
            self.client.log_artifacts(parent, str(self.out / "report"), "report")

    def _log_dataset(self, run_id: str, entry: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        source = json.dumps(entry["dataset_config"], default=str)
        digest = str(entry["dataset_digest"])[:36]
        self.client.log_inputs(run_id, [DatasetInput(Dataset(entry["dataset"], digest, "local", source))])

    def _log_params(self, run_id: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(k, v[:5000]) for k, v in values.items()]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=params[start : start + _PARAMS_PER_CALL])

    def _log_metrics(self, run_id: str, values: Iterable[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_plain(k), float(v), now, s) for k, v, s in values if pd.notna(v) and abs(v) != float("inf")]
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_CALL])

    def _tags(self) -> dict[str, str]:
        machine = {
            f"machine.{k}": str(v)[:500] for k, v in self.machine.items() if isinstance(v, (str, int, float, bool))
        }
        return {
            "is.ablation": self.config["ablation"]["name"],
            "is.command": printable(self.config["command"]),
            **machine,
        }

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _remember(self) -> None:
        path = self.out / _STATE
        text = json.dumps({**_read_json(path, {}), self.uri: self.state}, indent=1)
        files.replace(path, lambda beside: beside.write_text(text))


def _plain(name: Any) -> str:
    """A name that MLflow accepts: it rejects @, %, < and the like."""
    text = str(name).replace("<", "under").replace(">", "over").replace("%", "pct").replace("@", "")
    return "".join(c if c.isalnum() or c in "_-./ :" else "_" for c in text)


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        out: dict[str, str] = {}
        for key, child in value.items():
            out.update(_flatten(child, f"{prefix}{key}."))
        return out
    return {_plain(prefix[:-1]): printable(str(value))}


def _read_json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text()) if path.exists() else default


def _empty(path: Path) -> bool:
    return read_csv(path).empty
