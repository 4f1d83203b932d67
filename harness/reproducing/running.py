"""Runs what rows need through the sweep: one sweep for each protocol and data set, resumable like any other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import open_dict

from harness.console import Console
from harness.errors import UserError
from harness.fetching import places, verify
from harness.fetching.lockfile import LockFile
from harness.fetching.manifests import Catalogue, Entry
from harness.planning.config import Config, overlay
from harness.planning.plan import Plan, make_plan
from harness.reproducing import rows as published
from harness.reproducing.causes import Evidence
from harness.reproducing.rows import Row


@dataclass(frozen=True)
class Options:
    """What the user says for all rows.

    Attributes:
        out: folder; each group of rows is a sweep of its own below it.
        roots: data set -> folder, for data that were not fetched.
        weights: variant -> file, likewise.
        limit: samples of each data set, for a trial; None: all.
        overrides: settings of the sweep, as on its command line.
    """

    out: Path
    roots: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Rows of one protocol on one data set: one sweep.

    Attributes:
        name: of its folder.
        rows: the rows.
    """

    name: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Outcome:
    """A row with what came of it.

    Attributes:
        row: the published number.
        value: measured, in the row's unit; None where it was not.
        samples: that it is over.
        complete: whether those are all samples that the published number is over.
        problem: why there is no value; "" where there is one.
        missing: whether only a fetch stands between.
        evidence: for the causes.
        changed: what is wrong with the fetched weights.
    """

    row: Row
    value: float | None = None
    samples: int = 0
    complete: bool = False
    problem: str = ""
    missing: bool = False
    evidence: Evidence | None = None

    @property
    def changed(self) -> str:
        """What is wrong with the fetched weights; "" where nothing is."""
        return "" if self.evidence is None else self.evidence.weights_changed


def groups(rows: Sequence[Row]) -> list[Group]:
    """Rows that one sweep can make, in the order of the file."""
    members_of: dict[str, list[Row]] = {}
    for row in rows:
        settings = {**row.dataset_settings, **row.protocol_settings}
        name = "-".join([row.dataset, row.protocol, *(f"{k}={v}" for k, v in settings.items())])
        members_of.setdefault(re.sub(r"[^\w=.+-]+", "_", name), []).append(row)
    return [Group(name, tuple(members)) for name, members in members_of.items()]


def plan(root: Config, group: Group, options: Options) -> tuple[Plan, Any]:
    """The plan of a group, and its configuration.

    Raises:
        UserError: data or weights are not here (the message is the command), or a setting is wrong.
    """
    first = group.rows[0]
    overrides = [
        f"protocol={first.protocol}",
        "measure=none",
        "report=false",
        "tracking.enabled=false",
        *options.overrides,
    ]
    config = root.compose(overrides)
    data = {**first.dataset_settings, **({"limit": options.limit} if options.limit else {})}
    if first.dataset in options.roots:
        data["root"] = options.roots[first.dataset]
    with open_dict(config):
        config.out = str(options.out / group.name)
        config.protocol = overlay(config.protocol, dict(first.protocol_settings), f"protocol {first.protocol!r}")
        config.datasets = {str(data.get("name", first.dataset)): {"dataset": first.dataset, **data}}
        config.ablation = {
            "name": f"reproduce {group.name}", "title": "", "base": None, "isolate": True,
            "variants": {row.label: _variant(row, options) for row in group.rows},
        }  # fmt: skip
    return make_plan(root, config, None), config


def _variant(row: Row, options: Options) -> dict[str, Any]:
    weights = options.weights.get(row.variant, row.weights)
    return {"variant": row.variant, **row.settings, **({} if weights is None else {"weights": weights})}


def run(
    root: Config, group: Group, options: Options, catalogue: Catalogue, lock: LockFile, console: Console
) -> list[Outcome]:
    """Measure the rows of a group whose data and weights are here.

    Raises:
        UserError: a setting of the sweep is wrong.
    """
    outcomes: dict[Row, Outcome] = {}
    for row in group.rows:
        if problem := lacking([row], options, catalogue):
            outcomes[row] = Outcome(row, problem=problem, missing=True)
    here = Group(group.name, tuple(row for row in group.rows if row not in outcomes))
    try:
        if here.rows:
            plan(root, here, options)
    except UserError:  # of which rows?
        for row in here.rows:
            try:
                plan(root, Group(group.name, (row,)), options)
            except UserError as error:
                outcomes[row] = Outcome(row, problem=str(error), missing=True)
        here = Group(group.name, tuple(row for row in group.rows if row not in outcomes))
    if here.rows:
        outcomes |= {o.row: o for o in _measure(root, here, options, catalogue, lock, console)}
    return [outcomes[row] for row in group.rows]


