"""What a report reads is what a sweep writes: no column is made up on either side."""

from __future__ import annotations

import pytest

from harness.flops import measure as flops
from harness.latency import frames
from harness.results.schema import CLICK_COLUMNS, FAILURE_COLUMNS
from harness.scoring.metrics import COMPARE_COLUMNS, SUMMARY_COLUMNS
from reports.read import schema

VERSIONS = {"protocol_version", "metrics_version", "statistics_version"}
ADDED = {
    "SUMMARY": VERSIONS,  # harness.results.tables
    "COMPARE": VERSIONS | {"p_holm", "p_smallest", "primary"},  # likewise, and harness.scoring.decision.with_holm
    "LATENCY": {"timing_version"},  # harness.latency.measure
    "PARTS": {"roofline_ms"},  # harness.machine.roofline
}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("CLICKS", CLICK_COLUMNS),
        ("SUMMARY", SUMMARY_COLUMNS),
        ("COMPARE", COMPARE_COLUMNS),
        ("LATENCY", frames.COLUMNS),
        ("PARTS", frames.PART_COLUMNS),
        ("FLOPS", flops.COLUMNS),
        ("FAILURES", FAILURE_COLUMNS),
    ],
)
def test_every_column_that_is_read_is_written(name, written):
    assert len(set(written)) == len(written)
    assert set(getattr(schema, name)) <= set(written) | ADDED.get(name, set())
