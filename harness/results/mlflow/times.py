"""When the measured work of a sweep began and ended, read from what is on disk.

A delivery takes seconds and may come days later, so its own times say nothing. Begin: the time that the rows carry
(`Origin.at`). End: the begin of the last run of the sweep, and the milliseconds of the work that was done in it. The
same rows so give the same times on every machine and at every delivery.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from harness.clicking.records import BadRecord
from harness.results.damaged import parse
from harness.results.parquet import read_parquet

_TIMES = ("encode_ms", "online_ms", "simulate_ms")


@dataclass(frozen=True)
class Span:
    """Begin and end of some work, in milliseconds since 1970 (UTC)."""

    start_ms: int
    end_ms: int


def of_rows(path: Path) -> dict[int, float]:
    """Begin of each run of the sweep that wrote into a cell's file (ms since 1970) -> ms of the work in it.

    The work is the encodings, the answers to clicks, and the annotator. Lines that are no record, and episodes without
    a begin (rows of early versions), are left out.
    """
    work: dict[int, float] = defaultdict(float)
    begin: int | None = None
    for line in path.read_bytes().split(b"\n"):
        try:
            value = parse(line)
        except BadRecord:
            continue
        if not isinstance(value, Mapping):
            continue
        if "origin" in value:
            begin = _milliseconds(value["origin"])
        elif begin is not None and "sample" in value:
            work[begin] += _spent(value)
    return dict(work)


def of_stages(out: Path) -> dict[int, float]:
    """The same of the measuring stages: their begin is in measured.json, every timing in latency_samples.parquet."""
    try:
        stages = json.loads((out / "measured.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(stages, Mapping):
        return {}
    begins = {name: begin for name, stage in stages.items() if (begin := _milliseconds(stage)) is not None}
    work = dict.fromkeys(begins.values(), 0.0)
    samples = out / "latency_samples.parquet"
    if "latency" in begins and samples.exists():
        with contextlib.suppress(OSError, ValueError):  # a table that cannot be read adds no time
            frame = read_parquet(samples, columns=["ms", "simulate_ms"])
            work[begins["latency"]] += float(frame.apply(pd.to_numeric, errors="coerce").sum().sum())
    return work


def span(works: Iterable[Mapping[int, float]], files: Iterable[Path] = ()) -> Span | None:
    """From the first begin to the last end of some works.

    Work of one begin counts as done one after the other. Jobs side by side, and variants that share an encoding, are
    done sooner: `files`, to which each result was appended at once, were last written when all was over.

    Returns:
        None where no begin is known.
    """
    total: dict[int, float] = defaultdict(float)
    for work in works:
        for begin, spent in work.items():
            total[begin] += spent
    if not total:
        return None
    start, end = min(total), max(begin + round(spent) for begin, spent in total.items())
    written = max((round(file.stat().st_mtime * 1000) for file in files), default=0)
    return Span(start, written if max(total) <= written < end else end)


def _milliseconds(record: Any) -> int | None:
    """The `at` of a record; a time without a zone is UTC."""
    text = record.get("at") if isinstance(record, Mapping) else None
    try:
        at = datetime.fromisoformat(str(text))
        at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
        since = round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return since if since > 0 else None


def _spent(episode: Mapping[str, Any]) -> float:
    groups = [g for g in _list(episode.get("groups")) if isinstance(g, Mapping)]
    clicks = [c for one in (episode, *groups) for c in _list(one.get("clicks"))]
    records = [episode, *(c for c in clicks if isinstance(c, Mapping))]
    return sum(_positive(record.get(name)) for record in records for name in _TIMES)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _positive(value: Any) -> float:
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
    return number if 0 < number < 1e12 else 0.0
