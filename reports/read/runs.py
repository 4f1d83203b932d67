"""One sweep as a report sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.protocol import DEFAULT_PRIMARY
from harness.scoring.registry import metric
from reports.read.schema import GROUPS

RANKED = ("released", "trained here", "no weights")
"""Weight states whose quality may be ranked; random weights never are."""


@dataclass(frozen=True)
class Run:
    """Everything that a report knows of one sweep.

    Attributes:
        path: folder that was read.
        name: name of the ablation, or of the folder.
        clicks, summary, compare, latency, flops, failures: the files of these names, with every known column.
        timings: latency_samples.parquet, every single timing; may be empty.
        parts: latency_parts.csv, time by part; most runs have none.
        scaling: latency_scaling.csv, fits of how time grows; empty where one size and thread count was timed.
        machine, config: machine.json and config.yaml as they are.
        source: setting of `python -m reports` that reads this run, where it is not a folder of the user's.
        groups: groups.parquet, the further episodes of each sample; empty where the protocol has none.
        notes: what the folder lacks or what was filled in, one sentence each, shown on the page.
    """

    path: Path
    name: str
    clicks: pd.DataFrame
    summary: pd.DataFrame
    compare: pd.DataFrame
    latency: pd.DataFrame
    flops: pd.DataFrame
    parts: pd.DataFrame
    timings: pd.DataFrame
    scaling: pd.DataFrame
    failures: pd.DataFrame
    machine: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: str = ""
    groups: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(GROUPS)))

    @property
    def ablation(self) -> Mapping[str, Any]:
        """The `ablation` entry of config.yaml: name, title, base."""
        entry = self.config.get("ablation")
        return entry if isinstance(entry, Mapping) else {}

    @property
    def variants(self) -> list[str]:
        """Names in the order of the sweep: as configured, then as they appear in the rows."""
        seen = [*self.variant_configs]
        for frame in (self.clicks, self.summary, self.latency, self.flops):
            seen += list(frame["variant"].unique())
        present = set(self.clicks["variant"]) | set(self.summary["variant"])
        present |= set(self.latency["variant"]) | set(self.flops["variant"])
        return [v for v in dict.fromkeys(seen) if v in present]

    @property
    def datasets(self) -> list[str]:
        """Names in order of appearance in the rows."""
        return list(dict.fromkeys([*self.clicks["dataset"].unique(), *self.summary["dataset"].unique()]))

    @property
    def variant_configs(self) -> dict[str, dict[str, Any]]:
        """Variant -> its resolved `_target_` configuration, as far as config.yaml keeps it."""
        entries = self.config.get("variants")
        return (
            {str(k): dict(v) for k, v in entries.items() if isinstance(v, Mapping)}
            if isinstance(entries, Mapping)
            else {}
        )

    @property
    def dataset_configs(self) -> dict[str, dict[str, Any]]:
        """Data set -> its resolved `_target_` configuration."""
        entries = self.config.get("datasets")
        if not isinstance(entries, Mapping):
            return {}
        configs = {str(k): v.get("config", v) for k, v in entries.items() if isinstance(v, Mapping)}
        return {name: dict(config) for name, config in configs.items() if isinstance(config, Mapping)}

    def digest(self, dataset: str) -> str:
        """Content digest of a data set as config.yaml keeps it, or ""."""
        entries = self.config.get("datasets")
        entry = entries.get(dataset) if isinstance(entries, Mapping) else None
        return str(entry.get("digest") or "") if isinstance(entry, Mapping) else ""

    @property
    def base(self) -> str | None:
        """The variant that the others are compared with; the first one where none is named."""
        named = self.ablation.get("base")
        if isinstance(named, str) and named in self.variants:
            return named
        if len(self.compare):
            return str(self.compare["base"].iloc[0])
        return self.variants[0] if self.variants else None

    def status(self, variant: str) -> str:
        """The weights' state as stored: "released", "trained here", "untrained", "no weights" or "not recorded"."""
        return self._statuses.get(variant, "not recorded")

    @cached_property
    def _statuses(self) -> dict[Any, str]:
        """variant -> state of its weights, by the last row of the first table that has the variant."""
        statuses: dict[Any, str] = {}
        for frame in (self.flops, self.latency, self.clicks):
            if "weights_status" in frame:
                last = frame.drop_duplicates("variant", keep="last")
                statuses |= {v: str(s) for v, s in zip(last["variant"], last["weights_status"], strict=True)}
        return statuses

    def note(self, dataset: str) -> str:
        """What must be said of a data set wherever its numbers stand, for example "composed"."""
        values = self.clicks.loc[self.clicks["dataset"] == dataset, "dataset_note"]
        return str(values.iloc[0]) if len(values) else ""

    def protocol(self, dataset: str | None = None) -> str:
        """Name(s) of the protocol behind the rows."""
        frame = self.clicks if dataset is None else self.clicks[self.clicks["dataset"] == dataset]
        names = list(dict.fromkeys(frame["protocol"])) or list(dict.fromkeys(self.summary["protocol"]))
        return ", ".join(names) or "not recorded"

    @property
    def primary(self) -> str:
        """The metric that was named beforehand as the one that counts (`protocol.primary`)."""
        stored = self.compare["primary"].iloc[0] if len(self.compare) and "primary" in self.compare else ""
        resolved = self.config.get("resolved")
        protocol = resolved.get("protocol") if isinstance(resolved, Mapping) else None
        setting = protocol.get("primary") if isinstance(protocol, Mapping) else None
        known = set(self.summary["metric"])
        named = [str(n) for n in (self.config.get("primary"), stored, setting) if n]
        nocs = sorted((m for m in known if metric(m).family == "noc"), reverse=True)
        # Runs from before there was such a setting: the default, or what their protocol has in its place.
        return next((n for n in [*named, DEFAULT_PRIMARY] if n in known), nocs[0] if nocs else DEFAULT_PRIMARY)

    @property
    def threshold(self) -> float | None:
        """Threshold of the protocol; None: each segmenter's own."""
        record = self.config.get("protocol")
        value = record.get("threshold") if isinstance(record, Mapping) else None
        return None if value is None else float(value)

    def versions(self, dataset: str) -> tuple[int, int]:
        """Versions of protocol and metrics behind the rows of a data set (harness.planning.identity)."""
        rows = self.clicks[self.clicks["dataset"] == dataset]
        if len(rows) == 0:
            rows = self.summary[self.summary["dataset"] == dataset]
        names = ("protocol_version", "metrics_version")
        return tuple(int(rows[name].max()) if len(rows) and name in rows else 1 for name in names)  # type: ignore[return-value]

    def samples(self, dataset: str) -> int:
        """Number of samples with rows."""
        return int(self.clicks.loc[self.clicks["dataset"] == dataset, "sample"].nunique())

    def attempted(self, dataset: str) -> int:
        """Number of samples that every variant was to be clicked on: as configured, or with rows or failures."""
        failed = self.failures.loc[self.failures["dataset"] == dataset, "sample"].astype(str)
        rows = self.clicks.loc[self.clicks["dataset"] == dataset, "sample"].astype(str)
        entries = self.config.get("datasets")
        entry = entries.get(dataset) if isinstance(entries, Mapping) else None
        configured = entry.get("samples", 0) if isinstance(entry, Mapping) else 0
        return max(int(configured or 0), len({*rows, *failed} - {""}))

    def ranked(self, variant: str) -> bool:
        """Whether quality of this variant may be marked as best."""
        return self.status(variant) in RANKED
