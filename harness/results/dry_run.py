"""`dry_run=true`: what a sweep would do, and for about how long, without building a model; `dry_run=probe` measures it.

The times come from the speeds that earlier runs left on this machine (`harness.results.speeds`).
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from harness.console import Console, markup
from harness.errors import UserError
from harness.latency.options import Options
from harness.planning.config import plain
from harness.planning.plan import Cell, Plan
from harness.results.measuring import Measure
from harness.results.speeds import Speed, Speeds, variant_key
from harness.text import duration

CHOICES = ("true", "false", "probe")
BYTES_A_CLICK = 250
"""Of cells/*.jsonl and clicks.parquet together, from the demo (155 + 70); timings and the report come on top."""


def asked(config: DictConfig) -> str:
    """`dry_run` as one of CHOICES.

    Raises:
        UserError: anything else.
    """
    value = str(config.dry_run).lower()
    if value not in CHOICES:
        raise UserError(f"dry_run={config.dry_run}: allowed are {', '.join(CHOICES)}.")
    return value


def show(plan: Plan, config: DictConfig, console: Console) -> None:
    """Print the cells with their counts, and the estimates that stored speeds allow; with `probe` after measuring."""
    measure = Measure.of(plain(config.measure))
    speeds = Speeds(config.threads)
    if asked(config) == "probe":
        speeds.add(probe(plan))
    most = plan.protocol.clicks
    table = Table(title=markup(f"{plan.name}: {plan.title}".rstrip(": ")), title_justify="left")
    for column in ("cell", "variant", "data set", "samples", "weights", "clicks, at most", "time, about"):
        table.add_column(column, justify="right" if column[0] in "sct" and column != "cell" else "left")
    times: list[float | None] = []
    for cell in plan.cells:
        samples = len(cell.data.dataset)
        speed, source = speeds.of(cell)
        seconds = None if speed is None else speed.seconds(most)
        if speed is not None and seconds is not None:  # all episodes of a sample share one encoding
            encode = (speed.encode_ms or 0.0) / 1e3
            seconds = encode + plan.protocol.episodes * (seconds - encode)
        times.append(None if seconds is None else seconds * samples)
        table.add_row(
            cell.key[:8],
            markup(cell.variant.name),
            markup(f"{cell.data.name} ({cell.data.note})" if cell.data.note else cell.data.name),
            str(samples),
            markup(speed.weights if speed else ""),
            str(samples * most * plan.protocol.episodes),
            "unknown" if times[-1] is None else f"{duration(times[-1])} {source}".rstrip(),
        )
    console.print(table)
    for line in _summary(plan, config, measure, times):
        console.print(markup(line), highlight=False)


def _summary(plan: Plan, config: DictConfig, measure: Measure, times: list[float | None]) -> list[str]:
    parts = []
    known = [seconds for seconds in times if seconds is not None]
    if measure.quality:
        missing = f" and {len(times) - len(known)} cells of unknown time" if 0 < len(known) < len(times) else ""
        parts.append(f"clicks about {duration(sum(known))}{missing}" if known else "clicks: time unknown")
    if measure.latency:
        parts.append(_latency(measure.options))
    if measure.flops:
        parts.append("FLOPs on top")
    lines = [f"protocol {plan.protocol.label}, out={config.out}; {'; '.join(parts)}."]
    if measure.quality:
        rows = sum(len(cell.data.dataset) for cell in plan.cells) * plan.protocol.clicks * plan.protocol.episodes
        lines.append(
            f"Disk: at most {rows} rows of clicks, about {_size(rows * BYTES_A_CLICK)}, and the report; "
            f"{_size(_free(Path(str(config.out))))} are free there."
        )
    if len(known) < len(times):
        lines.append("Time unknown: this machine has not run these variants yet; dry_run=probe measures it.")
    lines.append(
        "Nothing was run or written." if asked(config) == "true" else "Only the speeds were measured and kept."
    )
    return lines


def _latency(settings: Options) -> str:
    if settings.auto:
        return f"latency until each ratio is known, at most {duration(settings.auto_limit_s)}"
    budget = float(settings.budget_s)
    return f"latency about {duration(budget)}, at most {duration(1.5 * budget)}, and its start"


def probe(plan: Plan) -> dict[tuple[str, str], Speed]:
    """Speeds from one short episode per cell, on the first sample of its data set."""
    short = replace(plan.protocol, clicks=min(3, plan.protocol.clicks))
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    speeds = {}
    for variant in plan.variants:
        segmenter = variant.make()
        for cell in (c for c in plan.cells if c.variant is variant):
            speed = _short_episode(segmenter, cell, short)
            speeds[variant_key(variant.shown), cell.data.digest] = replace(speed, at=at)
    return speeds


def _short_episode(segmenter: Any, cell: Cell, protocol: Any) -> Speed:
    from harness.clicking.loop import Truth, encode, run_episode
    from harness.clicking.records import Weights

    sample = cell.data.dataset.load(cell.data.dataset.names[0])
    truth = Truth(sample)
    embedding, encode_ms = encode(segmenter, sample.image)
    start = time.perf_counter()
    episode = run_episode(segmenter, embedding, encode_ms, truth, protocol.annotator.start(sample), protocol)
    click_ms = (time.perf_counter() - start) * 1e3 / max(len(episode.clicks), 1)
    return Speed(encode_ms=encode_ms, click_ms=click_ms, weights=Weights.of(segmenter).weights_status)


def _free(folder: Path) -> int:
    """Bytes free where the folder is or would be."""
    return shutil.disk_usage(next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())).free


def _size(count: float) -> str:
    """A number of bytes for people.

    >>> _size(150000), _size(3e9)
    ('0.2 MB', '3.0 GB')
    """
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
