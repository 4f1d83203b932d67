"""Delivery to MLflow exactly once: whatever request one ends after, the next leaves what an undisturbed one does.

The server is in memory with MLflow's own validation (tracking_faults.py); test_tracking.py has a real one.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tracking_faults import Faulty, Killed, MemoryServer, write_latency, write_sweep

from harness.errors import UserError
from harness.results import mlflow as tracking
from harness.results.mlflow import live
from harness.results.mlflow import runs as tracking_runs

SETTINGS = {"uri": "memory:", "experiment": "bench"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep") / "out")


@pytest.fixture
def serve(monkeypatch) -> Callable[[object], None]:
    """Let the harness talk to this client."""
    return lambda client: monkeypatch.setattr(tracking_runs, "open_client", lambda uri: client)


def _check(server: MemoryServer) -> None:
    """Exactly the runs, parameters and metrics of `write_sweep`; its numbers by hand."""
    assert list(server.experiments) == ["bench"]
    parents = [run for run in server.active() if run.data.tags["is.kind"] == "sweep"]
    cells = {run.data.tags["is.cell"]: run for run in server.active() if run.data.tags["is.kind"] == "cell"}
    assert len(parents) == 1 and len(server.active()) == 3 and set(cells) == {"cell0", "cell1"}
    parent = parents[0]
    assert parent.data.params == {
        "ablation.name": "radius", "ablation.title": "Disc radius", "ablation.base": "wide",
        "protocol.name": "standard", "resolved.threads": "1", "resolved.untrained_quality": "True",
    }  # fmt: skip
    assert {"tables/clicks.parquet", "tables/cells.json", "tables/config.yaml"} <= set(parent.files)
    assert [(d.dataset.name, d.dataset.digest) for d in parent.inputs.dataset_inputs] == [("squares", "squares-2-64")]
    # The base's numbers that matter: NoC@90 of the summary; no latency of a later click was measured.
    assert sorted((p[0], p[3]) for p in parent.history) == [("1_noc90", 3.0), ("7_encode_ms", 12.5)]
    assert parent.data.tags["mlflow.note.content"].splitlines()[:5] == [
        "**Disc radius**",
        "",
        "| variant | data set | NoC@90 | encode, ms |",
        "| --- | --- | ---: | ---: |",
        "| **wide** (base) | squares | 3.00 (1.50 to 3.50) | 12.5 |",
    ]
    for i, name in enumerate(("wide", "narrow")):
        run = cells[f"cell{i}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.run_name == f"{name} on squares"
        assert run.data.params == {
            "variant": name, "variant.radius": str(i), "dataset": "squares", "dataset.count": "2",
            "protocol.max_clicks": "3",
        }  # fmt: skip
        # Two samples of 1.25 + i + j ms from 03:04:0i on.
        start = 1767323040000 + 1000 * i
        assert (run.info.start_time, run.info.end_time) == (start, start + round(3.5 + 2 * i))
        # IoU of click c is 0.1 c + 0.01 i + 0.2 j for sample j: the mean over j = 0, 1 adds 0.1.
        points = sorted((key, step, round(value, 9)) for key, step, _, value in run.history)
        expected = [("iou/squares", c, round(0.1 * c + 0.01 * i + 0.1, 9)) for c in (1, 2, 3)]
        expected += [("biou/squares", c, round(0.05 * c, 9)) for c in (1, 2, 3)]
        expected += [("noc90/squares", 0, 3.0 - i), ("noc90/squares/low", 0, 1.5), ("noc90/squares/high", 0, 3.5)]
        expected += [("latency_ms/encode/1thr/64px/all", 0, 12.5), ("7_encode_ms", 0, 12.5)] if i == 0 else []
        expected += [("1_noc90", 0, 3.0 - i)]
        assert points == sorted(expected)
        assert [d.dataset.digest for d in run.inputs.dataset_inputs] == ["squares-2-64"]
        assert list(run.files) == [f"rows/cell{i}.jsonl"]
    assert {run.info.status for run in server.active()} == {"FINISHED"}


def _copy(sweep: Path, folder: Path) -> Path:
    return Path(shutil.copytree(sweep, folder / "out"))


def _requests(sweep: Path, folder: Path, serve: Callable[[object], None]) -> int:
    client = Faulty(MemoryServer())
    serve(client)
    tracking.deliver(_copy(sweep, folder), SETTINGS)
    return client.count


@pytest.mark.parametrize("fault", ["before", "after", "lost", "repeated"])
def test_a_fault_at_any_request_leaves_what_an_undisturbed_delivery_does(sweep, tmp_path, serve, fault):
    count = _requests(sweep, tmp_path / "undisturbed", serve)
    assert count > 20
    for number in range(count):
        out, server = _copy(sweep, tmp_path / str(number)), MemoryServer()
        serve(Faulty(server, number, fault))
        try:
            tracking.deliver(out, SETTINGS)
            assert fault == "repeated" or number == 1  # an experiment that was made is found by the answer's loss
        except (Killed, ConnectionError):
            assert fault != "repeated"
        serve(server)
        tracking.deliver(out, SETTINGS)
        _check(server)
        shutil.rmtree(out)


def test_two_faults_one_after_the_other(sweep, tmp_path, serve):
    for first in range(3, 30, 4):
        for second in range(3, 30, 5):
            out, server = _copy(sweep, tmp_path / f"{first}-{second}"), MemoryServer()
            for number, fault in ((first, "after"), (second, "before")):
                serve(Faulty(server, number, fault))
                with contextlib.suppress(Killed):  # a later delivery has fewer requests to send
                    tracking.deliver(out, SETTINGS)
            serve(server)
            tracking.deliver(out, SETTINGS)
            _check(server)


def test_again_changes_nothing_and_sends_little(sweep, tmp_path, serve):
    out, server = _copy(sweep, tmp_path), MemoryServer()
    serve(server)
    tracking.deliver(out, SETTINGS)
    before = {run.info.run_id: [*run.history] for run in server.all_runs.values()}
    tracking.deliver(out, SETTINGS)
    assert {run.info.run_id: run.history for run in server.all_runs.values()} == before
    _check(server)


@pytest.mark.parametrize("damage", [None, "{torn", "\0\0\0\0", "[]", ""])
def test_runs_are_found_again_without_the_state_file(sweep, tmp_path, serve, damage):
    out, server = _copy(sweep, tmp_path), MemoryServer()
    serve(server)
    tracking.deliver(out, SETTINGS)
    state = out / "mlflow.json"
    state.unlink() if damage is None else state.write_text(damage)
    tracking.deliver(out, SETTINGS)
    _check(server)
    assert (out / "mlflow.json.damaged").exists() == (damage is not None)


def test_runs_of_an_older_version_are_taken_over(sweep, tmp_path, serve):
    """Its mlflow.json named runs by their ids; a cell's run could be left without parameters for good."""
    out, server = _copy(sweep, tmp_path), MemoryServer()
    serve(server)
    experiment = server.create_experiment("bench")
    parent = server.create_run(experiment, "radius", {"is.kind": "sweep"}).info.run_id
    bare = server.create_run(
        experiment, "wide on squares", {"is.kind": "cell", "is.cell": "cell0", "mlflow.parentRunId": parent}
    ).info.run_id
    state = {"memory:": {"parent": parent, "cells": {"cell0": {"run": bare, "stamp": "0"}}}}
    (out / "mlflow.json").write_text(json.dumps(state))
    tracking.deliver(out, SETTINGS)
    _check(server)
    assert parent in {run.info.run_id for run in server.active()}


