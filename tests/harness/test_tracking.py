"""MLflow: a real server on loopback, a server that is away, and delivery afterwards."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from test_sweep import BASIC, sweep
from tracking_faults import write_sweep

from harness.results import mlflow as tracking
from harness.results.mlflow import live


def _post(uri: str, path: str, body: dict) -> dict:
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _get(uri: str, path: str) -> dict:
    with urllib.request.urlopen(f"{uri}/api/2.0/mlflow/{path}", timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`mlflow server` on a free loopback port, with its own SQLite and artifact folder."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    log = open(folder / "log.txt", "w")  # noqa: SIM115 (closed with the server)
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=2)
            break
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, (folder / "log.txt").read_text()
            time.sleep(0.2)
    yield uri
    os.killpg(process.pid, 9)
    process.wait()
    log.close()


def _runs(uri: str) -> list[dict]:
    experiment = _get(uri, "experiments/get-by-name?experiment_name=interactive-segmentation")["experiment"][
        "experiment_id"
    ]
    return _post(uri, "runs/search", {"experiment_ids": [experiment], "max_results": 100}).get("runs", [])


def _tags(run: dict) -> dict:
    return {t["key"]: t["value"] for t in run["data"]["tags"]}


@pytest.fixture(scope="module")
def delivered(server, tmp_path_factory) -> tuple[str, Path]:
    cwd = tmp_path_factory.mktemp("tracked")
    sweep(*BASIC, "out=out", cwd=cwd, env={**os.environ, "MLFLOW_TRACKING_URI": server})
    return server, cwd / "out"


def test_parent_and_child_runs_are_found_through_rest(delivered):
    uri, _ = delivered
    runs = _runs(uri)
    parents = [r for r in runs if _tags(r)["is.kind"] == "sweep"]
    cells = [r for r in runs if _tags(r)["is.kind"] == "cell"]
    assert len(parents) == 1 and len(cells) == 2
    assert {_tags(c)["is.variant"] for c in cells} == {"wide", "narrow"}
    assert {_tags(c)["mlflow.parentRunId"] for c in cells} == {parents[0]["info"]["run_id"]}
    assert all(_tags(c)["is.dataset_digest"] == "squares-4-64" for c in cells)
    assert all(r["info"]["status"] == "FINISHED" for r in runs)


def test_stepped_iou_and_noc_are_those_of_the_rows(delivered):
    uri, out = delivered
    rows = pd.read_parquet(out / "clicks.parquet")
    summary = pd.read_csv(out / "summary.csv").set_index(["variant", "metric"])["value"]
    for run in _runs(uri):
        if _tags(run)["is.kind"] != "cell":
            continue
        variant = _tags(run)["is.variant"]
        run_id = run["info"]["run_id"]
        history = _get(uri, f"metrics/get-history?run_id={run_id}&metric_key=iou/squares")["metrics"]
        wide = rows[rows["variant"] == variant].pivot(index="sample", columns="click", values="iou").ffill(axis=1)
        # An early stop keeps its last IoU: mean over all samples at every click that any sample reached.
        assert {int(m["step"]): pytest.approx(m["value"]) for m in history} == wide.mean().to_dict()
        last = {m["key"]: m["value"] for m in run["data"]["metrics"]}
        assert last["noc90/squares"] == pytest.approx(summary[(variant, "noc90")])


def test_configuration_and_rows_are_kept(delivered):
    uri, out = delivered
    for run in _runs(uri):
        params = {p["key"]: p["value"] for p in run["data"]["params"]}
        files = _get(uri, f"artifacts/list?run_id={run['info']['run_id']}")
        if _tags(run)["is.kind"] == "cell":
            assert params["variant.radius"] == {"wide": "12", "narrow": "6"}[_tags(run)["is.variant"]]
            assert params["dataset.count"] == "4"
            assert [f["path"] for f in files["files"]] == ["rows"]
        else:
            tables = _get(uri, f"artifacts/list?run_id={run['info']['run_id']}&path=tables")["files"]
            assert {"tables/clicks.parquet", "tables/summary.csv", "tables/config.yaml"} <= {f["path"] for f in tables}


def test_delivering_twice_changes_nothing(delivered):
    uri, out = delivered
    before = sorted(r["info"]["run_id"] for r in _runs(uri))
    done = subprocess.run(
        [sys.executable, "-m", "harness.sync", f"run={out}", f"uri={uri}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(r["info"]["run_id"] for r in _runs(uri)) == before


def test_server_away_keeps_everything_and_sync_delivers_later(server, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    done = sweep(*BASIC, "out=out", f"tracking.uri={dead}", cwd=tmp_path, env=environment)
    assert "deliver later with: python -m harness.sync" in " ".join(done.stderr.split())
    assert len(pd.read_csv(tmp_path / "out" / "summary.csv"))
    done = subprocess.run(
        [sys.executable, "-m", "harness.sync", f"run={tmp_path / 'out'}", f"uri={server}", "experiment=later"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    experiment = _get(server, "experiments/get-by-name?experiment_name=later")["experiment"]["experiment_id"]
    assert len(_post(server, "runs/search", {"experiment_ids": [experiment]})["runs"]) == 3


def test_sqlite_is_the_default_and_lies_beside_the_sweep(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    sweep(*BASIC, "out=runs/radius", cwd=tmp_path, env=environment)
    assert (tmp_path / "runs" / "mlflow.db").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs"], "nothing else may appear in the working directory"


def test_sync_of_a_folder_without_a_sweep(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "harness.sync", f"run={tmp_path}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "holds no sweep" in done.stderr


@contextmanager
def _losing_answers(uri: str) -> Iterator[tuple[str, set[str]]]:
    """A proxy that does what it is asked, and drops the answer to the first request of each kind; those kinds."""
    lost: set[str] = set()

    class Proxy(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            request = urllib.request.Request(uri + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    status, content = answer.status, answer.read()
            except urllib.error.HTTPError as error:  # an answer like others: there is no such experiment
                status, content = error.code, error.read()
            kind = f"{self.command} {self.path.split('?')[0]}"
            self.close_connection = True
            if kind not in lost:
                lost.add(kind)
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = forward

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{proxy.server_address[1]}", lost
    proxy.shutdown()
    proxy.server_close()


def test_answers_that_are_lost_on_the_way_make_no_second_run(server, tmp_path, monkeypatch):
    """MLflow's client sends a request again whose answer was lost, also the one that makes a run."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    out = write_sweep(tmp_path / "out")
    with _losing_answers(server) as (proxy, lost):
        for _ in range(20):  # what the client does not send again itself ends a delivery
            message = tracking.try_deliver(out, {"uri": proxy, "experiment": "lossy"})
            if message == f"MLflow: {proxy}":
                break
    assert message == f"MLflow: {proxy}"
    assert {"POST /api/2.0/mlflow/runs/create", "POST /api/2.0/mlflow/runs/log-batch"} <= lost
    experiment = _get(server, "experiments/get-by-name?experiment_name=lossy")["experiment"]["experiment_id"]
    runs = _post(server, "runs/search", {"experiment_ids": [experiment]})["runs"]
    assert sorted(_tags(run).get("is.cell", "parent") for run in runs) == ["cell0", "cell1", "parent"]
    for run in runs:
        if _tags(run)["is.kind"] == "cell":
            history = _get(server, f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=iou/squares")
            assert sorted(int(m["step"]) for m in history["metrics"]) == [1, 2, 3]
            assert {p["key"] for p in run["data"]["params"]} == {
                "variant",
                "variant.radius",
                "dataset",
                "dataset.count",
                "protocol.max_clicks",
            }


def test_a_process_beside_the_sweep_sends_live_metrics(server, tmp_path):
    out = write_sweep(tmp_path / "out")
    experiment, runs = "", []
    settings = {"uri": server, "experiment": "live", "live_s": 0.5}
    with live.following(out, settings):
        time.sleep(0.01)
        (out / "cells" / "cell0.jsonl").touch()  # it grows; the other cell was there before
        limit = time.monotonic() + 90
        while not any("metrics" in run["data"] and _tags(run)["is.kind"] == "cell" for run in runs):
            assert time.monotonic() < limit
            time.sleep(0.3)
            try:
                experiment = _get(server, "experiments/get-by-name?experiment_name=live")["experiment"]["experiment_id"]
            except urllib.error.HTTPError:
                continue
            runs = _post(server, "runs/search", {"experiment_ids": [experiment]}).get("runs", [])
    [cell] = [run for run in runs if _tags(run)["is.kind"] == "cell"]
    assert cell["info"]["status"] == "RUNNING" and _tags(cell)["is.cell"] == "cell0"
    # IoU after the third click is 0.3 for one sample and 0.5 for the other.
    assert {m["key"]: pytest.approx(m["value"]) for m in cell["data"]["metrics"]}["live/mean_iou"] == 0.4
    tracking.deliver(out, settings)
    runs = _post(server, "runs/search", {"experiment_ids": [experiment]})["runs"]
    assert len(runs) == 3 and {run["info"]["status"] for run in runs} == {"FINISHED"}
    assert cell["info"]["run_id"] in {run["info"]["run_id"] for run in runs}
