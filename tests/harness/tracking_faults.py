"""A tracking server in memory with MLflow's own rules for names, and a wrapper that fails at a chosen request."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import yaml
from mlflow.exceptions import MlflowException
from mlflow.utils import validation


class Killed(BaseException):
    """The process ends here, as by a signal: nothing may catch it and go on."""


class MemoryServer:
    """What MlflowClient offers, for one experiment store; as strict as MLflow where the harness could go wrong."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.all_runs: dict[str, SimpleNamespace] = {}
        self._clock = itertools.count(1)

    def active(self) -> list[SimpleNamespace]:
        return [run for run in self.all_runs.values() if run.info.lifecycle_stage == "active"]

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return found and SimpleNamespace(experiment_id=found, lifecycle_stage="active")

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        if name in self.experiments:
            raise MlflowException(f"experiment {name} already exists")
        self.experiments[name] = str(len(self.experiments) + 1)
        return self.experiments[name]

    def search_runs(self, experiment_ids: list[str], filter_string: str, max_results: int) -> list[Any]:
        wanted = dict(re.findall(r"tags\.`([^`]+)` = '([^']*)'", filter_string))
        assert wanted
        return [
            self._seen(run) for run in self.active()
            if run.info.experiment_id in experiment_ids and wanted.items() <= run.data.tags.items()
        ]  # fmt: skip

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str], start_time: int | None = None) -> Any:
        for key, value in tags.items():
            validation._validate_tag(key, value)
            value.encode()
        run_id = f"run{len(self.all_runs)}"
        info = SimpleNamespace(
            run_id=run_id, experiment_id=experiment_id, run_name=run_name, lifecycle_stage="active", status="RUNNING",
            start_time=next(self._clock) if start_time is None else start_time, end_time=None,
        )  # fmt: skip
        data = SimpleNamespace(tags=dict(tags), params={}, metrics={})
        run = SimpleNamespace(info=info, data=data, inputs=SimpleNamespace(dataset_inputs=[]), history=[], files={})
        self.all_runs[run_id] = run
        return self._seen(run)

    def get_run(self, run_id: str) -> Any:
        return self._seen(self.all_runs[run_id])

    def delete_run(self, run_id: str) -> None:
        self.all_runs[run_id].info.lifecycle_stage = "deleted"

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        run = self.all_runs[run_id]
        validation._validate_batch_log_limits(metrics, params, tags)
        validation._validate_batch_log_data(metrics, params, tags)
        for tag in tags:
            tag.value.encode()
            run.data.tags[tag.key] = tag.value
        for param in params:
            param.value.encode()
            assert run.data.params.setdefault(param.key, param.value) == param.value, "parameters never change"
        for metric in metrics:
            # The SQL store's primary key: the same point twice is one point.
            point = (metric.key, metric.step, metric.timestamp, metric.value)
            if point not in run.history:
                run.history.append(point)
            run.data.metrics[metric.key] = max(p[1:] for p in run.history if p[0] == metric.key)[2]

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        return [
            SimpleNamespace(key=k, step=s, timestamp=t, value=v)
            for k, s, t, v in self.all_runs[run_id].history
            if k == key
        ]

    def log_inputs(self, run_id: str, datasets: list[Any]) -> None:
        validation._validate_dataset_inputs(datasets)
        known = self.all_runs[run_id].inputs.dataset_inputs
        there = {(d.dataset.name, d.dataset.digest) for d in known}
        known += [d for d in datasets if (d.dataset.name, d.dataset.digest) not in there]

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        path = Path(local_path)
        self.all_runs[run_id].files[f"{artifact_path}/{path.name}"] = path.read_bytes()

    def set_terminated(self, run_id: str, status: str, end_time: int | None = None) -> None:
        info = self.all_runs[run_id].info
        info.status, info.end_time = status, next(self._clock) if end_time is None else end_time

    def update_run(self, run_id: str, status: str) -> None:
        self.all_runs[run_id].info.status = status

    @staticmethod
    def _seen(run: SimpleNamespace) -> SimpleNamespace:
        """A run as a client gets it: a copy."""
        return SimpleNamespace(
            info=SimpleNamespace(**vars(run.info)),
            data=SimpleNamespace(tags={**run.data.tags}, params={**run.data.params}, metrics={**run.data.metrics}),
            inputs=SimpleNamespace(dataset_inputs=[*run.inputs.dataset_inputs]),
        )


