"""Two runs side by side: what changed between them in quality, and what may be said of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from harness.scoring import metrics
from harness.scoring.decision import Decision, Outcome, decide, holm, not_compared
from harness.scoring.registry import metric
from reports.read.runs import Run
from reports.tables.changed import changed
from reports.tables.columns import DATASET, METRIC, P_HOLM, P_VALUE, VARIANT, VERDICT
from reports.tables.table import Cell, Column, Row, Value
from reports.tables.times import COLUMNS as LATENCY_COLUMNS
from reports.tables.times import same_machine, slower

__all__ = [
    "CHANGE_COLUMNS",
    "LATENCY_COLUMNS",
    "METRICS",
    "Change",
    "change_rows",
    "changed",
    "changes",
    "incomparable",
    "per_sample",
    "same_machine",
    "slower",
]

METRICS = ("noc85", "noc90", "noc95", "nof90", "miou1", "miou5", "biou5", "iou_drop", "auc")


@dataclass(frozen=True)
class Change:
    """A metric of one variant on one data set in two runs, on the samples that both have.

    Attributes:
        before, after: means (nof: numbers of samples), in the stored unit.
        low, high: 95 % interval of after minus before.
        how: "paired, n samples" and how many only one of the runs has.
        decision: what may be said of the change.
        primary: whether this is the metric that was named beforehand.
    """

    variant: str
    dataset: str
    metric: str
    before: float
    after: float
    low: float
    high: float
    how: str
    decision: Decision
    primary: bool = False

    @property
    def verdict(self) -> str:
        """The decision in words."""
        return self.decision.text

    @property
    def p_value(self) -> float:
        """Of the paired permutation test."""
        return self.decision.p_value


def changes(a: Run, b: Run, keys: Sequence[str] = METRICS) -> list[Change]:
    """Every metric of every variant and data set that two runs share; Holm's adjustment within each pair."""
    all_changes: list[Change] = []
    record = a.config.get("protocol")
    limit = metrics.click_limit(a.clicks, record if isinstance(record, Mapping) else {})
    for dataset in (d for d in a.datasets if d in b.datasets):
        for variant in (v for v in a.variants if v in b.variants):
            ours, theirs = per_sample(a, variant, dataset), per_sample(b, variant, dataset)
            if ours is None or theirs is None:
                continue
            refusal = incomparable(a, b, dataset)
            pairs = _same_images(a, b, variant, dataset)
            mine = [
                _change(variant, dataset, key, ours[key].dropna(), theirs[key].dropna(), pairs, refusal, limit)
                for key in dict.fromkeys([*keys, b.primary])
                if key in ours and key in theirs
            ]
            all_changes += _adjusted(mine, b.primary)
    return all_changes


def _adjusted(several: Sequence[Change], primary: str) -> list[Change]:
    """The same, with the primary metric marked and the others judged by Holm's p."""
    others = [c for c in several if c.metric != primary]
    adjusted = dict(zip((c.metric for c in others), holm([c.p_value for c in others]), strict=True))
    smallest = dict(zip((c.metric for c in others), holm([c.decision.smallest_p for c in others]), strict=True))
    return [_with_p(c, adjusted.get(c.metric, c.p_value), smallest.get(c.metric), c.metric == primary) for c in several]


def _with_p(change: Change, p_adjusted: float, smallest: float | None, primary: bool) -> Change:
    one = change.decision
    if one.outcome is Outcome.NOT_COMPARED:
        return replace(change, primary=primary)
    decision = decide(
        change.after - change.before,
        one.p_value,
        one.samples,
        one.differing,
        better=metric(change.metric).better,
        low=change.low,
        high=change.high,
        p_adjusted=p_adjusted,
        smallest=smallest,
    )
    return replace(change, decision=decision, primary=primary)


def incomparable(a: Run, b: Run, dataset: str) -> str:
    """Why two runs' numbers on a data set must not be subtracted, or ""."""
    if _protocol(a, dataset) != _protocol(b, dataset):
        return "different protocols"
    if a.versions(dataset) != b.versions(dataset):
        return "different versions of protocol or metrics"
    if a.note(dataset) != b.note(dataset):
        return "different kinds of data"
    return ""


def _protocol(run: Run, dataset: str) -> str:
    record = run.config.get("protocol")
    if isinstance(record, Mapping):
        return json.dumps(record, sort_keys=True, default=str)
    return run.protocol(dataset)


