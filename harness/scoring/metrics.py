"""Metrics of the field, all from the rows of clicks.parquet (docs/protocols.md, "Metrics").

The functions on `rows` take the clicks of ONE variant on ONE data set (columns sample, click, iou, biou) and
return one value per sample. An episode that stopped early keeps its last value for later clicks. A sample
with a NaN IoU (empty prediction over empty truth) is invalid: it is counted, and never averaged in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.scoring import groups
from harness.scoring.curves import area, clicks_to, curves
from harness.scoring.intervals import mean_interval, mean_intervals
from harness.scoring.overlap import BoundaryIoU, IoU, boundary_iou, iou
from harness.scoring.paired import paired_comparison, paired_comparisons
from harness.scoring.registry import TARGETS, group_metrics_of, kinds_of, metric, metrics_of
from harness.scoring.sizes import SIZE_BINS, size_bin

__all__ = [
    "SIZE_BINS",
    "BoundaryIoU",
    "IoU",
    "auc",
    "biou_at",
    "boundary_iou",
    "click_limit",
    "compare",
    "curves",
    "invalid_samples",
    "iou",
    "iou_drop",
    "mean_interval",
    "miou_at",
    "noc",
    "nof",
    "paired_comparison",
    "per_sample",
    "ritm_nof",
    "size_bin",
    "summarise",
]

_KEYS = ["variant", "dataset"]
SUMMARY_COLUMNS = [
    *_KEYS, "size_bin", "metric", "value", "low", "high", "samples", "images", "invalid", "protocol",
]  # fmt: skip
COMPARE_COLUMNS = [
    "variant", "base", "dataset", "size_bin", "metric", "difference", "low", "high", "p_value", "samples", "images",
    "differing",
]  # fmt: skip
"""Columns of summary.csv and compare.csv as they leave here; `harness.results.tables` adds the versions."""


def invalid_samples(rows: pd.DataFrame) -> list[str]:
    """Samples with a NaN IoU at any click, sorted."""
    return sorted(rows.loc[rows["iou"].isna(), "sample"].unique())


def noc(rows: pd.DataFrame, target: float, limit: int) -> pd.Series:
    """NoC@target: first click (from 1) whose IoU is at least `target` (0..1); `limit` where never reached."""
    return _noc(curves(rows, limit), target, limit)


def nof(rows: pd.DataFrame, target: float, limit: int) -> pd.Series:
    """1.0 for samples that never reach `target` within `limit` clicks, else 0.0; NoF is the sum."""
    return _nof(curves(rows, limit), target)


def ritm_nof(rows: pd.DataFrame, target: float, limit: int) -> pd.Series:
    """RITM's ">= 20 clicks": as `nof`, but a sample that succeeds exactly at the last click counts as failed
    too."""
    return (noc(rows, target, limit) >= limit).astype(float)


def miou_at(rows: pd.DataFrame, click: int) -> pd.Series:
    """IoU after click `click`; its mean is k-mIoU."""
    return curves(rows, click)[click]


def biou_at(rows: pd.DataFrame, click: int) -> pd.Series:
    """Boundary IoU after click `click`."""
    return curves(rows, click, "biou")[click]


def iou_drop(rows: pd.DataFrame) -> pd.Series:
    """Share of the clicks from the second on that lower the IoU; NaN for an episode of one click."""
    ordered = rows.sort_values(["sample", "click"])
    change = ordered.groupby("sample")["iou"].diff()
    return (change < 0).astype(float).where(change.notna()).groupby(ordered["sample"]).mean()


def auc(rows: pd.DataFrame, limit: int) -> pd.Series:
    """Area under the IoU over clicks 1..limit (trapezoids), divided by limit - 1, so that a perfect curve
    gives 1."""
    return _auc(curves(rows, limit))


def _noc(table: pd.DataFrame, target: float, limit: int) -> pd.Series:
    return pd.Series(clicks_to(table.to_numpy(), target), table.index)


def _nof(table: pd.DataFrame, target: float) -> pd.Series:
    return pd.Series((~(table.to_numpy() >= target).any(axis=1)).astype(float), table.index)


def _auc(table: pd.DataFrame) -> pd.Series:
    return pd.Series(area(table.to_numpy()), table.index)


@dataclass(frozen=True)
class Curves:
    """The valid samples of one variant on one data set.

    Attributes:
        rows: their clicks, as in clicks.parquet.
        iou, biou: (samples, limit) tables, see `curves`.
        limit: clicks that were allowed.
    """

    rows: pd.DataFrame
    iou: pd.DataFrame
    biou: pd.DataFrame
    limit: int


VALUES: dict[str, Callable[[Curves, float], pd.Series]] = {
    "noc": lambda of, target: _noc(of.iou, target, of.limit),
    "nof": lambda of, target: _nof(of.iou, target),
    "ritm_nof": lambda of, target: (_noc(of.iou, target, of.limit) >= of.limit).astype(float),
    "miou": lambda of, click: of.iou[click],
    "biou": lambda of, click: of.biou[click],
    "iou_drop": lambda of, _: iou_drop(of.rows).reindex(of.iou.index),
    "auc": lambda of, _: _auc(of.iou),
}
"""Family of `harness.scoring.registry` -> one value per sample at an IoU target (0..1) or a click (0 where neither)."""


def per_sample(rows: pd.DataFrame, protocol: Mapping[str, Any], group_rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """All metrics of one variant on one data set: one row per valid sample, one column per metric.

    The columns are those of `registry.metrics_of`, at the protocol's targets and up to its click limit.

    Args:
        group_rows: the same variant's and data set's rows of groups.parquet; None: metrics of groups are left out.
    """
    limit = click_limit(rows, protocol)
    rows = rows[~rows["sample"].isin(invalid_samples(rows))]
    of = Curves(rows, curves(rows, limit), curves(rows, limit, "biou"), limit)
    targets = _targets(protocol)
    values = {m.key: VALUES[m.family](of, m.at) for m in metrics_of(targets, limit)}
    kinds = kinds_of(protocol)
    if group_rows is None and "users" in kinds:  # a single user has no further episodes
        group_rows = groups.NONE
    if group_rows is not None:
        grouped = groups.Grouped(rows, group_rows, of.iou.index, limit)
        for m in group_metrics_of(targets, kinds):
            values[m.key] = pd.Series(groups.VALUES[m.family](grouped, m.at), of.iou.index)
    return pd.DataFrame(values, index=of.iou.index)


def _targets(protocol: Mapping[str, Any]) -> Sequence[float]:
    stop = protocol.get("stop_iou")
    targets = [float(t) for t in protocol.get("targets") or TARGETS]
    return targets if stop is None else [t for t in targets if t <= stop]


def summarise(
    clicks: pd.DataFrame, protocol: Mapping[str, Any], group_rows: pd.DataFrame | None = None
) -> pd.DataFrame:
    """summary.csv: every metric of every variant and data set, over all samples and by object-size bin.

    Args:
        clicks: rows of clicks.parquet; `image`, where there is such a column, says which samples share an image.
        protocol: `Protocol.record()`; an empty mapping: targets of the field, click limit as found.
        group_rows: rows of groups.parquet, where the protocol has groups.

    Returns:
        Columns variant, dataset, size_bin (`all` or a bin), metric, value, low, high, samples, images, invalid,
        protocol. `value` is the mean over valid samples, for nof and ritm_nof their number; low and high its 95 %
        interval, NaN below 6 images.
    """
    parts = []
    for (variant, dataset), rows in _groups(clicks):
        table = per_sample(rows, protocol, _of_cell(group_rows, variant, dataset))
        first = rows.groupby("sample")[["size_bin", "image"]].first().reindex(table.index)
        bins, images = first["size_bin"], first["image"]
        left_out = rows[rows["iou"].isna()].drop_duplicates("sample")
        for name in ("all", *(b for b in SIZE_BINS if (bins == b).any())):
            chosen = np.full(len(table), True) if name == "all" else (bins == name).to_numpy()
            summary = _means(table[chosen], images[chosen].to_numpy(), click_limit(rows, protocol))
            summary["invalid"] = len(left_out) if name == "all" else int((left_out["size_bin"] == name).sum())
            parts.append(summary.assign(variant=variant, dataset=dataset, size_bin=name))
    if not parts:
        return pd.DataFrame(columns=SUMMARY_COLUMNS)
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(protocol=str(protocol.get("name", "not recorded")))[SUMMARY_COLUMNS]


def click_limit(rows: pd.DataFrame, protocol: Mapping[str, Any]) -> int:
    """Clicks that were allowed, as the protocol's record says; of old rows without one, the most that were made."""
    return int(protocol.get("clicks") or rows["click"].max())


