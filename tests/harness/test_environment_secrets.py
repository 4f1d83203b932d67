"""Values from the environment: used by what is built, stored nowhere, told nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from harness.planning.config import plain
from harness.planning.environment import hide, named, recorded

MODULE = """
import numpy as np

class Client:
    threshold, weights_status, weights_digest, parameters, encoder_key = 0.5, "no weights", "", 0, "client"

    def __init__(self, token, level=0, address="", fail=False):
        assert token == "tok-5ecre7-value" and level == 42, "the segmenter did not get its settings"
        self.token, self.address, self.fail = token, address, fail

    def encode(self, image):
        return image.shape[:2]

    def start(self, embedding):
        return self if not setattr(self, "shape", embedding) else None

    def click(self, click):
        if self.fail:
            raise RuntimeError(f"the server refused {self.token} at {self.address}")
        return np.ones(self.shape, np.float32)
"""
SETTINGS = {
    "_target_": "client_of_a_service.Client",
    "token": "${oc.env:SERVICE_TOKEN}",
    "level": "${oc.decode:${oc.env:SERVICE_LEVEL}}",
    "address": "https://me:${oc.env:SERVICE_TOKEN}@host/${oc.env:NOT_SET_ANYWHERE,here}",
    "fail": False,
}


def test_expressions_stay_and_all_else_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "tok-5ecre7-value")
    monkeypatch.setenv("SERVICE_LEVEL", "42")
    config: Any = OmegaConf.create({**SETTINGS, "size": 3, "same": "${token}", "wide": "${size}"})
    kept = recorded(config)
    assert (kept["token"], kept["same"], kept["wide"]) == ("${oc.env:SERVICE_TOKEN}", "${oc.env:SERVICE_TOKEN}", 3)
    assert kept["level"] == "${oc.decode:${oc.env:SERVICE_LEVEL}}"
    assert plain(OmegaConf.create(kept)) == plain(config)
    assert plain(config)["address"] == "https://me:tok-5ecre7-value@host/here" and plain(config)["level"] == 42
    assert named(kept) == {"SERVICE_TOKEN", "SERVICE_LEVEL", "NOT_SET_ANYWHERE"}
    assert hide({"a": ["no tok-5ecre7-value."]}) == {"a": ["no ${oc.env:SERVICE_TOKEN}."]}


@pytest.mark.slow
def test_a_sweep_leaves_no_secret_in_any_file_or_line(tmp_path: Path) -> None:
    """A working and a failing variant through the real command: config.yaml, cells, tables, page, messages."""
    folder = tmp_path / "mine"
    (folder / "variant").mkdir(parents=True)
    (folder / "client_of_a_service.py").write_text(MODULE)
    for name, fail in (("works", False), ("fails", True)):
        (folder / "variant" / f"{name}.yaml").write_text(yaml.safe_dump({**SETTINGS, "fail": fail}))
    command = [
        sys.executable, "-m", "harness.sweep", "variants=[works,fails]", "dataset.limit=1", "measure=none",
        "protocol.clicks=2", "tracking.enabled=false", "out=out", "--config-dir", str(folder),
    ]  # fmt: skip
    secret = {"SERVICE_TOKEN": "tok-5ecre7-value", "SERVICE_LEVEL": "42"}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **secret}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stderr
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config["variants"]["works"] == {**SETTINGS, "address": config["variants"]["works"]["address"]}
    failures = (tmp_path / "out" / "failures.csv").read_text()
    assert "the server refused ${oc.env:SERVICE_TOKEN} at https://me:${oc.env:SERVICE_TOKEN}@host/here" in failures
    assert "5ecre7" not in done.stdout + done.stderr
    holders = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and b"5ecre7" in p.read_bytes()]
    assert not holders
    # The report was made by the sweep, which passed its own folder and variables on: the episode is replayed.
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "not built" not in page and 'class="player"' in page
