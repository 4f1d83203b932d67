"""The comparison of two latency runs."""

from __future__ import annotations

import pandas as pd

from benchmarks.latency_agreement import agreement


def run(ratio, low, high, variant="a"):
    return {
        "variant": variant, "threads": 1, "resolution": 512, "kind": "later", "size_bin": "all", "base": "base",
        "median_ms": 10.0 * ratio, "ratio": ratio, "ratio_low": low, "ratio_high": high,
    }  # fmt: skip


def test_overlap_is_that_of_the_ratios_intervals():
    first = pd.DataFrame([run(2, 1.9, 2.1), run(3, 2.9, 3.1, "b"), run(1, 1, 1, "base"), run(4, 0, float("inf"), "c")])
    second = pd.DataFrame([run(2.15, 2.05, 2.3), run(3.5, 3.4, 3.6, "b"), run(1, 1, 1, "base"), run(5, 4, 6, "c")])
    both = agreement(first, second).set_index("variant")
    assert list(both.index) == ["a", "b", "c"]  # the base is not compared with itself
    assert both["overlap"].to_dict() == {"a": True, "b": False, "c": True}
    assert both["finite"].to_dict() == {"a": True, "b": True, "c": False}