def _means(table: pd.DataFrame, images: np.ndarray, limit: int) -> pd.DataFrame:
    """Mean (or sum) and interval of each column of a per-sample table."""
    rows: dict[str, list[Any]] = {}
    for names, known in _same_samples(table):
        values, of_image = table.loc[known, names].to_numpy().T, images[known]
        least, most = np.array([metric(name).range(limit) for name in names]).T
        limits = mean_intervals(values, least, most, of_image)
        for name, mine, (low, high) in zip(names, values, limits, strict=True):
            scale = metric(name).weight(len(mine))
            mean = mine.mean() if len(mine) else np.nan
            rows[name] = [name, mean * scale, low * scale, high * scale, len(mine), len(np.unique(of_image))]
    columns = ["metric", "value", "low", "high", "samples", "images"]
    return pd.DataFrame([rows[str(name)] for name in table], columns=columns)


def _same_samples(table: pd.DataFrame) -> Iterator[tuple[list[str], np.ndarray]]:
    """Columns that are known (not NaN) for the same samples, with those samples as (samples,) bool."""
    known = table.notna().to_numpy()
    patterns: dict[bytes, list[int]] = {}
    for column in range(known.shape[1]):
        patterns.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in patterns.values():
        yield [str(table.columns[c]) for c in columns], known[:, columns[0]]