def test_latency_that_was_measured_on_resume_arrives(sweep, tmp_path, serve):
    out, server = _copy(sweep, tmp_path), MemoryServer()
    serve(server)
    tracking.deliver(out, SETTINGS)
    ids = {run.info.run_id for run in server.active()}
    write_latency(out, {"wide": 12.5, "narrow": 7.25})
    tracking.deliver(out, SETTINGS)
    assert {run.info.run_id for run in server.active()} == ids
    latencies = {
        run.data.tags["is.variant"]: [p[3] for p in run.history if p[0].startswith("latency")]
        for run in server.active()
        if run.data.tags["is.kind"] == "cell"
    }
    assert latencies == {"wide": [12.5], "narrow": [7.25]}


def test_a_cell_that_has_grown_has_one_run_with_its_new_curves(sweep, tmp_path, serve):
    out, server = _copy(sweep, tmp_path), MemoryServer()
    whole = (out / "cells" / "cell0.jsonl").read_text()
    entries = json.loads((out / "cells.json").read_text())
    (out / "cells" / "cell0.jsonl").write_text("".join(whole.splitlines(keepends=True)[:3]))
    (out / "cells.json").write_text(json.dumps([{**entries[0], "episodes": 1}, entries[1]]))
    serve(server)
    tracking.deliver(out, SETTINGS)
    status = {run.data.tags.get("is.cell", "parent"): run.info.status for run in server.active()}
    assert status == {"parent": "KILLED", "cell0": "KILLED", "cell1": "FINISHED"}  # FINISHED only when whole
    (out / "failures.csv").write_text("stage,variant,dataset,sample,error\nclicks,wide,squares,b,broken\n")
    tracking.deliver(out, SETTINGS)
    status = {run.data.tags.get("is.cell", "parent"): run.info.status for run in server.active()}
    assert status == {"parent": "FAILED", "cell0": "FAILED", "cell1": "FINISHED"}
    (out / "failures.csv").write_text("stage,variant,dataset,sample,error\n")
    (out / "cells" / "cell0.jsonl").write_text(whole)
    (out / "cells.json").write_text(json.dumps(entries))
    tracking.deliver(out, SETTINGS)
    _check(server)


