"""`dry_run`: counts without a model, times from stored speeds, and a cache that no damage can break."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from harness.results import speeds
from harness.results.speeds import Speed, Speeds, variant_key

FOLDER = Path(__file__).resolve().parent / "user_folder"


@dataclass
class FakeCell:
    """As much of a cell as a speed depends on."""

    shown: dict
    digest: str = "scenes"

    @property
    def variant(self):
        return SimpleNamespace(name="a", shown=self.shown)

    @property
    def data(self):
        return SimpleNamespace(name="data", digest=self.digest)


def key(cell):
    return variant_key(cell.shown), cell.digest


FAST, SLOW = FakeCell({"width": 8}), FakeCell({"width": 16})


def test_stored_speeds_come_back_and_new_values_join_the_old(tmp_path):
    path = tmp_path / "deep" / "speeds.json"
    Speeds(None, path).add({key(FAST): Speed(encode_ms=100.0, click_ms=10.0, clicks=4.0, weights="untrained")})
    Speeds(None, path).add({key(FAST): Speed(gmacs_click=2.0, at="2026-01-01")})
    speed, source = Speeds(None, path).of(FAST)
    assert speed == Speed(100.0, 10.0, 4.0, None, 2.0, "untrained", "2026-01-01") and source == ""
    assert speed.seconds(20) == pytest.approx(0.1 + 4 * 0.01)  # 4 clicks an episode were seen
    assert Speed(100.0, 10.0).seconds(20) == pytest.approx(0.1 + 20 * 0.01)
    assert Speed(clicks=4.0).seconds(20) is None
    assert [p.name for p in path.parent.iterdir() if p.name != "speeds.lock"] == ["speeds.json"]


def test_other_images_and_flops_stand_in_and_other_threads_do_not(tmp_path):
    path = tmp_path / "speeds.json"
    Speeds(None, path).add({key(FAST): Speed(50.0, 10.0, gmacs_encode=4.0, gmacs_click=2.0, at="2")})
    other = FakeCell(FAST.shown, "photographs")
    assert Speeds(None, path).of(other) == (
        Speed(50.0, 10.0, gmacs_encode=4.0, gmacs_click=2.0, at="2"),
        "on other images",
    )
    assert Speeds(None, path).of(SLOW) == (None, "")
    # 10 ms for 2 GMACs: 5 ms a GMAC.
    Speeds(None, path).add({key(SLOW): Speed(gmacs_encode=6.0, gmacs_click=8.0)})
    assert Speeds(None, path).of(SLOW) == (
        Speed(encode_ms=30.0, click_ms=40.0),
        "roughly, from its FLOPs and the speed of other systems here",
    )
    assert Speeds(97, path).of(FAST) == (None, "")


DAMAGE = {
    "nothing": b"", "text": b"speeds", "cut": b'{"version": 1, "machines": {"a": {', "a list": b"[1]",
    "bytes": b"\xff\xfe\x00", "another version": b'{"version": 99, "machines": {}}', "no machines": b'{"version": 1}',
    "other kinds": b'{"version": 1, "machines": {"KEY": {"v": {"d": 3}}}}',
    "a negative time": b'{"version": 1, "machines": {"KEY": {"v": {"d": {"click_ms": -1}}}}}',
    "not a number": b'{"version": 1, "machines": {"KEY": {"v": {"d": {"click_ms": NaN}}}}}',
    "deep": b"[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_cache_is_an_empty_one_and_is_written_anew(name, tmp_path):
    path = tmp_path / "speeds.json"
    path.write_bytes(DAMAGE[name].replace(b"KEY", speeds.machine_key(None).encode()))
    assert Speeds(None, path).of(FAST) == (None, "")
    Speeds(None, path).add({key(FAST): Speed(50.0, 10.0)})
    assert Speeds(None, path).of(FAST) == (Speed(50.0, 10.0), "")


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    Speeds(None, tmp_path / "file" / "speeds.json").add({key(FAST): Speed(50.0, 10.0)})
    assert (tmp_path / "file").read_text() == "no folder"


def test_the_newest_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(speeds, "MOST", 2)
    path = tmp_path / "speeds.json"
    cells = [FakeCell({"width": n}) for n in range(4)]
    Speeds(None, path).add({key(cell): Speed(1.0, 1.0, at=f"2026-0{n + 1}") for n, cell in enumerate(cells)})
    assert [Speeds(None, path).of(cell)[0] is not None for cell in cells] == [False, False, True, True]


def test_rows_of_another_machine_are_left_out():
    rows = pd.DataFrame({
        "variant": "a", "dataset": "data", "sample": ["x", "x", "y", "z"], "machine": ["me", "me", "me", "other"],
        "encode_ms": [100.0, 100.0, 300.0, 9e9], "online_ms": [10.0, 20.0, 30.0, 9e9],
        "simulate_ms": [1.0, 1.0, 4.0, 9e9], "weights_status": "untrained",
    })  # fmt: skip
    flops = pd.DataFrame({
        "variant": "a", "part": ["total", "total", "head"], "size_bin": "all", "kind": ["encode", "later", "later"],
        "gmacs": [7.0, 2.0, 1.0],
    })  # fmt: skip
    speed = speeds.seen([FAST], rows, flops, "me")[key(FAST)]
    # Two images: medians of 100 and 300; three clicks of 11, 21 and 34 ms in two episodes.
    assert (speed.encode_ms, speed.click_ms, speed.clicks) == (200.0, 22.0, 1.5)
    assert (speed.gmacs_encode, speed.gmacs_click, speed.weights) == (7.0, 2.0, "untrained")


def sweep(*arguments, cache, cwd, code=0):
    command = [
        sys.executable,
        "-m",
        "harness.sweep",
        "--config-dir",
        str(FOLDER),
        "+ablation=radius",
        "dataset=squares",
    ]
    command += ["measure=none", "report=false", "tracking.enabled=false", *arguments]
    environment = {**os.environ, "IS_BENCH_CACHE": str(cache)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    return done


def test_a_sweep_leaves_its_speeds_for_the_next_dry_run(tmp_path):
    cache, cwd = tmp_path / "cache", tmp_path / "work"
    cwd.mkdir()
    before = sweep("dry_run=true", cache=cache, cwd=cwd).stdout
    assert (
        before.count("unknown") >= 2
        and "dry_run=probe measures it" in before
        and "Nothing was run or written" in before
    )
    assert list(cwd.iterdir()) == [] and not cache.exists()
    sweep("out=out", cache=cache, cwd=cwd)
    rows = pd.read_parquet(cwd / "out" / "clicks.parquet")
    after = sweep("dry_run=true", cache=cache, cwd=cwd).stdout
    assert "unknown" not in after and "dry_run=probe measures" not in after
    stored = json.loads((cache / "speeds.json").read_text())
    (records,) = (variants.values() for variants in stored["machines"].values())
    found = sorted(speed["click_ms"] for record in records for speed in record.values())
    expected = (rows["online_ms"] + rows["simulate_ms"]).groupby(rows["variant"]).mean()
    assert found == pytest.approx(sorted(expected))


def test_a_probe_measures_without_a_run(tmp_path):
    cache, cwd = tmp_path / "cache", tmp_path / "work"
    cwd.mkdir()
    done = sweep("dry_run=probe", cache=cache, cwd=cwd).stdout
    assert "unknown" not in done and "Only the speeds were measured" in done
    assert list(cwd.iterdir()) == [] and (cache / "speeds.json").exists()
    assert "unknown" not in sweep("dry_run=true", cache=cache, cwd=cwd).stdout


def test_another_value_is_a_mistake_in_one_line(tmp_path):
    done = sweep("dry_run=yes-please", cache=tmp_path, cwd=tmp_path, code=2)
    assert "dry_run=yes-please: allowed are true, false, probe." in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("budget", "text"),
    [("80", "latency about 80 s, at most 2 min"), ("auto", "latency until each ratio is known, at most 2.0 h")],
)
def test_the_time_of_latency_is_that_of_its_settings(budget, text, tmp_path):
    done = sweep("measure=quick", f"measure.budget_s={budget}", "dry_run=true", cache=tmp_path, cwd=tmp_path)
    assert text in " ".join(done.stdout.split())