def _of_cell(group_rows: pd.DataFrame | None, variant: str, dataset: str) -> pd.DataFrame | None:
    if group_rows is None or group_rows.empty:
        return None
    return group_rows[(group_rows["variant"] == variant) & (group_rows["dataset"] == dataset)]


def compare(
    clicks: pd.DataFrame,
    base: str,
    protocol: Mapping[str, Any] | None = None,
    group_rows: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """compare.csv: every variant minus the base on the samples that both have, over all and by object-size
    bin.

    Returns:
        Columns variant, base, dataset, size_bin, metric, difference, low, high, p_value, samples, images, differing.
        The difference is that of the means (nof: of the numbers of failures); low, high: its 95 % interval, NaN below
        20 images; p_value: paired permutation (nof: McNemar's exact test); differing: the images whose values differ
        (samples, where each is an image of its own), which decide how small p can be.
    """
    limit = 0 if clicks.empty else click_limit(clicks, protocol or {})
    tables = {key: per_sample(rows, protocol or {}, _of_cell(group_rows, *key)) for key, rows in _groups(clicks)}
    usable = _usable(clicks)
    first = usable.drop_duplicates(["dataset", "sample"]).set_index(["dataset", "sample"])[["size_bin", "image"]]
    parts = []
    for (variant, dataset), table in tables.items():
        if variant == base or (base, dataset) not in tables:
            continue
        difference = table - tables[(base, dataset)]
        common = table.index.intersection(tables[(base, dataset)].index)
        difference = difference.loc[common, [c for c in table if c in tables[(base, dataset)]]]
        of_sample = first.loc[dataset].reindex(common)
        sizes, images = of_sample["size_bin"], of_sample["image"].to_numpy()
        for name in ("all", *(b for b in SIZE_BINS if (sizes == b).any())):
            chosen = np.full(len(common), True) if name == "all" else (sizes == name).to_numpy()
            part = _differences(difference[chosen], images[chosen], limit)
            parts.append(part.assign(variant=variant, base=base, dataset=dataset, size_bin=name))
    return pd.concat(parts, ignore_index=True)[COMPARE_COLUMNS] if parts else pd.DataFrame(columns=COMPARE_COLUMNS)


def _differences(table: pd.DataFrame, images: np.ndarray, limit: int) -> pd.DataFrame:
    """Comparison of each column of a table of differences per sample; counts are scaled to the number of samples."""
    rows: dict[str, list[Any]] = {}
    for names, known in _same_samples(table):
        unseen = np.array([metric(name).unseen_difference(limit) for name in names])
        result = paired_comparisons(table.loc[known, names].to_numpy().T, unseen, images[known])
        samples, of_images = int(known.sum()), len(np.unique(images[known]))
        for i, name in enumerate(names):
            scale = metric(name).weight(samples)
            numbers = [float(values[i]) * scale for values in (result.difference, result.low, result.high)]
            p_value, differing = float(result.p_value[i]), int(result.differing[i])
            rows[name] = [name, *numbers, p_value, samples, of_images, differing]
    columns = ["metric", "difference", "low", "high", "p_value", "samples", "images", "differing"]
    return pd.DataFrame([rows[str(name)] for name in table], columns=columns)


def _groups(clicks: pd.DataFrame) -> Any:
    usable = _usable(clicks)
    return [] if usable.empty else usable.groupby(_KEYS, sort=False)


def _usable(clicks: pd.DataFrame) -> pd.DataFrame:
    """Rows of episodes that ran, with the columns that old files may lack: `size_bin`, and `image` (the sample)."""
    if clicks.empty:
        return clicks.reindex(columns=[*clicks.columns, *({"size_bin", "image"} - set(clicks.columns))])
    usable = clicks if "error" not in clicks else clicks[clicks["error"].isin(["", None]) | clicks["error"].isna()]
    usable = usable if "size_bin" in usable else usable.assign(size_bin="")
    image = usable["sample"] if "image" not in usable else usable["image"].fillna(usable["sample"])
    return usable.assign(image=image.astype(str))
