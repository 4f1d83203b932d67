"""The measuring pass of a sweep: FLOPs, latency and the machine, kept on disk, not repeated if nothing changed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from harness.clicking.records import BadRecord
from harness.console import Console, markup
from harness.datasets.loader import load
from harness.errors import SampleError, UserError
from harness.flops import measure as flops
from harness.latency import measure as latency
from harness.latency import pinning
from harness.latency.options import Options
from harness.machine import describe, roofline
from harness.machine.features import running_precision
from harness.planning import code
from harness.planning.identity import MEASURED, TIMING
from harness.planning.plan import Plan, targets, weights_stamp
from harness.results.csv_tables import read_csv
from harness.results.damaged import keep_file, read_json
from harness.results.machines import Machines
from harness.results.store import Store
from harness.results.tables import Tables
from harness.sample import Sample

_STAMPS = "measured.json"


def measure(
    plan: Plan, settings: Mapping[str, Any], store: Store, tables: Tables, machines: Machines, console: Console
) -> None:
    """Fill `tables.flops`, `tables.latency` and `tables.machine` as the `measure` configuration asks.

    What an earlier run of the same plan and settings left on disk without an error is read back instead.
    """
    variants = {v.name: v.shown for v in plan.variants}
    wanted = [name for name in ("flops", "latency") if settings.get(name)]
    if not wanted:
        return
    quick = settings.get("machine", "none") == "quick"
    if settings.get("machine", "none") != "none" and not machines.known_peaks(quick):
        _tell(console, "machine: measuring matmul peak and copy bandwidth")
        machines.measure_peaks(quick)
    tables.machine = machines.current
    machines.write()
    precisions = {v.name: str(v.config.get("precision", "fp32")) for v in plan.variants}
    samples = workload_samples(plan, int(settings.get("samples", 4)))
    steps: dict[str, Callable[[], pd.DataFrame]] = {
        "flops": lambda: flops.measure(
            variants, samples, settings, progress=lambda text: _tell(console, text), protocol=plan.protocol
        ),
        "latency": lambda: latency.measure(
            variants,
            samples,
            settings,
            base=plan.base,
            out=store.out,
            progress=lambda text: _tell(console, text),
            roof=lambda frame: roofline.add(frame, tables.flops, (tables.machine or {}).get("peaks"), precisions),
            protocol=plan.protocol,
        ),
    }
    if "latency" in wanted:
        for text in pinning.remarks():
            _tell(console, f"note: {text}")
    labels = {"machine": machines.id, "precision": {v: running_precision(p) for v, p in precisions.items()}}
    for name in wanted:
        frame = _kept_or_new(name, _stamp(name, plan, settings, samples), steps[name], store, tables, labels)
        if frame is not None:
            setattr(tables, name, frame)
            broken = frame[~frame["error"].fillna("").str.contains("^$|do not apply")]
            for row in broken.drop_duplicates(["variant", "error"]).to_dict("records"):
                tables.fail(name, row["variant"], row["error"])


def workload_samples(plan: Plan, count: int) -> list[Sample]:
    """Samples that FLOPs and latency replay: spread over the first data set, bad ones left out."""
    data = plan.datasets[0].dataset
    names = list(data.names)
    step = max(1, len(names) // max(1, 4 * count))
    samples = []
    for name in names[::step]:
        sample = load(data, name)
        if isinstance(sample, SampleError):
            continue
        samples.append(sample)
        if len(samples) >= 4 * count:
            break
    return samples


def _kept_or_new(
    name: str,
    stamp: dict[str, Any],
    make: Callable[[], pd.DataFrame],
    store: Store,
    tables: Tables,
    labels: Mapping[str, Any],
) -> pd.DataFrame | None:
    """The frame of an earlier run where every part of its stamp is the same; else a new one, and a line that says why.

    `make` may not take the clicks with it when it breaks: that becomes a failure.
    """
    path = store.out / f"{name}.csv"
    stamps = read_json(store.out / _STAMPS, _check_stamps, store.tell)
    kept = _kept(path, stamps.get(name), stamp, store)
    if kept is not None:
        return kept
    began = {"machine": labels["machine"], "at": now(), "load_average": describe.load_average()}
    try:
        frame = make()
    except UserError:
        raise
    except Exception as error:
        tables.fail(name, "all", f"{type(error).__name__}: {' '.join(str(error).split())}")
        return None
    if "error" not in frame:
        frame["error"] = ""
    frame["machine"] = labels["machine"]
    frame["precision"] = frame["variant"].map(labels["precision"])
    store.write_table(f"{name}.csv", frame)
    complete = bool(frame["error"].fillna("").str.contains("^$|do not apply").all())
    entry = {"stamp": stamp, "complete": complete, "file": _content(path), **began}
    store.write_json(_STAMPS, {**_current(stamps), name: entry, "schema": MEASURED})
    return frame


def _kept(path: Path, entry: Any, stamp: Mapping[str, Any], store: Store) -> pd.DataFrame | None:
    """What an earlier run measured, if it is whole and was measured as it would be now."""
    if entry is None or not path.exists():
        return None
    if isinstance(entry, str):
        store.tell(f"{path.name} is measured again: it was kept without its code, torch version and threads.")
        return None
    if not entry["complete"]:
        return None
    if entry["file"] != _content(path):
        keep_file(path, "not as it was written (see measured.json)", store.tell)
        return None
    other = sorted(key for key in {*stamp, *entry["stamp"]} if stamp.get(key) != entry["stamp"].get(key))
    if other:
        store.tell(
            f"{path.name} is measured again, since {' and '.join(_STAMP_WORDS.get(k, k) for k in other)} changed."
        )
        return None
    return read_csv(path)


_STAMP_WORDS = {
    "measure": "the measure settings",
    "threads": "the number of threads",
    "cpus": "the usable CPUs",
    "torch": "the torch version",
    "code": "the code",
    "node": "the machine",
    "base": "the base variant",
    "variants": "the variants or their weights",
    "dataset": "the data set",
    "samples": "the samples",
    "protocol": "the protocol",
    "timing_version": "what a row of times means",
}


def _stamp(name: str, plan: Plan, settings: Mapping[str, Any], samples: list[Sample]) -> dict[str, Any]:
    """Everything that a stage's numbers depend on, by name; threads and CPUs only where time is measured."""
    modules = sorted(set().union(*(targets(v.config) for v in plan.variants)))
    stamp: dict[str, Any] = {
        "variants": digest({v.name: [v.config, weights_stamp(v.config)] for v in plan.variants}),
        "base": plan.base,
        "measure": digest(dict(settings)),
        "samples": digest([s.name for s in samples]),
        "protocol": digest(plan.protocol.record()),
        "dataset": plan.datasets[0].digest,
        "node": platform.node(),
        "torch": torch_version(),
        "code": code.of_modules(*modules, *_STAGE_MODULES[name]),
    }
    if name == "latency":
        stamp |= {
            "timing_version": TIMING,
            "threads": Options.of(settings).thread_counts(),
            "cpus": pinning.available_cpus(),
        }
    return stamp


