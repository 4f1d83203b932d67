"""The only room that talks to MLflow: delivers a finished or stopped sweep from its folder.

Everything is read back from disk, so that `python -m harness.sync run=DIR` can deliver later what a missing server
refused. Delivering twice changes nothing; a delivery that was cut off after any request is completed by the next.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.planning.addresses import without_secrets

# Before mlflow is imported anywhere: no usage pings, no log lines on the terminal, and a dead server must not hold a
# sweep for minutes.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}.items():
    os.environ.setdefault(_name, _value)

TIME_LIMIT_S = 300.0
_REST = " (timeout_s). What is there stays; the next delivery sends the rest"


def try_deliver(out: Path, settings: Mapping[str, Any]) -> str:
    """Deliver; on any trouble return a line that says what to do instead of raising."""
    try:
        uri = deliver(out, settings)
    except Exception as error:
        return (
            f"MLflow could not be reached or written: {_line(error)}\n"
            f"  Every result is in {out}; deliver later with: python -m harness.sync run={out}"
        )
    return f"MLflow: {uri}  (mlflow ui --backend-store-uri {uri})" if uri.startswith("sqlite") else f"MLflow: {uri}"


def try_deliver_training(folder: Path, settings: Mapping[str, Any]) -> str:
    """Deliver a training run (`run.json`, `history.jsonl`); on any trouble return a line instead of raising."""
    try:
        return f"MLflow: {deliver_training(folder, settings)}"
    except Exception as error:
        return f"MLflow could not be reached or written: {_line(error)}. The curves are in {folder / 'history.jsonl'}"


def tracking_uri(out: Path, settings: Mapping[str, Any]) -> str:
    """Configured URI, else $MLFLOW_TRACKING_URI, else SQLite beside the sweep's folder (absolute)."""
    return (
        settings.get("uri")
        or os.environ.get("MLFLOW_TRACKING_URI")
        or f"sqlite:///{out.absolute().parent / 'mlflow.db'}"
    )


def deliver(out: Path, settings: Mapping[str, Any]) -> str:
    """Log a sweep's folder: a parent run, a child run per cell, metrics, tags, artifacts. Returns the tracking URI as
    it may be shown.

    Args:
        out: folder of the sweep.
        settings: `uri`, `experiment` and `timeout_s` (seconds for all of it, 300 by default), each of them optional.

    Raises:
        UserError: `out` holds no sweep, the time is over, or a SQLite data base is broken or held by another process.
        Exception: whatever the MLflow client raises when the server is away.
    """
    from harness.results.mlflow import delivery
    from harness.results.mlflow.contents import SweepFolder

    folder = SweepFolder(out)
    return _connected(out, settings, "interactive-segmentation", lambda uri, runs: delivery.deliver(folder, uri, runs))


def deliver_training(folder: Path, settings: Mapping[str, Any]) -> str:
    """Log a training run: settings, one metric per curve by step, the record as an artifact. Returns the URI.

    Delivering again after more steps replaces the run of before. Settings and errors are those of `deliver`.
    """
    from harness.results.mlflow import training

    name = "interactive-segmentation-training"
    return _connected(folder, settings, name, lambda uri, runs: training.deliver(folder, uri, runs))


def _connected(folder: Path, settings: Mapping[str, Any], experiment: str, work: Callable[[str, Any], None]) -> str:
    """Do `work` with the runs of an experiment, within the time limit."""
    from harness.results.mlflow import database
    from harness.results.mlflow.runs import Runs

    uri = tracking_uri(folder, settings)
    limit_s = time_limit(settings)

    def connect() -> None:
        with database.ready(uri, limit_s):
            # SQLite's default artifact root is ./mlruns of whoever runs; servers choose their own.
            artifacts = folder.absolute().parent / "mlartifacts" if uri.startswith("sqlite") else None
            until = time.monotonic() + limit_s
            work(uri, Runs(uri, str(settings.get("experiment") or experiment), artifacts, until))

    if uri.startswith(("http://", "https://")):
        within(limit_s, f"{without_secrets(uri)} has not taken everything within", connect, _REST)
    else:
        connect()
    return str(without_secrets(uri))


def time_limit(settings: Mapping[str, Any]) -> float:
    """Seconds that a delivery may take.

    Raises:
        UserError: `timeout_s` is no positive number.
    """
    value = settings.get("timeout_s")
    try:
        seconds = TIME_LIMIT_S if value is None else float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise UserError(f"timeout_s={value!r} is no time limit. Give seconds, for example timeout_s=300.")
    return seconds


def within(limit_s: float, complaint: str, work: Callable[[], None], rest: str = "") -> None:
    """Do `work` in a thread that is left alone after `limit_s`: a server may answer a byte at a time for ever.

    Raises:
        UserError: the time is over; `complaint`, the limit, `rest`.
        BaseException: whatever `work` raises.
    """
    trouble: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # handed to the caller's thread
            trouble.append(error)

    thread = threading.Thread(target=guarded, name="mlflow", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        raise UserError(f"{complaint} {limit_s:g} s{rest}.")
    if trouble:
        raise trouble[0]


def _line(error: Exception) -> str:
    text = without_secrets(" ".join(str(error).split())) or type(error).__name__
    return text if isinstance(error, UserError) else text[:300]
