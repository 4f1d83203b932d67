"""How published tables call the metrics."""

from __future__ import annotations

PUBLISHED = {
    "NoC80": "noc80",
    "NoC85": "noc85",
    "NoC90": "noc90",
    "NoC95": "noc95",
    "NoF95": "nof95",
    "1-mIoU": "miou1",
    "3-mIoU": "miou3",
    "5-mIoU": "miou5",
    "10-mIoU": "miou10",
}
"""Metric of published_results.json -> metric of summary.csv."""
