"""Passwords within the address of a tracking server are used, and nowhere shown or stored.

Expected texts follow RFC 3986, 3.2.1 (userinfo before `@`, its password after the first colon).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import sync
from harness.errors import UserError
from harness.planning.addresses import without_secrets
from harness.results import mlflow as tracking
from harness.results.mlflow import identity

USER_FOLDER = Path(__file__).parent / "user_folder"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://host:5000", "http://host:5000"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
        ("http://me:pass@host:5000/x", "http://me:***@host:5000/x"),
        ("https://:pass@host", "https://:***@host"),
        ("https://dapi0123@host", "https://***@host"),
        ("http://me:p@ss:w@host", "http://me:***@host"),
        ("http://me:pa/ss@host", "http://me:***@host"),
        ("http://me:pa?s#s@host", "http://me:***@host"),
        (
            "postgresql+psycopg2://me:pass@host/db?sslmode=require",
            "postgresql+psycopg2://me:***@host/db?sslmode=require",
        ),
        ("http://host/?password=x&a=1&api_key=y", "http://host/?password=***&a=1&api_key=***"),
        ("a 'http://me:pass@h' and http://you:word@h: no", "a 'http://me:***@h' and http://you:***@h: no"),
        ("http://me:${oc.env:PW}@host/x", "http://me:${oc.env:PW}@host/x"),
        ("https://${oc.env:TOKEN}@host", "https://${oc.env:TOKEN}@host"),
        ("http://me:${oc.env:PW}pa55@host", "http://me:***@host"),
        ("no address: me:pass@host", "no address: me:pass@host"),
    ],
)
def test_what_is_left_of_an_address(given: str, shown: str) -> None:
    assert without_secrets(given) == shown
    assert without_secrets(shown) == shown
    assert without_secrets({given: [given, 3, None]}) == {shown: [shown, 3, None]}


SECRET = "s3cr3t-pa55"


def test_a_sweep_leaves_it_in_no_file_and_no_line(tmp_path: Path) -> None:
    """The server is not there: its address is in the messages of MLflow's client, too."""
    address = f"http://somebody:{SECRET}@127.0.0.1:9"
    settings = ["variant=disc", "dataset=squares", "dataset.count=1", "measure=none", "protocol.clicks=2", "threads=1"]
    command = [sys.executable, "-m", "harness.sweep", "--config-dir", str(USER_FOLDER), *settings, "report=false"]
    command += [f"out={tmp_path / 'out'}", f"tracking.uri={address}", "tracking.timeout_s=5"]
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "COLUMNS": "1000"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "somebody:***@127.0.0.1" in done.stdout + done.stderr and SECRET not in done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "config.yaml" for path in written)
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert "tracking.uri=http://somebody:***@127.0.0.1:9" in (tmp_path / "out" / "config.yaml").read_text()


def test_other_commands_do_not_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "config.yaml").write_text("ablation: {name: x}\n")
    address = f"http://somebody:{SECRET}@127.0.0.1:9"
    with pytest.raises(UserError) as caught:
        sync.run([f"run={tmp_path}", f"uri={address}", "timeout_s=5"])
    assert "somebody:***@127.0.0.1:9" in str(caught.value) and SECRET not in str(caught.value)
    text = tracking.try_deliver_training(tmp_path, {"uri": address, "timeout_s": 5})
    assert SECRET not in text


def test_what_earlier_versions_stored_is_cleaned_and_still_found(tmp_path: Path) -> None:
    """`mlflow.json` of earlier versions: tracking URI -> run."""
    address = f"http://somebody:{SECRET}@host:5000"
    (tmp_path / "mlflow.json").write_text(json.dumps({"id": "abc", address: {"parent": "run1"}}))
    mine = identity.of(tmp_path, "x")
    assert mine.id == "abc" and mine.older_run(address) == "run1" and mine.older_run("http://host:5000") is None
    stored = (tmp_path / "mlflow.json").read_text()
    assert SECRET not in stored and json.loads(stored)["id"] == "abc"
    assert identity.of(tmp_path, "x").older_run(address) == "run1"
