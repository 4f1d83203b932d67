"""Metrics of the field, all from the rows of clicks.parquet (docs/protocols.md, "Metrics").

The functions on `rows` take the clicks of ONE variant on ONE data set (columns sample, click, iou, biou) and
return one value per sample. An episode that stopped early keeps its last value for later clicks. A sample
with a NaN IoU (empty prediction over empty truth) is invalid: it is counted, and never averaged in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.scoring.intervals import bootstrap_interval, bootstrap_intervals, paired_comparison
from harness.scoring.overlap import SIZE_BINS, BoundaryIoU, IoU, boundary_iou, iou, size_bin

__all__ = [
    "SIZE_BINS",
    "BoundaryIoU",
    "IoU",
    "auc",
    "biou_at",
    "bootstrap_interval",
    "boundary_iou",
    "compare",
    "curves",
    "invalid_samples",
    "iou",
    "iou_drop",
    "miou_at",
    "noc",
    "nof",
    "paired_comparison",
    "per_sample",
    "ritm_nof",
    "size_bin",
    "summarise",
]

TARGETS = (0.80, 0.85, 0.90, 0.95)
_KEYS = ["variant", "dataset"]


def curves(rows: pd.DataFrame, limit: int, column: str = "iou") -> pd.DataFrame:
    """(samples, limit) table of `column` after click 1..limit, filled forward where an episode stopped
    early."""
    table = rows.pivot(index="sample", columns="click", values=column)
    return table.reindex(columns=range(1, limit + 1)).ffill(axis=1)


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
    reached = table.to_numpy() >= target
    return pd.Series(np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, limit).astype(float), table.index)


def _nof(table: pd.DataFrame, target: float) -> pd.Series:
    return pd.Series((~(table.to_numpy() >= target).any(axis=1)).astype(float), table.index)


def _auc(table: pd.DataFrame) -> pd.Series:
    values = table.to_numpy()
    if values.shape[1] == 1:
        return pd.Series(values[:, 0], table.index)
    inner = values.sum(axis=1) - (values[:, 0] + values[:, -1]) / 2
    return pd.Series(inner / (values.shape[1] - 1), table.index)


def per_sample(rows: pd.DataFrame, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """All metrics of one variant on one data set: one row per valid sample, one column per metric.

    Columns: nocT, nofT, ritm_nofT for the protocol's targets T in %; miouK and biouK for K = 1, 3, 5, 10, 20
        up to the
    click limit; iou_drop; auc.
    """
    limit = int(protocol.get("clicks") or rows["click"].max())
    rows = rows[~rows["sample"].isin(invalid_samples(rows))]
    table, boundary = curves(rows, limit), curves(rows, limit, "biou")
    found: dict[str, pd.Series] = {}
    for target in _targets(protocol):
        label = f"{100 * target:g}".replace(".", "_")
        found[f"noc{label}"] = clicks = _noc(table, target, limit)
        found[f"nof{label}"] = _nof(table, target)
        found[f"ritm_nof{label}"] = (clicks >= limit).astype(float)
    for k in (1, 3, 5, 10, 20):
        if k <= limit:
            found[f"miou{k}"], found[f"biou{k}"] = table[k], boundary[k]
    found["iou_drop"] = iou_drop(rows).reindex(table.index)
    found["auc"] = _auc(table)
    return pd.DataFrame(found, index=table.index)


def _targets(protocol: Mapping[str, Any]) -> Sequence[float]:
    stop = protocol.get("stop_iou")
    targets = [float(t) for t in protocol.get("targets") or TARGETS]
    return targets if stop is None else [t for t in targets if t <= stop]


def summarise(clicks: pd.DataFrame, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """summary.csv: every metric of every variant and data set, over all samples and by object-size bin.

    Args:
        clicks: rows of clicks.parquet.
        protocol: `Protocol.record()`; an empty mapping: targets of the field, click limit as found.

    Returns:
        Columns variant, dataset, size_bin (`all` or a bin), metric, value, low, high, samples, invalid,
        protocol. `value` is the mean over valid samples, for nof and ritm_nof their number; low and high its
        95 % bootstrap interval.
    """
    parts = []
    for (variant, dataset), rows in _groups(clicks):
        table = per_sample(rows, protocol)
        bins = rows.groupby("sample")["size_bin"].first().reindex(table.index)
        left_out = rows[rows["iou"].isna()].drop_duplicates("sample")
        for name in ("all", *(b for b in SIZE_BINS if (bins == b).any())):
            part = table if name == "all" else table[bins == name]
            summary = _means(part)
            summary["invalid"] = len(left_out) if name == "all" else int((left_out["size_bin"] == name).sum())
            parts.append(summary.assign(variant=variant, dataset=dataset, size_bin=name))
    columns = [*_KEYS, "size_bin", "metric", "value", "low", "high", "samples", "invalid", "protocol"]
    if not parts:
        return pd.DataFrame(columns=columns)
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(protocol=str(protocol.get("name", "not recorded")))[columns]


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of each column of a per-sample table; counts are scaled to the number of samples."""
    rows = []
    whole = [c for c in table if not table[c].isna().any()]
    limits = dict(zip(whole, bootstrap_intervals(table[whole].to_numpy().T) if len(table) else [], strict=False))
    for metric in table:
        values = table[metric].dropna()
        scale = len(values) if "nof" in str(metric) else 1
        low, high = limits[metric] if metric in limits else bootstrap_interval(values.to_numpy())
        mean = values.mean() if len(values) else np.nan
        rows.append([metric, mean * scale, low * scale, high * scale, len(values)])
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "samples"])


def compare(clicks: pd.DataFrame, base: str, protocol: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """compare.csv: every variant minus the base on the samples that both have, over all and by object-size
    bin.

    Returns:
        Columns variant, base, dataset, size_bin, metric, difference, low, high, p_value, samples. The
        difference is that of the means (nof: of the numbers of failures); low, high: paired bootstrap;
        p_value: paired permutation.
    """
    tables = {key: per_sample(rows, protocol or {}) for key, rows in _groups(clicks)}
    bins = clicks.drop_duplicates(["dataset", "sample"]).set_index(["dataset", "sample"])["size_bin"]
    rows = []
    for (variant, dataset), table in tables.items():
        if variant == base or (base, dataset) not in tables:
            continue
        other = tables[(base, dataset)]
        common = table.index.intersection(other.index)
        sizes = bins.loc[dataset].reindex(common)
        for name in ("all", *(b for b in SIZE_BINS if (sizes == b).any())):
            chosen = common if name == "all" else common[sizes == name]
            for metric in table.columns.intersection(other.columns):
                a, b = table.loc[chosen, metric].to_numpy(), other.loc[chosen, metric].to_numpy()
                count = int((~np.isnan(a - b)).sum())
                difference, low, high, p = paired_comparison(a, b)
                scale = count if "nof" in str(metric) else 1
                rows.append(
                    [
                        variant,
                        base,
                        dataset,
                        name,
                        metric,
                        difference * scale,
                        low * scale,
                        high * scale,
                        p,
                        count,
                    ]
                )
    columns = [
        "variant",
        "base",
        "dataset",
        "size_bin",
        "metric",
        "difference",
        "low",
        "high",
        "p_value",
        "samples",
    ]
    return pd.DataFrame(rows, columns=columns)


def _groups(clicks: pd.DataFrame) -> Any:
    if clicks.empty:
        return []
    usable = clicks if "error" not in clicks else clicks[clicks["error"].isin(["", None]) | clicks["error"].isna()]
    usable = usable if "size_bin" in usable else usable.assign(size_bin="")
    return usable.groupby(_KEYS, sort=False)
