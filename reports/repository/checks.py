"""What is checked of a run before anything of it comes into a repository. The run is data: nothing of it is built.

Each check returns sentences; one sentence is enough to refuse the run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.planning.identity import KEY, METRICS, PROTOCOL
from harness.planning.stamps import weights_stamp
from harness.results import cells
from harness.results.schema import CellHeader, Origin, click_rows
from harness.scoring import metrics
from reports.read.runs import Run
from reports.repository.entry import TRAINED

LARGEST_CELL = 256 << 20
"""Bytes of one cell's file."""
LARGEST_SIDE = 1 << 20
_TOLERANCE = 1e-9
_EXACT = ("y", "x", "positive", "iou", "biou", "encode_ms", "online_ms", "simulate_ms", "object_share")
_OF_CELL = (*_EXACT, "height", "width", "size_bin", "weights_status", "weights_digest", "parameters", "protocol")


@dataclass(frozen=True)
class RawCell:
    """One cell of a run as its file in `cells/` has it."""

    path: Path
    header: CellHeader
    content: cells.Content

    @property
    def origin(self) -> Origin:
        """What its last episode was made under."""
        return self.content.origins[-1] if self.content.origins else Origin()

    @property
    def finished(self) -> list[str]:
        """Samples with an episode."""
        return [name for name, (episode, _) in self.content.episodes.items() if not episode.error]

    def rows(self) -> pd.DataFrame:
        """Rows of clicks.parquet, made from the file."""
        kept = ((e, o) for e, o in self.content.episodes.values() if not e.error)
        return pd.DataFrame(click_rows(self.header, kept))


