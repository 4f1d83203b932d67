"""Every metric of summary.csv and compare.csv: one record each, and the one place that lists them.

A family (`nocT`, `miouK`, …) is one metric at several IoU targets or clicks; `metric("noc90")` is one of its members.
Whoever adds up, judges, prints or draws a metric asks the record, never the spelling of its name. How a family is
computed from the rows of one episode is in `harness.scoring.metrics.VALUES`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

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
        kind: "" of a metric that every protocol gives; else the kind of episodes it needs, see `kinds_of`.
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
    kind: str = ""

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

_ROBUST = Metric("", "mean", "low", "", 2, "", in_tables=False)
_AT_TARGET = replace(_ROBUST, per="target", unit="clicks", most=None)
_SHARE = replace(_ROBUST, unit="%", digits=1, scale=100.0, short_digits=1)
_SHARE_AT_TARGET = replace(_SHARE, per="target", least=-1.0, most=None)


def _family(of: Metric, key: str, title: str, meaning: str, kind: str, **changes: Any) -> Metric:
    name = key.removesuffix("{}")
    return replace(of, key=key, title=title, meaning=meaning, family=name, kind=kind, **changes)


GROUP_FAMILIES = (
    _family(_AT_TARGET, "rclicks_noc{}", "Sample NoC@{}", "mean NoC of the ten groups of clicks", "rclicks", least=1.0),
    _family(_AT_TARGET, "rclicks_std{}", "STD@{}", "standard deviation of NoC over the ten groups", "rclicks"),
    _family(
        _SHARE_AT_TARGET, "rclicks_dgr{}", "ΔGR@{}",
        "how many more clicks the least likely tenth of clicks needs than the most likely", "rclicks",
    ),
    _family(
        _SHARE_AT_TARGET, "rclicks_dhh{}", "ΔHH@{}",
        "how many more clicks the less likely half of the groups needs than the other", "rclicks",
    ),
    _family(
        _SHARE_AT_TARGET, "rclicks_dsb{}", "ΔSB@{}",
        "how many more clicks the ten groups need than the robot", "rclicks",
    ),
    _family(
        _SHARE, "rclicks_nsr_noc{}", "NSR of NoC@{}", "standard deviation of NoC over the groups, by their mean",
        "rclicks", per="target", most=3.0,
    ),
    _family(
        _SHARE, "rclicks_nsr", "NSR", "standard deviation of AuC over the groups, by their mean", "rclicks", most=3.0
    ),
    _family(_SHARE, "user1", "User@1", "mean IoU after the first clicks of people", "user1", better="high"),
    _family(_SHARE, "user1_std", "User@1 STD", "standard deviation of that IoU over a sample's users", "user1"),
    _family(
        _SHARE, "user1_nsr", "User@1 NSR", "that standard deviation by the mean", "user1", most=None
    ),
    _family(_AT_TARGET, "user_noc{}", "User NoC@{}", "mean NoC of a sample's users", "users", least=1.0),
    _family(_AT_TARGET, "user_std{}", "User STD@{}", "standard deviation of NoC over a sample's users", "users"),
    _family(_AT_TARGET, "worst_noc{}", "Worst NoC@{}", "NoC where the worst answer is followed", "extremes", least=1.0),
    _family(_AT_TARGET, "best_noc{}", "Best NoC@{}", "NoC where the best answer is followed", "extremes", least=1.0),
    _family(
        _AT_TARGET, "zero_noc{}", "NoC@{} from zero", "NoC of episodes that begin from nothing", "start", least=1.0
    ),
    _family(_SHARE, "start_iou", "Start IoU", "IoU of the masks that episodes begin from", "start", better="high"),
)  # fmt: skip
"""Families that need further episodes of each sample; how they are computed: `harness.scoring.groups.VALUES`."""


def kinds_of(protocol: Mapping[str, Any]) -> frozenset[str]:
    """What further episodes a protocol's record asks for: `rclicks`, `user1`, `users`, `extremes`, `start`."""
    annotator = protocol.get("annotator")
    annotator = annotator if isinstance(annotator, Mapping) else {}
    kinds = {
        "rclicks": {"rclicks", "user1"} if "first_clicks" in annotator else {"rclicks"},
        "recorded": {"user1", "users"},
        "extremes": {"extremes"},
    }.get(str(annotator.get("name")), set())
    return frozenset(kinds | ({"start"} if "start" in protocol else set()))


@functools.lru_cache(maxsize=512)
def metric(key: str) -> Metric:
    """The record of a name of summary.csv; a name that nobody knows gets a plain one, and is shown as it is."""
    for family in (*FAMILIES, *GROUP_FAMILIES):
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


def metrics_of(
    targets: Sequence[float] = TARGETS, clicks: int = CLICK_LIMIT, kinds: Set[str] = frozenset()
) -> Iterator[Metric]:
    """The metrics of a protocol, in the order of the columns.

    Args:
        targets: IoU targets, 0..1.
        clicks: the click limit.
        kinds: of further episodes of each sample, see `kinds_of`.
    """
    points = {"target": targets, "click": [k for k in CLICKS if k <= clicks], "episode": [0.0]}
    for per, values in points.items():
        for at in values:
            yield from (member(family, at) for family in FAMILIES if family.per == per)
    yield from group_metrics_of(targets, kinds)


def group_metrics_of(targets: Sequence[float], kinds: Set[str]) -> Iterator[Metric]:
    """The metrics that further episodes of each sample give, in the order of the columns."""
    for family in (family for family in GROUP_FAMILIES if family.kind in kinds):
        yield from (member(family, at) for at in (targets if family.per == "target" else [0.0]))


def percent(target: float) -> str:
    """An IoU target as it stands in the names of metrics: 0.9 -> "90", 0.925 -> "92_5"."""
    return f"{100 * target:g}".replace(".", "_")
