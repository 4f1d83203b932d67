"""The measuring pass of a sweep: FLOPs, latency and the machine, kept on disk, not repeated if nothing changed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from harness.datasets.loader import load
from harness.errors import SampleError, UserError
from harness.flops import measure as flops
from harness.latency import measure as latency
from harness.latency import pinning
from harness.machine import describe, roofline
from harness.machine.features import running_precision
from harness.planning.plan import Plan, weights_stamp
from harness.results.csv_tables import read_csv
from harness.results.store import Store
from harness.results.tables import Tables
from harness.sample import Sample

_STAMPS = "measured.json"


def measure(plan: Plan, settings: Mapping[str, Any], store: Store, tables: Tables, console: Console) -> None:
    """Fill `tables.flops`, `tables.latency` and `tables.machine` as the `measure` configuration asks.

    What an earlier run of the same plan and settings left on disk without an error is read back instead.
    """
    variants = {v.name: v.config for v in plan.variants}
    wanted = [name for name in ("flops", "latency") if settings.get(name)]
    if settings.get("machine", "none") != "none" and wanted:
        tables.machine = _machine(store.out / "machine.json", quick=settings["machine"] == "quick", console=console)
    if not wanted:
        return
    precisions = {name: str(config.get("precision", "fp32")) for name, config in variants.items()}
    samples = workload_samples(plan, int(settings.get("samples", 4)))
    steps: dict[str, Callable[[], pd.DataFrame]] = {
        "flops": lambda: flops.measure(variants, samples, settings, progress=lambda text: _tell(console, text)),
        "latency": lambda: latency.measure(
            variants,
            samples,
            settings,
            base=plan.base,
            out=store.out,
            progress=lambda text: _tell(console, text),
            roof=lambda frame: roofline.add(frame, tables.flops, (tables.machine or {}).get("peaks"), precisions),
        ),
    }
    if "latency" in wanted:
        for text in pinning.remarks():
            _tell(console, f"note: {text}")
    running = {name: running_precision(precision) for name, precision in precisions.items()}
    for name in wanted:
        frame = _kept_or_new(name, _stamp(name, plan, settings, samples), steps[name], store, tables)
        if frame is not None:
            frame["precision"] = frame["variant"].map(running)
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
    name: str, stamp: str, make: Callable[[], pd.DataFrame], store: Store, tables: Tables
) -> pd.DataFrame | None:
    path, stamps = store.out / f"{name}.csv", _read(store.out / _STAMPS)
    if path.exists() and stamps.get(name) == stamp:
        return read_csv(path)
    try:
        frame = make()
    except UserError:
        raise
    except Exception as error:  # a measurement that breaks must not take the clicks with it
        tables.fail(name, "all", f"{type(error).__name__}: {' '.join(str(error).split())}")
        return None
    if "error" not in frame:
        frame["error"] = ""
    store.write_table(f"{name}.csv", frame)
    complete = frame["error"].fillna("").str.contains("^$|do not apply").all()
    store.write_json(_STAMPS, {**stamps, name: stamp if complete else "incomplete"})
    return frame


def _machine(path: Path, quick: bool, console: Console) -> dict[str, Any]:
    """machine.json; its peaks are measured once per folder and machine, the rest is looked up each time."""
    known = _read(path)
    if known and known.get("node") == platform.node() and known.get("quick") in (False, quick):
        return known
    _tell(console, "machine: measuring matmul peak and copy bandwidth")
    return {**describe.describe(quick=quick), "quick": quick, "node": platform.node()}


def _stamp(name: str, plan: Plan, settings: Mapping[str, Any], samples: list[Sample]) -> str:
    identity = {
        "what": name,
        "variants": {v.name: [v.config, weights_stamp(v.config)] for v in plan.variants},
        "base": plan.base,
        "measure": dict(settings),
        "samples": [s.name for s in samples],
        "dataset": plan.datasets[0].digest,
        "machine": platform.node(),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _tell(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)