def test_standard_tags(sweep, tmp_path, serve, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    out, server = _copy(sweep, tmp_path), MemoryServer()
    serve(server)
    tracking.deliver(out, SETTINGS)
    for run in server.active():
        assert run.data.tags["mlflow.user"] == "ada"
        assert run.data.tags["mlflow.source.name"] == "python -m harness.sweep +ablation=radius"
        assert run.data.tags["mlflow.source.type"] == "LOCAL"
        assert run.data.tags["mlflow.source.git.commit"] == "abc1234"


def test_a_user_without_a_name_stops_nothing(sweep, tmp_path, serve, monkeypatch):
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    out, server = _copy(sweep, tmp_path), MemoryServer()
    serve(server)
    tracking.deliver(out, SETTINGS)
    assert all(run.data.tags["mlflow.user"].isdigit() for run in server.active())


@pytest.mark.parametrize(
    "odd",
    [
        "a" * 400,
        "..",
        "/",
        "a//b",
        "x/../y",
        "é ü/漢字",
        "$\\frac{$",
        "new\nline",
        "'; --",
        "`",
        "%s<5@",
        " ",
    ],
)
def test_names_of_every_kind_arrive(tmp_path, serve, odd):
    out, server = write_sweep(tmp_path / "out", (odd, odd + "?"), odd), MemoryServer()
    serve(server)
    tracking.deliver(out, SETTINGS)
    tracking.deliver(out, SETTINGS)
    cells = [run for run in server.active() if run.data.tags["is.kind"] == "cell"]
    assert len(cells) == 2 and len(server.active()) == 3
    # Two curves, the NoC (twice) and its interval, and the first variant's latency (twice); NoF is NaN.
    assert sorted(len(run.data.metrics) for run in cells) == [6, 8]


def test_a_training_run_is_delivered_once(tmp_path, serve):
    (tmp_path / "run.json").write_text(json.dumps({"name": "small", "settings": {"steps": 2}, "data": "x" * 9000}))
    lines = [{"step": 1, "loss": 0.5, "lr": 0.1}, {"step": 2, "loss": float("nan"), "lr": 0.05}]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    clean = MemoryServer()
    client = Faulty(clean)
    serve(client)
    tracking.deliver_training(tmp_path, SETTINGS)
    for number in range(client.count):
        for fault in ("before", "after"):
            server = MemoryServer()
            serve(Faulty(server, number, fault))
            with pytest.raises(Killed):
                tracking.deliver_training(tmp_path, SETTINGS)
            serve(server)
            tracking.deliver_training(tmp_path, SETTINGS)
            [run] = server.active()
            assert run.data.params["settings.steps"] == "2"
            assert sorted((k, s, v) for k, s, _, v in run.history) == [
                ("loss", 1, 0.5),
                ("lr", 1, 0.1),
                ("lr", 2, 0.05),
            ]
            assert run.info.status == "FINISHED"


def test_time_limit_is_read(sweep, tmp_path):
    for bad in ("soon", 0, -1, float("nan")):
        with pytest.raises(UserError, match="timeout_s"):
            tracking.deliver(_copy(sweep, tmp_path / str(bad)), {**SETTINGS, "timeout_s": bad})


def test_live_metrics_and_then_the_whole(sweep, tmp_path, serve):
    """Metrics by number of finished episodes while the sweep runs; its end completes the same runs."""
    out, server = _copy(sweep, tmp_path), MemoryServer()
    serve(server)
    lines = (out / "cells" / "cell0.jsonl").read_text().splitlines(keepends=True)
    entries = (out / "cells.json").read_text()
    for name in ("cells.json", "clicks.parquet", "summary.csv", "latency.csv", "failures.csv"):
        (out / name).unlink()
    narrow = (out / "cells" / "cell1.jsonl").read_text()
    (out / "cells" / "cell1.jsonl").write_text(narrow.splitlines(keepends=True)[0])
    for written in (lines[:1], lines[:3], [*lines[:3], lines[3][:20]], lines):  # the third has a torn last line
        (out / "cells" / "cell0.jsonl").write_text("".join(written))
        live.send(out, SETTINGS, tracking_runs.Runs("memory:", "bench", None))
    [cell] = [run for run in server.active() if run.data.tags["is.kind"] == "cell"]
    assert cell.info.status == "RUNNING"
    # IoU after the third click is 0.3 for sample a and 0.5 for sample b.
    assert {(key, step, round(value, 9)) for key, step, _, value in cell.history} == {
        ("live/mean_iou", 1, 0.3), ("live/mean_clicks", 1, 3.0), ("live/failed", 1, 0.0),
        ("live/mean_iou", 2, 0.4), ("live/mean_clicks", 2, 3.0), ("live/failed", 2, 0.0),
    }  # fmt: skip
    assert len(cell.history) == 6
    for file in sweep.glob("*.*"):
        shutil.copy(file, out)
    (out / "cells.json").write_text(entries)
    (out / "cells" / "cell1.jsonl").write_text(narrow)
    tracking.deliver(out, SETTINGS)
    assert cell.info.run_id in {run.info.run_id for run in server.active()}
    for run in server.active():
        run.history = [point for point in run.history if not point[0].startswith("live/")]
    _check(server)


@pytest.mark.parametrize("interval", ["often", 0, -1, True])
def test_live_interval_is_read(tmp_path, interval):
    with pytest.raises(UserError, match="live_s"), live.following(tmp_path, {"live_s": interval}):
        pass


def test_nothing_follows_a_data_base_or_a_short_sweep(tmp_path, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", never)
    for settings in (
        {"uri": "sqlite:///x.db", "live_s": 0.01},
        {"uri": "http://127.0.0.1:1", "live_s": None},
        {"uri": "http://127.0.0.1:1", "live_s": 0.01, "enabled": False},
        {"uri": "http://127.0.0.1:1", "live_s": 60},
    ):
        with live.following(tmp_path, settings):
            time.sleep(0.05)
