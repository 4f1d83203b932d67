"""Expands a configuration into cells: variant x data set, each with a content hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from harness.datasets.doubts import refuse_whole_images
from harness.datasets.starts import WithStarts
from harness.errors import UserError, near_miss
from harness.fetching.manifests import Catalogue
from harness.fetching.weights import is_name, require_spelling, settled
from harness.planning import code
from harness.planning.config import Config, build, overlay, plain
from harness.planning.environment import recorded
from harness.planning.identity import KEY, METRICS, PRECISIONS, PROTOCOL, require_stable
from harness.planning.stamps import weights_stamp
from harness.protocol import Protocol


@dataclass(frozen=True)
class Variant:
    """A segmenter's configuration under the name that it has in the tables.

    Attributes:
        name: in the tables.
        config: resolved; may hold secrets of the environment, so it is never written down.
        shown: the same as it may be stored, with `${oc.env:NAME}` for what the environment gave.
    """

    name: str
    config: dict[str, Any]
    shown: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in ("config", "shown"):
            settings = getattr(self, part) or self.config
            precision = settings.get("precision")
            if isinstance(precision, str) and precision in PRECISIONS:
                settings = {**settings, "precision": PRECISIONS[precision]}
            object.__setattr__(self, part, settings)

    def make(self) -> Any:
        """Build the segmenter; UserError if its settings are wrong."""
        segmenter = build(self.config, f"variant {self.name!r}")
        lacks = [part for part in ("encode", "start") if not callable(getattr(segmenter, part, None))]
        if lacks:  # made by a function, whose result nobody could look at before
            raise UserError(
                f"variant {self.name!r}: {self.config.get('_target_')} built {type(segmenter).__name__}, which is no "
                f"segmenter, it has no method {' and no '.join(lacks)} (the interface: harness/segmenter.py)."
            )
        return segmenter


@dataclass(frozen=True)
class DatasetPlan:
    """A data set that loads, with the digest of the selected samples.

    `config` is as it may be stored: `${oc.env:NAME}` stands for what the environment gave.
    """

    name: str
    config: dict[str, Any]
    dataset: Any
    digest: str

    @property
    def note(self) -> str:
        """What every table must say of this data set, for example "composed"."""
        return str(getattr(self.dataset, "note", ""))


@dataclass(frozen=True, eq=False)
class Cell:
    """Variant x data set: the unit of resuming and of an MLflow run."""

    variant: Variant
    data: DatasetPlan
    protocol: Protocol

    @property
    def key(self) -> str:
        """Content hash: equal exactly when variant, samples and protocol are the same."""
        identity = {
            "schema": KEY,
            **({"rules": PROTOCOL} if PROTOCOL > 1 else {}),
            **({"metrics": METRICS} if METRICS > 1 else {}),
            "variant": [self.variant.name, self.variant.config, weights_stamp(self.variant.config)],
            "dataset": [self.data.name, self.data.digest],
            "protocol": self.protocol.record(),
        }
        text = json.dumps(identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def code(self) -> code.Code:
        """The code that decides this cell's numbers."""
        dataset = self.data.dataset
        inner = [dataset.dataset] if isinstance(dataset, WithStarts) else []
        annotator = self.protocol.annotator
        objects = (dataset, *inner, self.protocol, annotator)
        modules = {type(o).__module__ for o in objects} | set(getattr(annotator, "modules", ()))
        return code.of(tuple(sorted({*targets(self.variant.config), *modules})))


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
    variants = choose_variants(root, config, picked)
    base = config.ablation.base
    names = [v.name for v in variants]
    protocol = build(plain(config.protocol), "protocol")
    if not isinstance(protocol, Protocol):
        raise UserError(f"protocol must build a harness.protocol.Protocol, not {type(protocol).__name__}.")
    _require_stable(protocol)
    datasets = tuple(choose_datasets(root, config))
    for data in datasets:
        _require_usable(protocol, data)
    if protocol.sequential and (base not in names or len(names) < 2):
        raise UserError(
            "protocol.sequential=true stops when variants are told from the base, and this sweep has no two of them. "
            "Give an ablation with a base (+ablation=NAME), or leave it out."
        )
    return Plan(
        name=config.ablation.name,
        title=config.ablation.title or "",
        base=base if base in names else None,
        isolate=bool(config.ablation.isolate),
        variants=tuple(variants),
        datasets=datasets,
        protocol=protocol,
    )