_STAGE_MODULES = {
    "flops": ("harness.flops.measure",),
    "latency": ("harness.latency.measure", "harness.latency.child", "harness.latency.replay"),
}


def _check_stamps(value: Mapping[str, Any]) -> None:
    schema = value.get("schema", 1)
    if schema not in (1, MEASURED):
        raise BadRecord(f"record format {schema!r} is not known here (1 and {MEASURED} are)")
    for name, entry in value.items():
        if name == "schema" or (schema == 1 and isinstance(entry, str)):
            continue
        wanted = {"stamp": dict, "complete": bool, "file": str, "machine": str}
        if not isinstance(entry, Mapping) or any(not isinstance(entry.get(k), kind) for k, kind in wanted.items()):
            raise BadRecord(f"{name!r} is no stamp of a measurement")


def _current(stamps: Mapping[str, Any]) -> dict[str, Any]:
    """Without the stamps of the old form, which nothing can be compared with."""
    return {name: entry for name, entry in stamps.items() if isinstance(entry, Mapping)}


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def digest(value: Any) -> str:
    """Short digest of a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def torch_version() -> str:
    """Version of the torch that runs."""
    import torch

    return str(torch.__version__)


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _tell(console: Console, text: str) -> None:
    console.print(markup(text), highlight=False)
