"""One record for each metric: everything that is asked of a metric is asked there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.protocol import Protocol
from harness.scoring import metrics, registry
from harness.scoring.registry import Metric, metric

ROOT = Path(__file__).resolve().parents[2]
ROWS = pd.DataFrame(
    [
        {"variant": v, "dataset": "d", "sample": f"s{i}", "click": k, "iou": 0.5 + 0.02 * k + 0.005 * i, "biou": 0.4}
        for v in ("a", "b")
        for i in range(6)
        for k in range(1, 6)
    ]
)


@pytest.mark.parametrize(
    ("key", "title", "better", "unit", "digits", "counts"),
    [
        # Titles of the papers' tables; what is better and what is a number of samples: docs/protocols.md, "Metrics".
        ("noc90", "NoC@90", "low", "clicks", 2, False),
        ("noc92_5", "NoC@92.5", "low", "clicks", 2, False),
        ("nof95", "NoF@95", "low", "samples", 0, True),
        ("ritm_nof97_5", "NoF@97.5 (RITM)", "low", "samples", 0, True),
        ("miou5", "5-mIoU", "high", "%", 2, False),
        ("biou10", "10-mBIoU", "high", "%", 2, False),
        ("iou_drop", "IoU-drop", "low", "%", 1, False),
        ("auc", "AuC", "high", "%", 2, False),
        ("nocturnal", "nocturnal", "", "", 3, False),
    ],
)
def test_a_name_of_the_files_has_one_record(key, title, better, unit, digits, counts):
    found = metric(key)
    assert (found.key, found.title, found.better) == (key, title, better)
    assert (found.unit, found.digits, found.counts) == (unit, digits, counts)


def test_a_target_stands_in_the_sentence_as_it_is_read():
    assert metric("nof92_5").meaning == "number of samples that never reach 92.5 % IoU"


def test_what_a_sample_can_be():
    """A click count lies in 1..limit, everything else in 0..1; a failure that was not drawn differs by all of it."""
    assert [metric(k).range(20) for k in ("noc85", "nof85", "miou3", "auc")] == [(1.0, 20.0), *[(0.0, 1.0)] * 3]
    assert [metric(k).unseen_difference(20) for k in ("noc85", "nof85", "ritm_nof85", "miou3")] == [9.5, 1.0, 1.0, 0.5]


def test_families_are_the_ones_that_are_computed():
    assert [family.family for family in registry.FAMILIES] == list(metrics.VALUES)


def test_the_columns_are_the_metrics_of_the_protocol():
    protocol = Protocol("p", annotator="none", clicks=5, targets=[0.925, 0.975])
    columns = list(metrics.per_sample(ROWS[ROWS["variant"] == "a"], protocol.record()))
    assert columns == protocol.metrics() == [metric(key).key for key in columns]
    assert columns[:3] == ["noc92_5", "nof92_5", "ritm_nof92_5"] and columns[-2:] == ["iou_drop", "auc"]


def test_a_metric_that_is_added_here_is_known_everywhere(monkeypatch):
    """The number of samples whose best IoU is over a half: one record and one function."""
    good = Metric("good", "sum", "high", "samples", 0, "Good", "samples over a half", family="good")
    monkeypatch.setattr(registry, "FAMILIES", (*registry.FAMILIES, good))
    monkeypatch.setitem(metrics.VALUES, "good", lambda of, _: (of.iou.max(axis=1) > 0.61).astype(float))
    registry.metric.cache_clear()
    try:
        protocol = Protocol("p", annotator="none", clicks=5, primary="good")
        rows = metrics.summarise(ROWS, protocol.record()).query("metric == 'good' and size_bin == 'all'")
        # Best IoUs: 0.6, 0.605, …, 0.625: three of six are over 0.61.
        assert rows["value"].tolist() == [3.0, 3.0]
        compared = metrics.compare(ROWS, "a", protocol.record()).query("metric == 'good' and size_bin == 'all'")
        assert compared["difference"].tolist() == [0.0] and np.isnan(compared["low"]).all()
    finally:
        registry.metric.cache_clear()


def test_nobody_reads_a_metric_from_the_spelling_of_its_name():
    spelt = re.compile(r"""(starts|ends)with\(["'](noc|nof|ritm|miou|biou|iou|auc)|["'](nof|noc|miou|biou)["'] in """)
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("harness", "reports")
        for path in (ROOT / package).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if spelt.search(line)
    ]
    assert not places
