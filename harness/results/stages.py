"""The measuring pass of a sweep: FLOPs, latency and the machine, kept on disk, not repeated if nothing changed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from harness.console import Console, markup
from harness.datasets.loader import load
from harness.errors import SampleError, UserError
from harness.flops import measure as flops
from harness.latency import measure as latency
from harness.latency import pinning
from harness.machine import describe, roofline
from harness.machine.features import running_precision
from harness.planning import code
from harness.planning.identity import TIMING
from harness.planning.plan import Plan, targets
from harness.planning.stamps import weights_stamp
from harness.results.csv_tables import read_csv
from harness.results.damaged import keep_file
from harness.results.machines import Machines
from harness.results.measured import Measured, Measurement, Stamp, content_digest
from harness.results.measuring import Measure
from harness.results.store import Store
from harness.results.tables import Tables
from harness.sample import Sample


@dataclass(frozen=True)
class Stage:
    """One measurement of a sweep.

    Attributes:
        name: flops or latency; its table is NAME.csv.
        stamp: what its numbers depend on.
        make: measures; the rows of the table.
        machine: id of the entry of machine.json that the rows name.
        precisions: variant -> precision that it ran in.
    """

    name: str
    stamp: Stamp
    make: Callable[[], pd.DataFrame]
    machine: str
    precisions: Mapping[str, str]


def measure(plan: Plan, settings: Measure, store: Store, tables: Tables, machines: Machines, console: Console) -> None:
    """Fill `tables.flops`, `tables.latency` and `tables.machine` as the `measure` configuration asks.

    What an earlier run of the same plan and settings left on disk without an error is read back instead.
    """
    if not settings.stages:
        return
    if settings.machine != "none" and not machines.known_peaks(settings.machine == "quick"):
        _tell(console, "machine: measuring matmul peak and copy bandwidth")
        machines.measure_peaks(settings.machine == "quick")
    tables.machine = machines.current
    machines.write()
    samples = workload_samples(plan, settings.options.samples)
    if settings.latency:
        for text in pinning.remarks():
            _tell(console, f"note: {text}")
    precisions = {v.name: str(v.config.get("precision", "fp32")) for v in plan.variants}
    steps = _steps(plan, settings, samples, precisions, store, tables, console)
    running = {variant: running_precision(precision) for variant, precision in precisions.items()}
    for name in settings.stages:
        stage = Stage(name, _stamp(name, plan, settings, samples), steps[name], machines.id, running)
        frame = _kept_or_new(stage, store, tables)
        if frame is not None:
            setattr(tables, name, frame)
            broken = frame[~frame["error"].fillna("").str.contains("^$|do not apply")]
            for row in broken.drop_duplicates(["variant", "error"]).to_dict("records"):
                tables.fail(name, row["variant"], row["error"])


def _steps(
    plan: Plan,
    settings: Measure,
    samples: list[Sample],
    precisions: Mapping[str, str],
    store: Store,
    tables: Tables,
    console: Console,
) -> dict[str, Callable[[], pd.DataFrame]]:
    """How each stage measures; `tables.flops` is looked at when latency is measured."""
    variants = {v.name: v.shown for v in plan.variants}

    def tell(text: str) -> None:
        _tell(console, text)

    return {
        "flops": lambda: flops.measure(
            variants, samples, asdict(settings.options), progress=tell, protocol=plan.protocol
        ),
        "latency": lambda: latency.measure(
            variants,
            samples,
            settings.options,
            base=plan.base,
            out=store.out,
            progress=tell,
            roof=lambda frame: roofline.add(frame, tables.flops, (tables.machine or {}).get("peaks"), dict(precisions)),
            protocol=plan.protocol,
        ),
    }


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


def _kept_or_new(stage: Stage, store: Store, tables: Tables) -> pd.DataFrame | None:
    """The frame of an earlier run where every part of its stamp is the same; else a new one, and a line that says why.

    A measurement may not take the clicks with it when it breaks: that becomes a failure.
    """
    path = store.out / f"{stage.name}.csv"
    measured = Measured(store)
    kept = _kept(path, stage, measured, store)
    if kept is not None:
        return kept
    store.added = True
    at, load_average = now(), describe.load_average()
    try:
        frame = stage.make()
    except UserError:
        raise
    except Exception as error:
        tables.fail(stage.name, "all", f"{type(error).__name__}: {' '.join(str(error).split())}")
        return None
    if "error" not in frame:
        frame["error"] = ""
    frame["machine"] = stage.machine
    frame["precision"] = frame["variant"].map(dict(stage.precisions))
    store.write_table(path.name, frame)
    complete = bool(frame["error"].fillna("").str.contains("^$|do not apply").all())
    measured.keep(
        stage.name,
        Measurement(stage.stamp, complete, content_digest(path), stage.machine, at=at, load_average=load_average),
    )
    return frame


def _kept(path: Path, stage: Stage, measured: Measured, store: Store) -> pd.DataFrame | None:
    """What an earlier run measured, if it is whole and was measured as it would be now."""
    if not path.exists():
        return None
    if stage.name in measured.old:
        store.tell(f"{path.name} is measured again: it was kept without its code, torch version and threads.")
        return None
    before = measured.stages.get(stage.name)
    if before is None or not before.complete:
        return None
    if before.file != content_digest(path):
        keep_file(path, "not as it was written (see measured.json)", store.tell)
        return None
    changes = stage.stamp.changes(before.stamp)
    if changes:
        store.tell(f"{path.name} is measured again, since {' and '.join(changes)} changed.")
        return None
    return read_csv(path)


_READS = {"flops": ("resolutions", "samples", "later_clicks", "workload")}
"""Settings that a stage reads; latency reads all of `Options`."""
_STAGE_MODULES = {
    "flops": ("harness.flops.measure",),
    "latency": ("harness.latency.measure", "harness.latency.child", "harness.latency.replay"),
}


def _stamp(name: str, plan: Plan, settings: Measure, samples: list[Sample]) -> Stamp:
    """Everything that a stage's numbers depend on; threads and CPUs only where time is measured."""
    modules = sorted(set().union(*(targets(v.config) for v in plan.variants)))
    options = asdict(settings.options)
    timed = name == "latency"
    return Stamp(
        variants=variants_digest(plan),
        base=plan.base,
        measure=digest({key: options[key] for key in _READS.get(name, options)}),
        samples=digest([s.name for s in samples]),
        protocol=digest(plan.protocol.record()),
        dataset=plan.datasets[0].digest,
        node=platform.node(),
        torch=torch_version(),
        code=code.of_modules(*modules, *_STAGE_MODULES[name]),
        timing_version=TIMING if timed else None,
        threads=tuple(settings.options.thread_counts()) if timed else None,
        cpus=tuple(pinning.available_cpus()) if timed else None,
    )


def variants_digest(plan: Plan) -> str:
    """Digest of a plan's variants with their weights, as stamps have it."""
    return digest({v.name: [v.config, weights_stamp(v.config)] for v in plan.variants})


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
