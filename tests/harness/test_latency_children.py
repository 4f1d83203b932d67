"""Measuring children: what a row says when they work, and what it says when they die."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from harness import latency
from harness.errors import UserError
from harness.sample import Sample

QUICK = {
    "threads": [1],
    "resolutions": [64],
    "samples": 2,
    "later_clicks": 2,
    "budget_s": 3,
    "max_repeats": 7,
    "warmup_s": 0.1,
}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    made = []
    for name, side in (("small", 12), ("large", 40)):
        mask = np.zeros((60, 80), np.uint8)
        mask[5 : 5 + side, 10 : 10 + side] = 1
        made.append(Sample(name, rng.integers(0, 255, (60, 80, 3), np.uint8), mask))
    return made


def toy(name, **arguments):
    return {"_target_": f"toy_segmenters.{name}", **arguments}


def test_rows_of_two_variants_and_their_ratio(samples, tmp_path):
    variants = {"tiny": toy("Tiny"), "slow": toy("Tiny", sleep_ms=20)}
    frame = latency.measure(variants, samples, QUICK, base="tiny", out=tmp_path)
    assert set(frame["kind"]) == {"encode", "first", "later", "simulate", "online_spc", "spc20"}
    assert set(frame["size_bin"]) == {"all", "1-5%", ">20%"}
    assert (frame["error"] == "").all()
    assert (frame["workload"] == "ground truth with seeded errors").all()
    later = frame[(frame["kind"] == "later") & (frame["size_bin"] == "all")].set_index("variant")
    assert later.loc["slow", "median_ms"] > 20  # it sleeps for so long
    assert later.loc["slow", "ratio"] > 1
    assert later.loc["tiny", "ratio"] == 1
    assert (frame["peak_rss_mb"] > 0).all()
    assert (tmp_path / "latency_samples.parquet").exists()
    # Fewer than six rounds cannot give a 95 % interval.
    assert all(math.isinf(high) == (n < 6) for high, n in zip(frame["high_ms"], frame["repeats"], strict=True))


def test_every_way_of_dying_is_a_row_and_the_others_go_on(samples):
    variants = {n: toy(n) for n in ("Tiny", "Crashes", "Killed", "Greedy", "Hangs", "Raises")}
    frame = latency.measure(variants, samples, {**QUICK, "timeout_s": 15}, base="Tiny").set_index("variant")
    assert (frame.loc["Tiny", "error"] == "").all()
    assert "exit code 7" in frame.loc["Crashes", "error"]
    assert "SIGKILL" in frame.loc["Killed", "error"]
    assert frame.loc["Greedy", "error"].startswith("out of memory")
    assert "timeout_s" in frame.loc["Hangs", "error"]
    assert "width=0: must be positive" in frame.loc["Raises", "error"]
    assert frame.loc["Crashes", "repeats"] == 0 and math.isnan(frame.loc["Crashes", "median_ms"])


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"threads": [99]}, "threads"),
        ({"threads": ["many"]}, "all"),
        ({"workload": "x"}, "recorded"),
        ({"budget_s": 0}, "budget_s"),
        ({"resolutions": []}, "resolutions"),
        ({"resolutions": [8]}, "32"),
    ],
)
def test_bad_settings_name_what_is_allowed(samples, setting, word):
    with pytest.raises(UserError, match=word):
        latency.measure({"tiny": toy("Tiny")}, samples, {**QUICK, **setting})
