"""Noticing that a measurement was not alone: stolen CPU time, other load, and run-to-run spread.

Counters come from /proc/stat (10 ms ticks) and the process's own CPU time; where there is no /proc they are NaN.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_STEAL = 0.02  # share of the pinned CPUs' time that the hypervisor took away
MAX_OTHER_LOAD = 0.15  # CPUs kept busy by anybody else, on the whole machine
MAX_SPREAD = 0.15  # interquartile range of the rounds over their median
_TICKS_S = 0.02  # what two readings of 10 ms ticks may be wrong by


@dataclass(frozen=True)
class Counters:
    """One reading: seconds of wall clock, of this process, and of the machine's CPUs."""

    wall_s: float
    own_s: float
    busy_s: float
    steal_s: float


@dataclass(frozen=True)
class Load:
    """What happened between two readings.

    Attributes:
        wall_s: seconds between the readings.
        own_cpus: CPUs that the measured process kept busy (CPU seconds per second).
        other_cpus: CPUs that everybody else kept busy, on the whole machine; NaN where unknown.
        steal: share of the pinned CPUs' time taken by the hypervisor; NaN where unknown.
    """

    wall_s: float
    own_cpus: float
    other_cpus: float
    steal: float


def read(pinned: Sequence[int]) -> Counters:
    """Read the counters; steal is that of the pinned CPUs, busy that of all."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    busy = steal = math.nan
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        tick = os.sysconf("SC_CLK_TCK")
        busy = steal = 0.0
        for line in lines:
            if line.startswith("cpu") and line[3:4].isdigit():
                name, *fields = line.split()
                user, nice, system, _, _, irq, softirq, stolen = (int(f) / tick for f in fields[:8])
                busy += user + nice + system + irq + softirq
                steal += stolen if int(name[3:]) in pinned else 0.0
    except (OSError, ValueError):
        pass
    return Counters(time.perf_counter(), own.ru_utime + own.ru_stime, busy, steal)


def between(before: Counters, after: Counters, cpus: int) -> Load:
    """The load between two readings of a process pinned to so many CPUs."""
    wall = max(after.wall_s - before.wall_s, 1e-9)
    own = after.own_s - before.own_s
    # May be slightly negative, since ticks are coarser than the process's own clock; the mean over windows is not.
    other = after.busy_s - before.busy_s - own
    return Load(wall, own / wall, other / wall, (after.steal_s - before.steal_s) / (wall * cpus))


def verdict(loads: Sequence[Load], spread: float = math.nan) -> str:
    """Why the numbers are doubtful, in words; "" when nothing speaks against them.

    Loads are weighted by their wall-clock time. The coarse ticks of the counters are allowed for, so very short
    windows are judged by the spread alone.
    """
    wall = sum(load.wall_s for load in loads)
    reasons = []
    if wall > 0:
        slack = _TICKS_S * math.sqrt(len(loads)) / wall
        steal, other = mean(loads, "steal"), mean(loads, "other_cpus")
        if steal > MAX_STEAL + slack:
            reasons.append(f"steal {steal:.0%}")
        if other > MAX_OTHER_LOAD + slack:
            reasons.append(f"other load {other:.2f} CPUs")
    if spread > MAX_SPREAD:
        reasons.append(f"spread {spread:.0%}")
    return "; ".join(reasons)


def mean(loads: Sequence[Load], field: str) -> float:
    """Mean of one field, weighted by wall-clock time and at least 0; NaN without loads."""
    wall = sum(load.wall_s for load in loads)
    value = sum(getattr(load, field) * load.wall_s for load in loads) / wall if wall else math.nan
    return value if math.isnan(value) else max(0.0, value)
