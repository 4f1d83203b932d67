"""Expands a configuration into cells: variant x data set, each with a content hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from harness.datasets.doubts import refuse_whole_images
from harness.errors import UserError, near_miss
from harness.planning.config import Config, build, overlay, plain
from harness.planning.identity import PRECISIONS, SCHEMA
from harness.planning.stamps import weights_stamp
from harness.protocol import Protocol


@dataclass(frozen=True)
class Variant:
    """A segmenter's configuration under the name that it has in the tables."""

    name: str
    config: dict[str, Any]

    def __post_init__(self) -> None:
        precision = self.config.get("precision")
        if isinstance(precision, str) and precision in PRECISIONS:
            object.__setattr__(self, "config", {**self.config, "precision": PRECISIONS[precision]})

    def make(self) -> Any:
        """Build the segmenter; UserError if its settings are wrong."""
        return build(self.config, f"variant {self.name!r}")


@dataclass(frozen=True)
class DatasetPlan:
    """A data set that loads, with the digest of the selected samples."""

    name: str
    config: dict[str, Any]
    dataset: Any
    digest: str

    @property
    def note(self) -> str:
        """What every table must say of this data set, for example "composed"."""
        return str(getattr(self.dataset, "note", ""))


@dataclass(frozen=True)
class Cell:
    """Variant x data set: the unit of resuming and of an MLflow run."""

    variant: Variant
    data: DatasetPlan
    protocol: Protocol

    @property
    def key(self) -> str:
        """Content hash: equal exactly when variant, samples and protocol are the same."""
        identity = {
            "schema": SCHEMA,
            "variant": [self.variant.name, self.variant.config, weights_stamp(self.variant.config)],
            "dataset": [self.data.name, self.data.digest],
            "protocol": self.protocol.record(),
        }
        text = json.dumps(identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """Everything that a sweep will do."""

    name: str
    title: str
    base: str | None
    isolate: bool
    variants: tuple[Variant, ...]
    datasets: tuple[DatasetPlan, ...]
    protocol: Protocol

    @property
    def cells(self) -> list[Cell]:
        """All cells, data set by data set."""
        return [Cell(v, d, self.protocol) for d in self.datasets for v in self.variants]


def make_plan(root: Config, config: DictConfig, picked: str | None = None) -> Plan:
    """Resolve names, build data sets and check the protocol; models are not built yet.

    Args:
        picked: the file of `variant/` that the command line names; alone, it is what runs.

    Raises:
        UserError: unknown variant, switch or data set, wrong folder, click limit 0, …
    """
    variants = _variants(root, config, picked)
    base = config.ablation.base
    names = [v.name for v in variants]
    protocol = build(plain(config.protocol), "protocol")
    if not isinstance(protocol, Protocol):
        raise UserError(f"protocol must build a harness.protocol.Protocol, not {type(protocol).__name__}.")
    return Plan(
        name=config.ablation.name,
        title=config.ablation.title or "",
        base=base if base in names else None,
        isolate=bool(config.ablation.isolate),
        variants=tuple(variants),
        datasets=tuple(_datasets(root, config)),
        protocol=protocol,
    )


def _variants(root: Config, config: DictConfig, picked: str | None) -> list[Variant]:
    offered = plain(config.ablation.variants) or {}
    chosen = plain(config.variants)
    if isinstance(chosen, str):
        chosen = [chosen]
    if chosen is None:
        chosen = list(offered) or [picked] * (picked is not None)
    if not chosen:
        names = ", ".join(root.options("ablation"))
        raise UserError(
            f"nothing to run: give +ablation=NAME ({names}), "
            f"variant=NAME or variants=[NAME,…] ({', '.join(root.options('variant'))})."
        )
    made = []
    for name in dict.fromkeys(str(c) for c in chosen):
        if name in offered:
            made.append(Variant(name, _switched(root, config, name, dict(offered[name] or {}))))
        elif name == picked:  # with what the command line says of it: variant=NAME variant.size=512
            made.append(Variant(name, plain(config.variant)))
        elif name in root.options("variant"):
            made.append(Variant(name, plain(root.load("variant", name))))
        else:
            raise UserError(f"unknown variant {name!r}. {near_miss(name, [*offered, *root.options('variant')])}")
    return made


def _switched(root: Config, config: DictConfig, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """An ablation's entry: settings over the command line's `variant`, or over another file of the group."""
    other = settings.pop("variant", None)
    if other is None:
        return plain(overlay(config.variant, settings, f"variant {name!r} of ablation {config.ablation.name!r}"))
    return plain(root.load("variant", str(other), settings))


def _datasets(root: Config, config: DictConfig) -> list[DatasetPlan]:
    configs: dict[str, dict[str, Any]] = {}
    for label, given in (plain(config.datasets) or {}).items():
        settings = dict(given or {})
        configs[label] = plain(root.load("dataset", settings.pop("dataset", label), settings))
    if not configs:
        configs[""] = plain(config.dataset)
    plans = []
    for label, settings in configs.items():
        dataset = build(settings, f"dataset {label or settings.get('name', '')!r}")
        if len(dataset) == 0:
            raise UserError(f"data set {label or dataset.name!r} has no samples; check root, limit and shard.")
        refuse_whole_images(dataset)
        plans.append(DatasetPlan(label or dataset.name, settings, dataset, dataset.digest()))
    return plans