def lacking(rows: Sequence[Row], options: Options, catalogue: Catalogue) -> str:
    """What of the rows is not here, as the command that gets it; "" where all is."""
    entries = {e.key: e for row in rows for e in needed(row, options, catalogue)}
    away = [e for e in entries.values() if places.installed(e.kind, e.name) is None]
    return f"not here: {fetch_command(away)}" if away else ""


def needed(row: Row, options: Options, catalogue: Catalogue) -> list[Entry]:
    """The entries that a row uses, but for what the user gives otherwise."""
    entries = published.entries([row], catalogue)
    return [
        e for e in entries
        if not (row.dataset in options.roots if e.kind == "data" else row.variant in options.weights)
    ]  # fmt: skip


def fetch_command(entries: Sequence[Entry]) -> str:
    """One command for several entries."""
    names = {kind: [e.name for e in entries if e.kind == kind] for kind in places.KINDS}
    return " ".join(["python -m harness.fetch", *(f"{kind}={','.join(of)}" for kind, of in names.items() if of)])


def _measure(
    root: Config, group: Group, options: Options, catalogue: Catalogue, lock: LockFile, console: Console
) -> list[Outcome]:
    from harness.executors.sweeping import Sweep

    sweep_plan, config = plan(root, group, options)
    Sweep(sweep_plan, config, console, "python -m harness.reproduce").run()
    out = Path(config.out)
    summary, failures = pd.read_csv(out / "summary.csv"), pd.read_csv(out / "failures.csv")
    return [_outcome(row, sweep_plan, summary, failures, options, catalogue, lock) for row in group.rows]


def _outcome(
    row: Row,
    sweep_plan: Plan,
    summary: pd.DataFrame,
    failures: pd.DataFrame,
    options: Options,
    catalogue: Catalogue,
    lock: LockFile,
) -> Outcome:
    data, variant = sweep_plan.datasets[0], next(v for v in sweep_plan.variants if v.name == row.label)
    evidence = _evidence(row, sweep_plan, variant.config, options, catalogue, lock)
    of_variant = summary[(summary["variant"] == row.label) & (summary["size_bin"] == "all")]
    line = of_variant[of_variant["metric"] == row.metric]
    failed = failures[failures["variant"] == row.label] if len(failures) else failures
    if line.empty or line["value"].isna().all():
        if not failed.empty:
            return Outcome(row, problem=f"failed: {failed.iloc[0]['error']}", evidence=evidence)
        known = ", ".join(sorted(set(of_variant["metric"]))) or "none"
        return Outcome(row, problem=f"{row.metric} is not among the sweep's metrics ({known})", evidence=evidence)
    samples = int(line.iloc[0]["samples"])
    whole = evidence.published_samples or len(data.dataset)
    problem = "" if samples == whole else f"{samples} of {whole} samples"
    return Outcome(row, row.measured(float(line.iloc[0]["value"])), samples, not problem, problem, evidence=evidence)


def _evidence(
    row: Row, sweep_plan: Plan, config: Mapping[str, Any], options: Options, catalogue: Catalogue, lock: LockFile
) -> Evidence:
    from harness.datasets.checkup import COMPLETE

    data, entry = sweep_plan.datasets[0], catalogue.of("data").get(row.dataset)
    own = entry.published if entry is not None else None
    # A limit or other settings of the data set make other samples; they are not the published ones then.
    samples = row.samples or (
        None if row.dataset_settings.get("limit") else own.samples if own else COMPLETE.get(row.dataset)
    )
    changed, known, text = _weights(row, options, catalogue, lock, config)
    return Evidence(
        config, sweep_plan.protocol.name, tuple(sweep_plan.protocol.deviations(dict(config))), data.digest,
        own.digest if own and not row.dataset_settings else "", len(data.dataset), samples, changed, known, text,
    )  # fmt: skip


def _weights(
    row: Row, options: Options, catalogue: Catalogue, lock: LockFile, config: Mapping[str, Any]
) -> tuple[str, bool, str]:
    """What is wrong with the weights, whether somebody published their digest, and what they are."""
    if row.variant in options.weights:
        return "", False, f"a file of yours, {options.weights[row.variant]}"
    entry = published.weights_entry(row, catalogue)
    if entry is None:
        return "", row.weights is None, f"{config.get('weights')}" if row.weights else "none"
    record = places.installed(entry.kind, entry.name)
    wrong = [f"{f.path} {f.wrong}" for f in verify.verify(entry, lock)]
    sums = {origin.name: origin.sha256 for origin in record.files} if record else {}
    if row.weights_sha256 and row.weights_sha256 not in sums.values():
        wrong.append(f"sha256 {', '.join(sums.values())}, the row was published with {row.weights_sha256}")
    known = bool(row.weights_sha256) or any(file.digest for file in entry.files)
    text = "the published digest fits" if known else "nobody published a digest; as recorded at first use"
    return "; ".join(wrong), known, f"{entry.name}: {text}"
