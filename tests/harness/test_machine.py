"""The machine's description and its measured peaks."""

from __future__ import annotations

import json

import torch

from harness.latency import pinning
from harness.machine import describe
from harness.machine.peaks import best_rate


def test_description_is_complete_json_without_measuring():
    described = describe.describe(peaks=False)
    assert json.loads(json.dumps(described)) == described
    assert described["cpu_model"] and described["memory_gb"] > 0
    assert described["packages"]["torch"] == torch.__version__
    assert 1 <= described["cores_usable"] <= described["cpus_usable"]
    assert "peaks" not in described


def test_peaks_are_measured_in_a_child(monkeypatch):
    monkeypatch.setattr(pinning, "all_threads", lambda: 1)
    peaks = describe.measured_peaks(quick=True)
    assert set(peaks) == {"1"}
    # A core of the last fifteen years: 1 GFLOPs/s to 10 TFLOPs/s, 0.1 GB/s to 10 TB/s.
    assert 1 < peaks["1"]["fp32_gflops"] < 1e4
    assert 0.1 < peaks["1"]["bf16_gflops"] < 1e5
    assert 0.1 < peaks["1"]["copy_gb_per_s"] < 1e4


def test_the_best_of_several_calls_counts(monkeypatch):
    # Calls of 4, 2 and 3 s (after one to warm up), each with 8 units of work: the roof is 8 / 2.
    ticks = iter([0, 0, 4, 4, 6, 6, 9, 9])
    monkeypatch.setattr("harness.machine.peaks.time.perf_counter", lambda: float(next(ticks)))
    assert best_rate(lambda: None, 8.0, seconds=0.0) == 4.0


def test_more_threads_than_cpus_are_refused():
    most = len(pinning.available_cpus())
    assert pinning.pick_cpus(most) == pinning.available_cpus()
    for bad in (0, most + 1):
        try:
            pinning.pick_cpus(bad)
        except ValueError as error:
            assert str(most) in str(error) and "all" in str(error)
        else:
            raise AssertionError("accepted")