def targets(config: Any) -> set[str]:
    """Modules of every `_target_` in a configuration."""
    if isinstance(config, dict):
        own = {code.module_of(str(config["_target_"]))} if "_target_" in config else set()
        return own.union(*map(targets, config.values()))
    return set().union(*map(targets, config)) if isinstance(config, list) else set()


def _require_stable(protocol: Protocol) -> None:
    """The keys of all cells hold what the annotator says of itself."""
    annotator = protocol.annotator
    what = f"protocol.annotator {type(annotator).__name__}"
    fix = (
        "Give it a method record() that returns its name and settings as plain values, for example "
        f'{{"name": "{type(annotator).__name__.lower()}", "seed": 0}}.'
    )
    if not callable(getattr(annotator, "record", None)):
        raise UserError(f"{what} has no record(), so that its episodes could not be told from those of another. {fix}")
    require_stable(annotator.record(), what, fix)
    if annotator.record() != annotator.record():
        raise UserError(f"{what}: its record() is another one at every call. {fix}")


def _require_usable(protocol: Protocol, data: DatasetPlan) -> None:
    """What the protocol needs of a data set: recorded clicks of it, masks to begin from."""
    check = getattr(protocol.annotator, "check", None)
    if callable(check):
        check(data.dataset)
    from_files = getattr(protocol.start_mask, "rule", "given") == "given"
    if protocol.start == "mask" and from_files and not isinstance(data.dataset, WithStarts):
        raise UserError(
            f"protocol.start=mask: data set {data.name!r} has no masks to begin from. Give a folder of them "
            "(dataset.starts=DIR, a NAME.png per sample), or let a rule make them (protocol.start_mask.rule=erode)."
        )


def _digest(dataset: Any, label: str) -> str:
    """What the data set says of its samples; stands in the key of its cells.

    Raises:
        UserError: it has no digest(), or one that the next start would not find again.
    """
    what = f"data set {label or getattr(dataset, 'name', '')!r} ({type(dataset).__name__})"
    fix = (
        "Give it a method digest() that returns a text of at most 32 characters, which changes when its samples do "
        "and only then (docs/extending.md)."
    )
    if not callable(getattr(dataset, "digest", None)):
        raise UserError(f"{what} has no digest(). {fix}")
    digest = dataset.digest()
    if not isinstance(digest, str) or not digest:
        raise UserError(f"{what}: digest() returned {str(digest)[:60]!r}, not a text. {fix}")
    require_stable(digest, what, fix)
    if callable(getattr(dataset, "record", None)):
        require_stable(dataset.record(), what, "Let record() return its settings as plain values.")
    if not type(dataset).__module__.startswith("harness.") and dataset.digest() != digest:
        raise UserError(f"{what}: digest() is another one at every call. {fix}")
    return digest


def choose_variants(root: Config, config: DictConfig, picked: str | None) -> list[Variant]:
    """The variants that a configuration asks for, in its order; none is built.

    Args:
        picked: as in `make_plan`.

    Raises:
        UserError: no variant, an unknown one, or a setting that it does not have.
    """
    offered = recorded(config.ablation.variants) or {}
    if isinstance(offered, list):
        offered = dict.fromkeys(map(str, offered))
    if not isinstance(offered, dict) or not all(v is None or isinstance(v, dict) for v in offered.values()):
        raise UserError(
            f"ablation {config.ablation.name!r}: `variants` names each variant with its settings, "
            "for example {all_on: {}, dpe_off: {dpe: off}}."
        )
    offered = {str(name): settings for name, settings in offered.items()}
    chosen = plain(config.variants)
    if chosen is not None and not isinstance(chosen, list):
        chosen = [chosen]
    if chosen is None:
        chosen = list(offered) or [picked] * (picked is not None)
    if not chosen:
        names = ", ".join(root.options("ablation"))
        raise UserError(
            f"nothing to run: give +ablation=NAME ({names}), "
            f"variant=NAME or variants=[NAME,…] ({', '.join(root.options('variant'))})."
        )
    variants = []
    for name in dict.fromkeys(str(c) for c in chosen):
        if name not in [*offered, picked, *root.options("variant")]:
            raise UserError(f"unknown variant {name!r}. {near_miss(name, [*offered, *root.options('variant')])}")
        try:
            if name in offered:
                node = _switched(root, config, name, dict(offered[name] or {}))
            elif name == picked:  # with what the command line says of it: variant=NAME variant.size=512
                node = config.variant
            else:
                node = root.load("variant", name)
            settings, shown = plain(node), recorded(node)
            require_segmenter(name, settings)
            require_spelling(settings.get("weights"))
            if is_name(settings.get("weights")):
                settings, shown = _with_weights(root, settings, shown, _file_of(name, offered))
        except UserError as error:
            where = root.file("variant", name)
            raise (error if name in str(error) else UserError(f"{where}: {error}")) from error
        variants.append(Variant(name, settings, shown))
    return variants


