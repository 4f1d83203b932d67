"""sequential.csv: how many samples were enough to tell each variant from the base (`protocol.sequential=true`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.planning.plan import DatasetPlan, Plan
from harness.scoring import metrics
from harness.scoring.registry import metric
from harness.scoring.sequential import Verdict, random_order, verdict

COLUMNS = [
    "variant", "base", "dataset", "metric", "outcome", "samples", "of", "difference", "low", "high", "p_value",
]  # fmt: skip


def verdicts(
    plan: Plan, data: DatasetPlan, clicks: pd.DataFrame, groups: pd.DataFrame | None = None
) -> dict[str, Verdict]:
    """What is known of each variant but the base on one data set, from the rows so far, in random order of samples."""
    protocol, record = plan.protocol, plan.protocol.record()
    names = list(data.dataset.names)
    order = random_order(names)
    kind = metric(protocol.primary)
    least, most = kind.range(protocol.clicks)
    values = {}
    for variant in plan.variants:
        rows = clicks[(clicks["variant"] == variant.name) & (clicks["dataset"] == data.name)]
        if rows.empty:
            continue
        of_groups = None
        if groups is not None:
            of_groups = groups[(groups["variant"] == variant.name) & (groups["dataset"] == data.name)]
        values[variant.name] = metrics.per_sample(rows, record, of_groups)[protocol.primary].dropna()
    by_variant = {}
    for variant in plan.variants:
        if variant.name == plan.base:
            continue
        mine, base = values.get(variant.name), values.get(str(plan.base))
        differences: list[float] = []
        if mine is not None and base is not None:
            both = (mine - base).dropna()
            differences = [float(both[name]) for name in order if name in both.index]
        by_variant[variant.name] = verdict(differences, most - least, len(names), protocol.sequential_width)
    return by_variant


def table(plan: Plan, by_dataset: Mapping[str, Mapping[str, Verdict]]) -> pd.DataFrame:
    """The rows of sequential.csv."""
    rows: list[list[Any]] = [
        [variant, plan.base, dataset, plan.protocol.primary, v.outcome, v.samples, v.population, v.difference, v.low]
        + [v.high, v.p_value]
        for dataset, of_variants in by_dataset.items()
        for variant, v in of_variants.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(compare: pd.DataFrame, plan: Plan, by_dataset: Mapping[str, Mapping[str, Verdict]]) -> pd.DataFrame:
    """compare.csv with what holds although one stopped when it sufficed.

    The primary metric over all samples has the interval and the p that are valid at every look. All other rows keep
    their difference, and have neither interval nor p: theirs are made for a number of samples that is fixed beforehand.
    """
    frame = compare.copy()
    frame[["low", "high", "p_value"]] = float("nan")
    for dataset, of_variants in by_dataset.items():
        for variant, v in of_variants.items():
            row = (frame["dataset"] == dataset) & (frame["variant"] == variant) & (frame["size_bin"] == "all")
            row &= frame["metric"] == plan.protocol.primary
            scale = metric(plan.protocol.primary).weight(v.samples)
            frame.loc[row, ["low", "high", "p_value"]] = [v.low * scale, v.high * scale, v.p_value]
    return frame
