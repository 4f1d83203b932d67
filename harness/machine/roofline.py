"""The least time that a machine needs for a piece of work, and the gap to the time that it took.

The roof of n threads is the measured peak of machine.json for that thread count: work cannot be faster than its FLOPs
at the matrix-product peak, nor than its bytes at the copy bandwidth (Williams, Waterman, Patterson 2009).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.flops.counter import TOTAL

_KEYS = ["variant", "resolution", "part", "kind", "size_bin"]


def roof_ms(gflops: float, mbytes: float, peaks: Mapping[str, float], precision: str = "fp32") -> float:
    """Least milliseconds for so much work.

    Args:
        gflops: floating-point operations in 1e9.
        mbytes: parameters, inputs and outputs in 1e6 bytes, each moved once.
        peaks: one entry of machine.json's `peaks`: fp32_gflops, bf16_gflops, copy_gb_per_s.
        precision: which peak: fp32 or bf16.
    """
    compute = gflops / peaks[f"{precision}_gflops"] * 1e3
    memory = mbytes / peaks["copy_gb_per_s"]
    return max(compute, memory)


def add(
    timed: pd.DataFrame,
    flops: pd.DataFrame | None,
    peaks: Mapping[str, Mapping[str, float]] | None,
    precisions: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Add `roofline_ms` and `roofline_gap` (median over roof) to rows of latency.csv or latency_parts.csv.

    The roof of a whole step is the sum of the roofs of its parts, since they run one after the other. NaN where FLOPs
    or peaks are missing.

    Args:
        timed: rows with variant, threads, resolution, kind, size_bin, median_ms, and `part` (total if absent).
        flops: the rows of flops.csv.
        peaks: of machine.json: thread count as text -> peaks.
        precisions: variant -> fp32 or bf16; fp32 where absent.
    """
    result = timed.copy()
    work = [] if flops is None else _records(flops)
    roofs = {tuple(row[k] for k in _KEYS): row for row in work}
    values = []
    for row in _records(result):
        one = (peaks or {}).get(str(row["threads"]), {})
        if "fp32_gflops" not in one:
            values.append(math.nan)
            continue
        precision = (precisions or {}).get(row["variant"], "fp32")
        values.append(_roof(row, roofs, one, precision))
    result["roofline_ms"] = values
    result["roofline_gap"] = result["median_ms"] / result["roofline_ms"]
    return result


def _roof(
    row: Mapping[str, Any],
    work: Mapping[tuple[Any, ...], Mapping[str, Any]],
    peaks: Mapping[str, float],
    precision: str,
) -> float:
    part = row.get("part", TOTAL)
    where = (row["variant"], row["resolution"], part, row["kind"], row["size_bin"])
    if part != TOTAL:
        counted = work.get(where)
        return roof_ms(counted["gflops"], counted["mbytes"], peaks, precision) if counted else math.nan
    siblings = [w for k, w in work.items() if (k[0], k[1], k[3], k[4]) == (*where[:2], *where[3:]) and k[2] != TOTAL]
    return sum(roof_ms(w["gflops"], w["mbytes"], peaks, precision) for w in siblings) if siblings else math.nan


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
