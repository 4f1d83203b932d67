"""Noticing company: with made-up counters, and with a really busy second process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.latency import contention, pinning
from harness.latency.contention import Counters, Load, between, read, verdict


def test_arithmetic_of_a_window():
    before = Counters(wall_s=10.0, own_s=1.0, busy_s=100.0, steal_s=3.0)
    after = Counters(wall_s=12.0, own_s=2.5, busy_s=102.5, steal_s=3.4)
    load = between(before, after, cpus=2)
    # 2 s of wall clock, 1.5 s own, 2.5 s busy in all, 0.4 s stolen of 2 CPUs x 2 s.
    assert load.own_cpus == pytest.approx(0.75)
    assert load.other_cpus == pytest.approx(0.5)
    assert load.steal == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("load", "spread", "words"),
    [
        (Load(5, 1, 0.02, 0.0), 0.05, []),
        (Load(5, 1, 0.9, 0.0), 0.05, ["other load 0.90"]),
        (Load(5, 1, 0.0, 0.3), 0.05, ["steal 30%"]),
        (Load(5, 1, 0.0, 0.0), 0.40, ["spread 40%"]),
        (Load(5, 1, 0.9, 0.3), 0.40, ["steal", "other load", "spread"]),
        (Load(0.01, 1, 0.9, 0.0), 0.05, []),  # a hundredth of a second is one tick: no evidence
    ],
)
def test_verdict_names_each_reason(load, spread, words):
    found = verdict([load], spread)
    assert (found == "") == (not words)
    assert all(word in found for word in words)


def test_small_errors_of_the_ticks_cancel_over_rounds():
    loads = [Load(0.1, 1, 0.1, 0.0), Load(0.1, 1, -0.1, 0.0)] * 50
    assert contention.mean(loads, "other_cpus") == pytest.approx(0)
    assert verdict(loads) == ""


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="needs /proc/stat")
def test_a_busy_second_process_is_noticed():
    cpu = pinning.available_cpus()[-1]
    busy = subprocess.Popen(["taskset", "-c", str(cpu), sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        before = read([cpu])
        # Wait until it got a whole second of CPU time, however busy the machine is.
        while _cpu_seconds(busy.pid) < 1.0:
            time.sleep(0.05)
        load = between(before, read([cpu]), 1)
    finally:
        busy.kill()
        busy.wait()
    spent = load.other_cpus * load.wall_s
    assert spent > 0.6  # it had a second less what passed before the first reading; ticks and start-up in between
    if (
        load.other_cpus > 0.3
    ):  # on a machine crowded by others it may get less than its share; verdicts are tested above
        assert "other load" in verdict([load])


def _cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