class Faulty:
    """A client whose request number `at` (from 0) goes wrong.

    Args:
        client: that does the work.
        at: number of the request; None: none.
        fault: "before": killed before it is sent; "after": killed before the answer is read; "lost": the answer is
            lost and an error raised; "repeated": the answer is lost, and the client below sends the request again.
    """

    def __init__(self, client: Any, at: int | None = None, fault: str = "before"):
        self._client, self._at, self._fault = client, at, fault
        self.count = 0

    def __getattr__(self, method: str) -> Any:
        def ask(*arguments: Any, **settings: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if number != self._at:
                return getattr(self._client, method)(*arguments, **settings)
            if self._fault == "before":
                raise Killed
            getattr(self._client, method)(*arguments, **settings)
            if self._fault == "after":
                raise Killed
            if self._fault == "lost":
                raise ConnectionError("the answer was lost")
            return getattr(self._client, method)(*arguments, **settings)

        return ask


def write_sweep(out: Path, variants: tuple[str, ...] = ("wide", "narrow"), dataset: str = "squares") -> Path:
    """A small finished sweep as harness.sweep leaves it: two samples, three clicks, latency of the first variant."""
    (out / "cells").mkdir(parents=True)
    names = ["a", "b"]
    config = {
        "command": "python -m harness.sweep +ablation=radius",
        "ablation": {"name": "radius", "title": "Disc radius", "base": variants[0]},
        "datasets": {dataset: {"samples": len(names)}},
        "protocol": {"name": "standard"},
        "resolved": {"threads": 1, "untrained_quality": True},
    }
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    (out / "machine.json").write_text(json.dumps({"cpu": "Test CPU", "commit": "abc1234+"}))
    (out / "failures.csv").write_text("stage,variant,dataset,sample,error\n")
    entries, rows, summary = [], [], []
    for i, variant in enumerate(variants):
        entry = {
            "cell": f"cell{i}", "variant": variant, "variant_config": {"radius": i}, "dataset": dataset,
            "dataset_config": {"count": 2}, "dataset_digest": "squares-2-64", "dataset_note": "made",
            "protocol": "standard", "protocol_record": {"max_clicks": 3}, "commit": "abc1234+",
        }  # fmt: skip
        lines = [entry, {"origin": {"code": "0123", "at": f"2026-01-02T03:04:0{i}"}}]
        for j, name in enumerate(names):
            clicks = [{"click": c, "iou": 0.1 * c + 0.01 * i + 0.2 * j, "biou": 0.05 * c} for c in (1, 2, 3)]
            lines.append({"sample": name, "clicks": clicks, "encode_ms": 1.25 + i + j})
            rows += [{"cell": entry["cell"], "sample": name, **click} for click in clicks]
        file = f"cells/cell{i}.jsonl"
        (out / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
        entries.append({**entry, "file": file, "episodes": len(names)})
        summary.append([variant, dataset, "noc90", "all", 3.0 - i, 1.5, 3.5])
        summary.append([variant, dataset, "nof90", "all", float("nan"), float("nan"), float("inf")])
    (out / "cells.json").write_text(json.dumps(entries))
    pd.DataFrame(rows).to_parquet(out / "clicks.parquet")
    columns = ["variant", "dataset", "metric", "size_bin", "value", "low", "high"]
    pd.DataFrame(summary, columns=columns).to_csv(out / "summary.csv", index=False)
    write_latency(out, {variants[0]: 12.5})
    return out


def write_latency(out: Path, milliseconds: dict[str, float]) -> None:
    """latency.csv with one median a variant."""
    rows = [[variant, "encode", 1, 64, "all", value] for variant, value in milliseconds.items()]
    columns = ["variant", "kind", "threads", "resolution", "size_bin", "median_ms"]
    pd.DataFrame(rows, columns=columns).to_csv(out / "latency.csv", index=False)
