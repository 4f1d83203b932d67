"""Entries of a repository as runs, so that tables, comparisons and decisions of the reports read them too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from harness.planning.identity import METRICS, PROTOCOL
from harness.scoring import metrics
from reports.read.runs import Run
from reports.read.schema import COMPARE, FAILURES, FLOPS, LATENCY, PARTS, SCALING, SUMMARY, TIMINGS
from reports.repository.store import Stored


def newest(stored: Iterable[Stored]) -> list[Stored]:
    """The last entry of each system, data set (and its digest), protocol and kind of machine."""
    last: dict[tuple[str, ...], Stored] = {}
    for one in sorted(stored, key=lambda s: (s.entry.at, s.entry.id)):
        e = one.entry
        last[e.system, e.data.name, e.data.digest, e.protocol, e.machine.kind] = one
    return [*last.values()]


def current(stored: Iterable[Stored]) -> list[Stored]:
    """Entries under today's rules; those of older versions of protocol or metrics share no column with them."""
    return [s for s in stored if (s.entry.protocol_version, s.entry.metrics_version) == (PROTOCOL, METRICS)]


def as_run(stored: Sequence[Stored], name: str = "") -> Run:
    """Entries of one protocol, each system once on each data set, as one run; the systems are its variants."""
    first = stored[0].entry
    configs = {s.entry.system: s.entry.settings for s in stored}
    datasets: dict[str, Any] = {
        s.entry.data.name: {
            "digest": s.entry.data.digest,
            "samples": s.entry.data.samples,
            "note": s.entry.data.note,
            "config": s.entry.data.settings,
        }
        for s in stored
    }
    return Run(
        path=Path(stored[0].folder),
        name=name or first.protocol,
        clicks=pd.concat([s.clicks for s in stored], ignore_index=True),
        summary=pd.concat([_summary(s) for s in stored], ignore_index=True),
        compare=pd.DataFrame(columns=list(COMPARE)),
        latency=_tables(stored, "latency.csv", LATENCY),
        flops=_tables(stored, "flops.csv", FLOPS),
        parts=pd.DataFrame(columns=list(PARTS)),
        timings=pd.DataFrame(columns=list(TIMINGS)),
        scaling=pd.DataFrame(columns=list(SCALING)),
        failures=pd.DataFrame(columns=list(FAILURES)),
        machine={**asdict(first.machine), "cpus": first.machine.cores_usable, "node": "", "commit": first.code.commit},
        config={
            "variants": configs,
            "datasets": datasets,
            "protocol": first.protocol_record,
            "primary": first.primary,
            "ablation": {"name": name or first.protocol},
        },
        source=f"results={first.path}",
    )


def _summary(one: Stored) -> pd.DataFrame:
    e = one.entry
    versions = {"protocol_version": e.protocol_version, "metrics_version": e.metrics_version}
    frame = one.summary.reset_index().assign(variant=e.system, dataset=e.data.name, protocol=e.protocol, **versions)
    frame["statistics_version"] = e.statistics_version
    return frame.assign(**{c: SUMMARY[c] for c in SUMMARY if c not in frame})


def _tables(stored: Sequence[Stored], name: str, columns: dict[str, Any]) -> pd.DataFrame:
    """A table of every system once: of its last entry that has it."""
    frames: dict[str, pd.DataFrame] = {}
    for one in stored:
        frame = one.table(name)
        if len(frame):
            whole = frame.assign(variant=one.entry.system)
            frames[one.entry.system] = whole.assign(**{c: columns[c] for c in columns if c not in whole})
    return pd.concat(frames.values(), ignore_index=True) if frames else pd.DataFrame(columns=list(columns))


def per_sample(one: Stored) -> pd.DataFrame:
    """Every metric of every sample of an entry."""
    return metrics.per_sample(one.clicks, one.entry.protocol_record)
