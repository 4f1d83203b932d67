"""From the cells of a plan to the files of a sweep (docs/architecture.md)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from harness.machine import describe
from harness.planning.addresses import without_secrets
from harness.planning.environment import hide, recorded
from harness.planning.identity import METRICS, PROTOCOL, STATISTICS, protocol_label
from harness.planning.plan import Cell, Plan
from harness.results import sequential
from harness.results.cells import CellFile
from harness.results.schema import CLICK_COLUMNS, FAILURE_COLUMNS, GROUP_COLUMNS, CellHeader, click_rows, group_rows
from harness.results.store import Store
from harness.scoring import decision, metrics


@dataclass
class Tables:
    """What a sweep knows so far; `None` where nothing was measured in this run (files on disk are then kept)."""

    clicks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CLICK_COLUMNS))
    groups: pd.DataFrame | None = None
    summary: pd.DataFrame | None = None
    compare: pd.DataFrame | None = None
    latency: pd.DataFrame | None = None
    flops: pd.DataFrame | None = None
    machine: dict[str, Any] | None = None
    failures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=FAILURE_COLUMNS))

    def fail(self, stage: str, variant: str, error: str, dataset: str = "", sample: str = "") -> None:
        """Record something that could not be measured."""
        row = pd.DataFrame([[stage, variant, dataset, sample, hide(error)]], columns=FAILURE_COLUMNS)
        self.failures = row if self.failures.empty else pd.concat([self.failures, row], ignore_index=True)


def cell_header(cell: Cell) -> CellHeader:
    """First line of a cell's file: everything that its rows depend on."""
    return CellHeader(
        cell=cell.key,
        variant=cell.variant.name,
        variant_config=cell.variant.shown,
        dataset=cell.data.name,
        dataset_config=cell.data.config,
        dataset_digest=cell.data.digest,
        dataset_note=cell.data.note,
        protocol=protocol_label(cell.protocol.label),
        protocol_record=cell.protocol.record(),
        protocol_version=PROTOCOL,
        metrics_version=METRICS,
        deviations=tuple(cell.protocol.deviations(cell.variant.config)),
        commit=commit(),
    )


commit = functools.lru_cache(maxsize=1)(describe.commit)


def configuration(plan: Plan, config: DictConfig, command: str) -> dict[str, Any]:
    """config.yaml: the resolved configuration and what the plan made of it."""
    return {
        "command": without_secrets(command),
        "ablation": {"name": plan.name, "title": plan.title, "base": plan.base},
        "variants": {v.name: v.shown for v in plan.variants},
        "datasets": {
            d.name: {"config": d.config, "digest": d.digest, "note": d.note, "samples": len(d.dataset)}
            for d in plan.datasets
        },
        "protocol": {**plan.protocol.record(), "name": plan.protocol.label},
        "primary": plan.protocol.primary,
        "resolved": without_secrets(recorded(config)),
    }


def write(plan: Plan, cells: Sequence[tuple[Cell, CellFile]], tables: Tables, store: Store) -> None:
    """Make every table from the cells and put it on disk; fills `tables`."""
    _collect(cells, tables)
    if cells:
        store.write_table("clicks.parquet", tables.clicks)
        if tables.groups is not None:
            store.write_table("groups.parquet", tables.groups)
        else:
            store.remove("groups.parquet")
        store.write_json("cells.json", [_cell_entry(cell, file) for cell, file in cells])
        record = {**plan.protocol.record(), "name": protocol_label(plan.protocol.label)}
        tables.summary = summary(tables.clicks, record, tables.groups)
        store.write_table("summary.csv", tables.summary)
        if plan.base is not None:
            judge: Callable[[pd.DataFrame], pd.DataFrame] | None = None
            if plan.protocol.sequential:
                verdicts = {d.name: sequential.verdicts(plan, d, tables.clicks, tables.groups) for d in plan.datasets}
                store.write_table("sequential.csv", sequential.table(plan, verdicts))
                judge = partial(sequential.judged, plan=plan, by_dataset=verdicts)
            tables.compare = compare(tables.clicks, plan.base, record, plan.protocol.primary, tables.groups, judge)
            store.write_table("compare.csv", tables.compare)
        if plan.base is None:
            store.remove("compare.csv")
        if plan.base is None or not plan.protocol.sequential:
            store.remove("sequential.csv")
    store.write_table("failures.csv", tables.failures)


def summary(clicks: pd.DataFrame, record: Mapping[str, Any], groups: pd.DataFrame | None = None) -> pd.DataFrame:
    """summary.csv from rows of clicks.parquet and groups.parquet, with the versions that it was made under."""
    return metrics.summarise(clicks, record, groups).assign(**_versions(clicks))


def compare(
    clicks: pd.DataFrame,
    base: str,
    record: Mapping[str, Any],
    primary: str,
    groups: pd.DataFrame | None = None,
    judge: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """compare.csv from the rows, with the p to judge by (`p_holm`) and the versions.

    Args:
        judge: puts other intervals and p in place, where the number of samples was not fixed beforehand.
    """
    differences = metrics.compare(clicks, base, record, groups)
    if judge is not None:
        differences = judge(differences)
    return decision.with_holm(differences, primary).assign(primary=primary, **_versions(clicks))


def _versions(clicks: pd.DataFrame) -> dict[str, int]:
    own = {"protocol_version": PROTOCOL, "metrics_version": METRICS}
    rows = {name: int(clicks[name].max()) if name in clicks and len(clicks) else own[name] for name in own}
    return {**rows, "statistics_version": STATISTICS}


def rows_of(cells: Sequence[tuple[Cell, CellFile]]) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """clicks.parquet and groups.parquet of these cells as they are now."""
    tables = Tables()
    _collect(cells, tables)
    return tables.clicks, tables.groups


def _collect(cells: Sequence[tuple[Cell, CellFile]], tables: Tables) -> None:
    rows: list[dict[str, Any]] = []
    further: list[dict[str, Any]] = []
    bad: dict[tuple[str, str, str], list[str]] = {}
    for cell, file in cells:
        episodes = list(file.episodes(cell.data.dataset.names))
        good = [(e, origin) for e, origin in episodes if not e.error]
        rows += click_rows(file.header, good)
        further += group_rows(file.header, good)
        for episode, _ in episodes:
            if episode.error:
                bad.setdefault((cell.data.name, episode.sample, episode.error), []).append(cell.variant.name)
    if rows:
        frame = pd.DataFrame(rows)
        tables.clicks = frame[CLICK_COLUMNS]
    if further:
        tables.groups = pd.DataFrame(further)[GROUP_COLUMNS]
    everyone = {cell.variant.name for cell, _ in cells}
    for (dataset, sample, error), variants in bad.items():
        # A bad image fails every variant alike: one row says so.
        who = ["all"] if len(everyone) > 1 and set(variants) == everyone else variants
        for variant in who:
            tables.fail("clicks", variant, error, dataset, sample)


def _cell_entry(cell: Cell, file: CellFile) -> dict[str, Any]:
    return {
        **file.header.record(),
        "file": str(Path("cells") / file.path.name),
        "episodes": len(file.done),
        "origins": [origin.record() for origin in file.origins],
    }