def raw_cells(run: Run) -> list[RawCell]:
    """The raw results of a run.

    Raises:
        UserError: there are none, or a file cannot be read as a cell.
    """
    raw = []
    for path in sorted((run.path / "cells").glob("*.jsonl")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_CELL:
            raise UserError(f"{path}: no plain file of at most {LARGEST_CELL >> 20} MiB; repeat the sweep's command.")
        content = cells.read(path.read_bytes())
        if content.unknown or content.header is None:
            raise UserError(f"{path}: {content.unknown or 'its first line is no header of a cell'}.")
        raw.append(RawCell(path, content.header, content))
    if not raw:
        raise UserError(
            f"run={run.path}: no raw results (cells/*.jsonl) there; give the out= folder of a sweep with quality."
        )
    return raw


def problems(run: Run, raw: Sequence[RawCell]) -> list[str]:
    """Everything that is wrong with a run, a sentence each."""
    several: list[str] = []
    for cell in raw:
        mine = [*_lines(cell), *_key(cell), *_whole_set(run, cell), *_weights(cell), *_clicks(cell)]
        several += mine or [*_same_rows(run, cell), *_same_summary(run, cell)]
    listed = {(cell.header.variant, cell.header.dataset) for cell in raw}
    strangers = set(zip(run.clicks["variant"], run.clicks["dataset"], strict=True)) - listed
    several += [f"clicks.parquet has rows of {v} on {d}, cells/ has none" for v, d in sorted(strangers)]
    return several


def _lines(cell: RawCell) -> Iterator[str]:
    for bad in cell.content.bad:
        yield f"cells/{cell.path.name}, line {bad.number}: {bad.reason}"
    if cell.path.stem != cell.header.cell:
        yield f"cells/{cell.path.name}: its header says cell {cell.header.cell}"


def _key(cell: RawCell) -> Iterator[str]:
    """The cell's name is a digest of its settings, weights, data digest and protocol: made anew, it has to be equal."""
    header = cell.header
    if "${" in json.dumps(header.variant_config, default=str):
        return  # the key holds a value that the run rightly does not tell
    try:
        stamp = weights_stamp(header.variant_config)
    except UserError:
        return
    weights = header.variant_config.get("weights")
    if isinstance(weights, str) and "/" in weights and not Path(weights).exists():
        return  # a file that is not here: its digest cannot be made
    identity = {
        "schema": KEY,
        **({"rules": PROTOCOL} if PROTOCOL > 1 else {}),
        **({"metrics": METRICS} if METRICS > 1 else {}),
        "variant": [header.variant, header.variant_config, stamp],
        "dataset": [header.dataset, header.dataset_digest],
        "protocol": header.protocol_record,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    if key != header.cell:
        yield (
            f"cells/{cell.path.name}: wrong digest: variant, weights, data digest ({header.dataset_digest}) and "
            f"protocol give {key}, the file says {header.cell}; one of them was changed, or the packaged weights here "
            "are of another version"
        )


def _whole_set(run: Run, cell: RawCell) -> Iterator[str]:
    header = cell.header
    where = f"{header.variant} on {header.dataset}"
    for setting in ("limit", "shard", "names"):
        value = header.dataset_config.get(setting)
        if value is not None:
            yield f"{where}: a part of the data set (dataset.{setting}={value}); a repository takes whole sets only"
            return
    failed = [name for name, (episode, _) in cell.content.episodes.items() if episode.error]
    if failed:
        yield f"{where}: {len(failed)} samples failed ({', '.join(failed[:3])}{', …' * (len(failed) > 3)})"
    entries = run.config.get("datasets")
    entry = entries.get(header.dataset) if isinstance(entries, Mapping) else None
    if not isinstance(entry, Mapping):
        yield f"{where}: config.yaml does not name this data set"
        return
    if str(entry.get("digest") or "") != header.dataset_digest:
        yield (
            f"{where}: wrong digest: config.yaml has {entry.get('digest')!r} for the data, "
            f"cells/{cell.path.name} has {header.dataset_digest!r}"
        )
    configured = entry.get("samples")
    known = known_samples(header.dataset, str(header.dataset_config.get("_target_", "")))
    count = len(cell.finished)
    for expected, source in ((configured, "config.yaml"), (known, "the data set")):
        if isinstance(expected, int) and count != expected:
            yield f"{where}: cut sample set: {count} samples have episodes, {source} has {expected}"
            return
    if not isinstance(configured, int):
        yield f"{where}: config.yaml does not say how many samples the data set has; repeat the sweep's command"


@functools.cache
def _known() -> Mapping[str, Any]:
    """Sizes of data sets that everybody has, and digests of the weights that this version packages."""
    return json.loads((resources.files("reports.repository") / "known.json").read_text(encoding="utf-8"))


def known_samples(dataset: str, target: str) -> int | None:
    """Number of samples of a data set that everybody has, under its name."""
    return _known()["samples"].get(dataset) if target.startswith("harness.datasets.") else None


def _weights(cell: RawCell) -> Iterator[str]:
    """No row of random weights may stand as one of trained weights."""
    where = f"{cell.header.variant} on {cell.header.dataset}"
    config = cell.header.variant_config
    for origin in cell.content.origins:
        if origin.weights_status not in TRAINED:
            continue
        if "weights" in config and config["weights"] in (None, "", "none"):
            yield (
                f"{where}: untrained rows as trained: they say {origin.weights_status!r}, "
                "but the variant's settings name no weights"
            )
        elif _packaged(config) and origin.weights_digest not in _known()["packaged_weights"]:
            yield (
                f"{where}: wrong digest: rows say {origin.weights_status!r} with weights {origin.weights_digest!r}; "
                "no weights of this version's package have it"
            )
        elif not origin.weights_digest:
            yield f"{where}: rows say {origin.weights_status!r} without a digest of the weights"
    seen = {(o.weights_status, o.weights_digest) for o in cell.content.origins}
    if len(seen) > 1:
        yield f"{where}: rows of several weights in one cell: {', '.join(f'{s} {d}' for s, d in sorted(seen))}"


def _packaged(config: Mapping[str, Any]) -> bool:
    """Whether a variant runs on the weights of this project's package."""
    ours = str(config.get("_target_", "")).startswith(("inter2former.", "baselines."))
    return ours and config.get("weights") == "default"


def _clicks(cell: RawCell) -> Iterator[str]:
    """Clicks as the rules allow them, so that anybody who has the data can give them again."""
    header, rules = cell.header, cell.header.protocol_record
    limit, stop = int(rules.get("clicks") or 0), rules.get("stop_iou")
    again = bool(rules.get("rerun_without_click"))
    if any(episode.groups for episode, _ in cell.content.episodes.values()):
        yield (
            f"{header.variant} on {header.dataset}: protocol {header.protocol} has several episodes a sample "
            "(groups.parquet); a repository keeps one, run it under a protocol with one"
        )
        return
    for episode, _ in cell.content.episodes.values():
        where = f"{header.variant} on {header.dataset}, sample {episode.sample}"
        if not episode.error and not episode.clicks:
            yield f"{where}: no click"
        if limit and len(episode.clicks) > limit:
            yield f"{where}: {len(episode.clicks)} clicks, the protocol allows {limit}"
        if not (0 < episode.height <= LARGEST_SIDE and 0 < episode.width <= LARGEST_SIDE) and not episode.error:
            yield f"{where}: an image of {episode.height} x {episode.width} pixels"
        for row in episode.clicks:
            inside = 0 <= row.y < episode.height and 0 <= row.x < episode.width
            if not inside and not (again and row.y == row.x == -1):
                yield f"{where}: click {row.click} at ({row.y}, {row.x}) lies outside of the image"
                break
            if stop is not None and row.iou >= stop and row.click < len(episode.clicks):
                yield f"{where}: clicks go on after IoU {row.iou:.3f}, the protocol stops at {stop:g}"
                break


def _same_rows(run: Run, cell: RawCell) -> Iterator[str]:
    """clicks.parquet against the raw episodes, value by value."""
    header = cell.header
    where = f"clicks.parquet, {header.variant} on {header.dataset}"
    mine = run.clicks[(run.clicks["variant"] == header.variant) & (run.clicks["dataset"] == header.dataset)]
    raw = cell.rows()
    keys = ["sample", "click"]
    if mine.duplicated(keys).any():
        yield f"{where}: a click stands there twice"
        return
    one, two = mine.set_index(keys), raw.set_index(keys)
    if set(one.index) != set(two.index):
        alone = sorted(set(one.index) ^ set(two.index))[0]
        yield f"{where}: {len(one)} rows, cells/{cell.path.name} gives {len(two)} (sample {alone[0]}, click {alone[1]})"
        return
    one = one.loc[two.index]
    for name in (n for n in _OF_CELL if n in one and n in two):
        different = ~((one[name] == two[name]) | (one[name].isna() & two[name].isna()))
        if different.any():
            sample, click = two.index[int(different.to_numpy().argmax())]
            there, here = one.loc[(sample, click), name], two.loc[(sample, click), name]
            yield (
                f"{where}, sample {sample}, click {click}: {name} is {there} there and {here} in "
                f"cells/{cell.path.name}; one of them was changed"
            )
            return


def _same_summary(run: Run, cell: RawCell) -> Iterator[str]:
    """summary.csv against what the rows give."""
    header = cell.header
    stored = run.summary[(run.summary["variant"] == header.variant) & (run.summary["dataset"] == header.dataset)]
    keys = ["size_bin", "metric"]
    computed = metrics.summarise(cell.rows(), header.protocol_record).set_index(keys)
    if stored.duplicated(keys).any() or set(stored.set_index(keys).index) != set(computed.index):
        yield f"summary.csv: {header.variant} on {header.dataset} has other metrics than its rows give"
        return
    stored = stored.set_index(keys).loc[computed.index]
    for column in ("value", "low", "high", "samples"):
        for (size, metric), there, here in zip(computed.index, stored[column], computed[column], strict=True):
            if not _equal(float(there), float(here)):
                yield (
                    f"summary.csv: {header.variant} on {header.dataset}, {metric} ({size}): {column} is {there:.6g} "
                    f"there, the rows give {here:.6g}"
                )
                return


def _equal(one: float, two: float) -> bool:
    if math.isnan(one) or math.isnan(two):
        return math.isnan(one) and math.isnan(two)
    return math.isclose(one, two, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def for_reviewers(run: Run, raw: Sequence[RawCell]) -> list[str]:
    """What no program can check: sentences for who reviews the submission."""
    lines: dict[str, None] = {}
    for cell in raw:
        header, origin = cell.header, cell.origin
        if origin.weights_status in TRAINED:
            sentence = f"rows say {origin.weights_status!r}; weights digest {origin.weights_digest}"
            lines[f"{header.variant}: {sentence}: is it the file that the card names?"] = None
        if any(o.dirty for o in cell.content.origins):
            lines[f"{header.variant} on {header.dataset}: made with code that was not committed"] = None
        if known_samples(header.dataset, str(header.dataset_config.get("_target_", ""))) is None:
            lines[f"{header.dataset}: {len(cell.finished)} samples, a data set that is not known by name here"] = None
        if len(cell.content.origins) > 1:
            lines[f"{header.variant} on {header.dataset}: made in {len(cell.content.origins)} runs of the command"] = (
                None
            )
        lines.update(dict.fromkeys(f"{header.variant}: {text}" for text in header.deviations))
    contended = run.latency[run.latency["contended"].astype(str).str.strip() != ""]
    if len(contended):
        lines[f"{len(contended)} of {len(run.latency)} times were taken while other work ran"] = None
    if any(origin.load_average > 1 for cell in raw for origin in cell.content.origins):
        lines["other work ran while the clicks were made: fine for quality, the rows' own times say little"] = None
    return [*lines]