def _file_of(name: str, offered: dict[str, Any]) -> str:
    """The file of `variant/` that a variant is made from."""
    return str((offered.get(name) or {}).get("variant") or name)


def _with_weights(
    root: Config, settings: dict[str, Any], shown: dict[str, Any], file: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`weights: official` and `hf:…` as the names that mean the same wherever the plan goes."""
    name = settled(settings["weights"], file, settings, Catalogue(root.config_dir))
    kept = shown["weights"] if shown.get("weights") != settings["weights"] else name  # an expression stays one
    return {**settings, "weights": name}, {**shown, "weights": kept}


def require_segmenter(name: str, config: Any) -> None:
    """Raise UserError if a variant's configuration names no class, or one of the user's that is no segmenter."""
    target = config.get("_target_") if isinstance(config, dict) else None
    if not isinstance(target, str):
        raise UserError(f"variant {name!r} names no class: give its file a line `_target_: module.Class`.")
    if target.partition(".")[0] in ("inter2former", "baselines"):
        return
    try:
        cls = get_object(target)
    except Exception:  # whoever builds it says what is wrong
        return
    lacks = [part for part in ("encode", "start") if not callable(getattr(cls, part, None))]
    if isinstance(cls, type) and lacks:
        raise UserError(
            f"variant {name!r}: {target} is no segmenter, it has no method {' and no '.join(lacks)} "
            "(the interface: harness/segmenter.py)."
        )


def _switched(root: Config, config: DictConfig, name: str, settings: dict[str, Any]) -> DictConfig:
    """An ablation's entry: settings over the command line's `variant`, or over another file of the group."""
    other = settings.pop("variant", None)
    if other is None:
        return overlay(config.variant, settings, f"variant {name!r} of ablation {config.ablation.name!r}")
    return root.load("variant", str(other), settings)


def choose_datasets(root: Config, config: DictConfig) -> list[DatasetPlan]:
    """The data sets that a configuration asks for, built.

    Raises:
        UserError: an unknown data set, a wrong folder or setting, or no sample.
    """
    configs: dict[str, DictConfig] = {}
    several = recorded(config.datasets) or {}
    if not isinstance(several, dict) or not all(v is None or isinstance(v, dict) for v in several.values()):
        raise UserError(
            "datasets: names each data set with its settings, for example {grabcut: {root: DIR}, mine: {dataset: "
            "folder, root: DIR}}."
        )
    for label, override in ((str(k), v) for k, v in several.items()):
        settings = dict(override or {})
        starts = settings.pop("starts", None)
        configs[label] = root.load("dataset", settings.pop("dataset", label), settings)
        if starts is not None:
            configs[label] = OmegaConf.merge(configs[label], {"starts": starts})  # type: ignore[assignment]
    if not configs:
        configs[""] = config.dataset
    plans = []
    for label, node in configs.items():
        settings = plain(node)
        dataset = build(settings, f"dataset {label or settings.get('name', '')!r}")
        lacks = [part for part in ("names", "load", "digest", "name", "__len__") if not hasattr(dataset, part)]
        if lacks:
            target = settings.get("_target_", "a mapping without _target_")
            raise UserError(
                f"dataset {label or settings.get('name', '')!r}: {target} is no data set, "
                f"it has no {', '.join(lacks)} (an example: harness/datasets/folder.py)."
            )
        if len(dataset) == 0:
            raise UserError(f"data set {label or dataset.name!r} has no samples; check root, limit and shard.")
        refuse_whole_images(dataset)
        plans.append(DatasetPlan(label or dataset.name, recorded(node), dataset, _digest(dataset, label)))
    return plans
