"""SQLite as tracking data base: whole or not there, one lock beside it, broken ones named; and slow servers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tracking_faults import Faulty, Killed, write_sweep

from harness.errors import UserError
from harness.results import files
from harness.results import mlflow as tracking
from harness.results.mlflow import database
from harness.results.mlflow import runs as tracking_runs


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An empty data base with MLflow's schema, made once (seconds)."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    with database.ready(f"sqlite:///{path}", 60):
        pass
    return path


def _tables(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_new_data_base_has_its_schema_and_nothing_lies_around(made):
    assert {"experiments", "runs", "metrics", "params", "tags", "alembic_version"} <= _tables(made)
    assert {p.name for p in made.parent.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


def test_making_one_says_nothing_on_the_terminal(tmp_path):
    """MLflow and Alembic tell of every migration; the sweep's own lines would drown."""
    program = "import sys; from harness.results.mlflow import database\nwith database.ready(sys.argv[1], 60): pass"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_LOGGING_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'mlflow.db'}"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
    assert "runs" in _tables(tmp_path / "mlflow.db")


def _make_and_die(path: Path) -> None:
    import sqlalchemy
    from sqlalchemy import event

    # The process dies at the 60th statement: some tables are there, the schema is not.
    statements = []

    def count(*_: object) -> None:
        statements.append(1)
        if len(statements) == 60:
            os._exit(9)

    event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", count)
    with database.ready(f"sqlite:///{path}", 60):
        pass


def test_a_death_while_the_schema_is_made_leaves_no_data_base(tmp_path, made):
    path = tmp_path / "mlflow.db"
    process = multiprocessing.get_context("fork").Process(target=_make_and_die, args=(path,))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert not path.exists() and (tmp_path / ".mlflow.db.tmp").exists()
    with database.ready(f"sqlite:///{path}", 60):
        assert _tables(path) == _tables(made)
    assert not (tmp_path / ".mlflow.db.tmp").exists()


def test_one_lock_for_a_data_base_however_it_is_named(made, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(made.parent)
    held = files.Lock(made.with_name(".mlflow.db.lock"))
    start = time.monotonic()
    named = database.ready(f"sqlite:///{link / 'mlflow.db'}", 0.3)
    with pytest.raises(UserError, match="another process has held .*mlflow.db for 0.3 s"), named:
        pass
    assert time.monotonic() - start < 30
    held.close()
    with database.ready(f"sqlite:///{link / 'mlflow.db'}", 0.3):
        pass


def test_servers_have_no_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uri in ("http://127.0.0.1:1", "postgresql://user@host/db", "sqlite://", "sqlite:///:memory:"):
        with database.ready(uri, 1):
            pass
    assert list(tmp_path.iterdir()) == []


def _break(path: Path, how: str) -> None:
    if how == "text":
        path.write_text("this is no data base at all, but long enough to have a header")
        return
    if how == "cut":
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return
    if how == "foreign":
        path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        if how == "foreign":
            connection.execute("CREATE TABLE songs (title TEXT)")
        if how == "no version":
            connection.execute("DROP TABLE alembic_version")
        elif how == "no table":
            connection.execute("DROP TABLE runs")
        elif how == "empty version":
            connection.execute("DELETE FROM alembic_version")
        elif how == "other version":
            connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.commit()


@pytest.mark.parametrize("how", ["text", "cut", "no table", "no version", "empty version", "other version", "foreign"])
def test_a_broken_data_base_is_named_with_the_way_out(made, tmp_path, how):
    path = Path(shutil.copy(made, tmp_path / "mlflow.db"))
    _break(path, how)
    before = path.read_bytes()
    out = write_sweep(tmp_path / "out")
    message = tracking.try_deliver(out, {"uri": f"sqlite:///{path}"})
    assert str(path) in message and f"mv {path} {path}.broken" in message and "mlflow db upgrade" in message
    assert f"harness.sync run={out}" in message
    if how != "cut":
        assert path.read_bytes() == before, "nothing is written into what is not understood"


def test_faults_on_a_real_data_base(made, tmp_path, monkeypatch):
    """Every fifth request of the in-memory test, on MLflow's own store."""
    path = Path(shutil.copy(made, tmp_path / "mlflow.db"))
    uri = f"sqlite:///{path}"
    client = tracking_runs.open_client(uri)
    for number in range(1, 28, 5):
        out = write_sweep(tmp_path / f"out{number}")
        settings = {"uri": uri, "experiment": f"bench{number}"}
        for fault in ("after", "repeated", None):
            faulty = Faulty(client, number if fault else None, fault or "")
            monkeypatch.setattr(tracking_runs, "open_client", lambda uri, faulty=faulty: faulty)
            with contextlib.suppress(Killed):
                tracking.deliver(out, settings)
        experiment = client.get_experiment_by_name(f"bench{number}").experiment_id
        runs = client.search_runs([experiment])
        cells = {run.data.tags["is.cell"]: run for run in runs if run.data.tags["is.kind"] == "cell"}
        assert len(runs) == 3 and set(cells) == {"cell0", "cell1"}
        assert all(run.data.params["protocol.max_clicks"] == "3" for run in cells.values())
        for i, run in enumerate((cells["cell0"], cells["cell1"])):
            history = client.get_metric_history(run.info.run_id, "iou/squares")
            # IoU of click c is 0.1 c + 0.01 i + 0.2 j for sample j: the mean over j = 0, 1 adds 0.1.
            assert [m.step for m in sorted(history, key=lambda m: m.step)] == [1, 2, 3]
            assert {m.step: pytest.approx(m.value) for m in history} == {c: 0.1 * c + 0.01 * i + 0.1 for c in (1, 2, 3)}
            assert run.data.metrics["noc90/squares"] == 3.0 - i
            assert len(run.inputs.dataset_inputs) == 1
        assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_server_that_answers_a_byte_at_a_time_holds_nobody(tmp_path):
    """Each byte comes within the limit of a request, so that only a limit for the whole delivery ends it."""
    out = write_sweep(tmp_path / "out")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.1)

        threading.Thread(target=trickle, daemon=True).start()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        start = time.monotonic()
        message = tracking.try_deliver(out, {"uri": uri, "timeout_s": 2})
    assert time.monotonic() - start < 30
    assert f"{uri} has not taken everything within 2 s (timeout_s)" in message
    assert f"python -m harness.sync run={out}" in message
