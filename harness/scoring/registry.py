"""Every metric of summary.csv and compare.csv: one record each, and the one place that lists them.

A family (`nocT`, `miouK`, …) is one metric at several IoU targets or clicks; `metric("noc90")` is one of its members.
Whoever adds up, judges, prints or draws a metric asks the record, never the spelling of its name. How a family is
computed from the rows of one episode is in `harness.scoring.metrics.VALUES`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

TARGETS = (0.80, 0.85, 0.90, 0.95)
"""IoU targets of NoC and NoF in the field, 0..1; a protocol may name others."""
CLICK_LIMIT = 20
"""Clicks of an episode in the field; a protocol may name another number."""
CLICKS = (1, 3, 5, 10, 20)
"""Clicks after which mean IoU is taken, as far as the click limit reaches."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        key: name in the files, for example "noc90".
        reduce: how the values of the samples become one number: their mean, or their sum (a number of samples).
        better: whether a low or a high value is better; "" of a name that nobody knows.
        unit: of the shown number: "clicks", "samples", "%" or "".
        digits: decimals in tables.
        title: name in tables, for example "NoC@90".
        meaning: one sentence for the reader.
        family: what `harness.scoring.metrics.VALUES` computes it by.
        per: what tells the members of its family apart: an IoU target, a click, or nothing.
        at: the IoU target (0..1) or the number of the click; 0 where `per` is "episode".
        scale: factor from the stored value to the shown one (IoU is stored as 0..1 and shown in percent).
        short_digits: decimals in the summary that a sweep prints.
        least, most: what a sample's value can be; None: the click limit.
        in_tables: whether the reports' tables show it; the others are in the files only.
    """

    key: str
    reduce: Literal["mean", "sum"]
    better: Literal["low", "high", ""]
    unit: str
    digits: int
    title: str
    meaning: str = ""
    family: str = ""
    per: Literal["target", "click", "episode"] = "episode"
    at: float = 0.0
    scale: float = 1.0
    short_digits: int = 2
    least: float = 0.0
    most: float | None = 1.0
    in_tables: bool = True

    @property
    def counts(self) -> bool:
        """Whether it is a number of samples, not a mean over them."""
        return self.reduce == "sum"

    def weight(self, samples: int) -> int:
        """What the mean over the samples is multiplied with: 1 of a mean, their number of a sum."""
        return samples if self.counts else 1

    def range(self, limit: int) -> tuple[float, float]:
        """Least and largest possible value of one sample, where `limit` clicks are allowed."""
        return self.least, float(limit) if self.most is None else self.most

    def unseen_difference(self, limit: int) -> float:
        """By how much a pair that was not drawn may differ: by half of the possible, a failure by all of it."""
        least, most = self.range(limit)
        return most - least if self.counts else (most - least) / 2


FAMILIES = (
    Metric(
        "noc{}", "mean", "low", "clicks", 2, "NoC@{}",
        "mean number of clicks until IoU reaches {} %; the click limit where it never does",
        family="noc", per="target", least=1.0, most=None,
    ),
    Metric(
        "nof{}", "sum", "low", "samples", 0, "NoF@{}", "number of samples that never reach {} % IoU",
        family="nof", per="target", short_digits=0,
    ),
    Metric(
        "ritm_nof{}", "sum", "low", "samples", 0, "NoF@{} (RITM)",
        "RITM's count, which also takes samples that succeed exactly at the last click",
        family="ritm_nof", per="target", short_digits=0, in_tables=False,
    ),
    Metric(
        "miou{}", "mean", "high", "%", 2, "{}-mIoU", "mean IoU after click {}",
        family="miou", per="click", scale=100.0, short_digits=1,
    ),
    Metric(
        "biou{}", "mean", "high", "%", 2, "{}-mBIoU", "mean boundary IoU after click {}",
        family="biou", per="click", scale=100.0, short_digits=1,
    ),
    Metric(
        "iou_drop", "mean", "low", "%", 1, "IoU-drop", "share of clicks that lower the IoU",
        family="iou_drop", scale=100.0, short_digits=1,
    ),
    Metric(
        "auc", "mean", "high", "%", 2, "AuC", "area under mean IoU over all clicks",
        family="auc", scale=100.0,
    ),
)  # fmt: skip
"""The families in the order of the columns of `metrics.per_sample`; `{}` stands for the target in % or the click."""


@functools.lru_cache(maxsize=512)
def metric(key: str) -> Metric:
    """The record of a name of summary.csv; a name that nobody knows gets a plain one, and is shown as it is."""
    for family in FAMILIES:
        match = re.fullmatch(family.key.replace("{}", r"(\d+(?:_\d+)?)"), key)
        if match and family.per == "target":
            return member(family, float(match[1].replace("_", ".")) / 100)
        if match:
            return member(family, *map(int, match.groups()))
    return Metric(key, "mean", "", "", 3, key)


def member(family: Metric, at: float = 0.0) -> Metric:
    """The member of a family at an IoU target (0..1) or a click."""
    if family.per == "episode":
        return family
    name = percent(at) if family.per == "target" else f"{at:g}"
    words = {field: getattr(family, field).format(name.replace("_", ".")) for field in ("title", "meaning")}
    return replace(family, key=family.key.format(name), at=at, **words)


def metrics_of(targets: Sequence[float] = TARGETS, clicks: int = CLICK_LIMIT) -> Iterator[Metric]:
    """The metrics of a protocol, in the order of the columns.

    Args:
        targets: IoU targets, 0..1.
        clicks: the click limit.
    """
    points = {"target": targets, "click": [k for k in CLICKS if k <= clicks], "episode": [0.0]}
    for per, values in points.items():
        for at in values:
            yield from (member(family, at) for family in FAMILIES if family.per == per)


def percent(target: float) -> str:
    """An IoU target as it stands in the names of metrics: 0.9 -> "90", 0.925 -> "92_5"."""
    return f"{100 * target:g}".replace(".", "_")