def per_sample(run: Run, variant: str, dataset: str) -> pd.DataFrame | None:
    """Metrics per sample by the harness's own functions; None where the run has no rows."""
    rows = run.clicks[(run.clicks["variant"] == variant) & (run.clicks["dataset"] == dataset)]
    if len(rows) == 0:
        return None
    record = run.config.get("protocol")
    return metrics.per_sample(rows, record if isinstance(record, Mapping) else {})


def _same_images(a: Run, b: Run, variant: str, dataset: str) -> pd.Series:
    """Sample -> its image, of the samples that both runs have: equal name, size of the image and size of the object."""
    one, two = (
        run.clicks[(run.clicks["variant"] == variant) & (run.clicks["dataset"] == dataset)]
        .groupby("sample")[["height", "width", "object_share"]]
        .first()
        for run in (a, b)
    )
    common = one.index.intersection(two.index)
    first, second = one.loc[common], two.loc[common]
    # Folders from before these columns have 0 and NaN there: nothing contradicts the name then.
    unknown = first.isna() | second.isna() | (first == 0) | (second == 0)
    close = (first - second).abs() <= 1e-6
    kept = common[(close | unknown).all(axis=1).to_numpy()]
    names = kept.to_series()
    if "image" not in a.clicks:
        return names
    images = a.clicks[a.clicks["dataset"] == dataset].groupby("sample")["image"].first().reindex(kept)
    return images.where(images.notna() & (images != ""), names)


def _change(
    variant: str,
    dataset: str,
    key: str,
    before: pd.Series,
    after: pd.Series,
    pairs: pd.Series,
    refusal: str,
    limit: int,
) -> Change:
    record = metric(key)
    if refusal:
        means = [float(s.mean()) * record.weight(len(s)) for s in (before, after)]
        return Change(variant, dataset, key, means[0], means[1], math.nan, math.nan, "–", not_compared(refusal))
    common = before.index.intersection(after.index).intersection(pairs.index)
    how = f"paired, {len(common)} sample{'' if len(common) == 1 else 's'}"
    alone = [(len(s) - len(common), where) for s, where in ((before, "before"), (after, "after"))]
    if any(number for number, _ in alone):
        how += f"; {', '.join(f'{number} only {where}' for number, where in alone if number)}"
    one, two = before.loc[common].to_numpy(dtype=float), after.loc[common].to_numpy(dtype=float)
    if len(common) == 0:
        nan = math.nan
        return Change(variant, dataset, key, nan, nan, nan, nan, how, not_compared("no sample in common"))
    scale = record.weight(len(common))
    unseen = record.unseen_difference(limit)
    images = pairs.loc[common].to_numpy()
    difference, low, high, p_value = metrics.paired_comparison(two, one, unseen, images)
    differing = len(set(images[one != two]))
    decision = decide(difference, p_value, len(common), differing, better=record.better, low=low, high=high)
    means = [float(one.mean()) * scale, float(two.mean()) * scale]
    return Change(variant, dataset, key, means[0], means[1], low * scale, high * scale, how, decision)


def change_rows(several: Sequence[Change]) -> tuple[Row, ...]:
    """Changes as rows of a table."""
    rows = []
    for c in several:
        m = metric(c.metric)
        difference = (c.after - c.before) * m.scale
        low, high = (None, None) if math.isnan(c.low) else (c.low * m.scale, c.high * m.scale)
        refused = c.decision.outcome is Outcome.NOT_COMPARED
        p_values = (None if math.isnan(p) else p for p in (c.p_value, c.decision.p_adjusted))
        cells: tuple[Cell, ...] = (
            c.variant,
            c.dataset,
            m.title + (" (primary)" if c.primary else ""),
            Value(None if math.isnan(c.before) else c.before * m.scale, digits=m.digits),
            Value(None if math.isnan(c.after) else c.after * m.scale, digits=m.digits),
            Value(missing="–")
            if refused
            else Value(difference, low, high, digits=max(1, m.digits), signed=True, too_few=True),
            *(Value(p, digits=4) for p in p_values),
            c.verdict,
            c.how,
        )
        rows.append(Row(cells, c.dataset))
    return tuple(rows)


CHANGE_COLUMNS = (
    VARIANT,
    DATASET,
    METRIC,
    Column("before", "Before", help="on the samples that both runs have"),
    Column("after", "After", help="on the samples that both runs have"),
    Column("difference", "After − before"),
    P_VALUE,
    P_HOLM,
    VERDICT,
    Column("how", "How compared"),
)
