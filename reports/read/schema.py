"""Columns of a sweep's files that reports read, and what stands in for those that came later.

Which columns there are is said where they are written: `harness.results.schema`, `harness.scoring.metrics`,
`harness.latency.frames`, `harness.latency.scaling` and `harness.flops.measure`; a test holds these to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# column -> what stands there in a folder written before the column existed; the first five cannot be made up
CLICKS: dict[str, Any] = {
    "variant": None,
    "dataset": None,
    "sample": None,
    "click": None,
    "iou": None,
    "y": -1,
    "x": -1,
    "positive": False,
    "biou": np.nan,
    "encode_ms": np.nan,
    "online_ms": np.nan,
    "simulate_ms": np.nan,
    "object_share": np.nan,
    "size_bin": "",
    "height": 0,
    "width": 0,
    "error": "",
    "protocol": "not recorded",
    "weights_status": "not recorded",
    "dataset_note": "",
    "cell": "",
    "weights_digest": "",
    "parameters": 0,
    "protocol_version": 1,
    "metrics_version": 1,
}
GROUPS: dict[str, Any] = {
    "variant": None,
    "dataset": None,
    "sample": None,
    "group": None,
    "click": None,
    "iou": None,
    "y": -1,
    "x": -1,
    "height": 0,
    "width": 0,
    "cell": "",
}
"""Columns of groups.parquet that are used."""
SUMMARY: dict[str, Any] = {
    "variant": None,
    "dataset": None,
    "metric": None,
    "value": None,
    "low": np.nan,
    "high": np.nan,
    "samples": 0,
    "protocol": "not recorded",
    "size_bin": "",
    "protocol_version": 1,
    "metrics_version": 1,
    "statistics_version": 1,
}
COMPARE: dict[str, Any] = {
    "variant": None,
    "base": None,
    "dataset": None,
    "metric": None,
    "difference": None,
    "low": np.nan,
    "high": np.nan,
    "p_value": np.nan,
    "p_holm": np.nan,
    "p_smallest": np.nan,
    "samples": 0,
    "differing": np.nan,
    "size_bin": "",
    "primary": "",
    "protocol_version": 1,
    "metrics_version": 1,
    "statistics_version": 1,
}
TIMINGS = ("variant", "threads", "resolution", "image", "click", "ms", "boundary_share")
"""Columns of latency_samples.parquet that are used."""
LATENCY: dict[str, Any] = {
    "variant": None,
    "threads": None,
    "resolution": 0,
    "kind": None,
    "size_bin": "",
    "median_ms": None,
    "low_ms": np.nan,
    "high_ms": np.nan,
    "p90_ms": np.nan,
    "repeats": 0,
    "peak_rss_mb": np.nan,
    "joules": np.nan,
    "contended": "",
    "error": "",
    "timing_version": 1,
    "workload": "",
}
PARTS: dict[str, Any] = {
    "variant": None,
    "threads": None,
    "resolution": None,
    "part": None,
    "kind": None,
    "size_bin": "",
    "median_ms": None,
    "roofline_ms": np.nan,
}
SCALING: dict[str, Any] = {
    "variant": None,
    "kind": None,
    "part": "total",
    "against": None,
    "fixed": "",
    "law": None,
    "value": None,
    "low": np.nan,
    "high": np.nan,
    "points": 0,
    "values": "",
}
FLOPS: dict[str, Any] = {
    "variant": None,
    "part": None,
    "kind": None,
    "size_bin": "",
    "gmacs": None,
    "gflops": np.nan,
}
FAILURES: dict[str, Any] = {"stage": "", "variant": "", "dataset": "", "sample": "", "error": ""}
