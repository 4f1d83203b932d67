"""How the metrics of summary.csv are called, scaled and judged."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric of summary.csv.

    Attributes:
        key: name in the files, for example "noc90".
        title: name in tables, for example "NoC@90".
        unit: "clicks", "samples", "%" or "".
        scale: factor from the stored value to the shown one (IoU is stored as 0..1 and shown in percent).
        digits: decimals shown.
        better: "low" or "high".
        meaning: one sentence for the reader.
    """

    key: str
    title: str
    unit: str
    scale: float
    digits: int
    better: str
    meaning: str


_FAMILIES = (
    (
        r"noc(\d+)",
        "NoC@{0}",
        "clicks",
        1.0,
        2,
        "low",
        "mean number of clicks until IoU reaches {0} %; the click limit where it never does",
    ),
    (r"nof(\d+)", "NoF@{0}", "samples", 1.0, 0, "low", "number of samples that never reach {0} % IoU"),
    (
        r"ritm_nof(\d+)",
        "NoF@{0} (RITM)",
        "samples",
        1.0,
        0,
        "low",
        "RITM's count, which also takes samples that succeed exactly at the last click",
    ),
    (r"miou(\d+)", "{0}-mIoU", "%", 100.0, 2, "high", "mean IoU after click {0}"),
    (r"biou(\d+)", "{0}-mBIoU", "%", 100.0, 2, "high", "mean boundary IoU after click {0}"),
    (r"iou_drop", "IoU-drop", "%", 100.0, 1, "low", "share of clicks that lower the IoU"),
    (r"auc", "AuC", "%", 100.0, 2, "high", "area under mean IoU over all clicks"),
)


def metric(key: str) -> Metric:
    """The metric behind a name of summary.csv; a name that nobody knows is shown as it is."""
    for pattern, title, unit, scale, digits, better, meaning in _FAMILIES:
        match = re.fullmatch(pattern, key)
        if match:
            return Metric(
                key,
                title.format(*match.groups()),
                unit,
                scale,
                digits,
                better,
                meaning.format(*match.groups()),
            )
    return Metric(key, key, "", 1.0, 3, "", "")


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

CELLS = ("encode", "first", "later")
