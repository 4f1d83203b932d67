"""`dry_run=true`: what a sweep would do, and for about how long, without building a model; `dry_run=probe` measures it.

The times come from the speeds that earlier runs left on this machine (`harness.results.speeds`).
"""

from __future__ import annotations

import os
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
from harness.fetching.weights import is_name
from harness.latency.options import Options
from harness.planning.config import plain
from harness.planning.plan import Cell, Plan, Variant
from harness.results.measuring import Measure
from harness.results.speeds import Speed, Speeds, variant_key
from harness.text import duration

CHOICES = ("true", "false", "probe")
_WEIGHT_FILES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".npz", ".onnx")
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
    for variant in plan.variants:
        require_weights(variant)
    speeds = Speeds(config.threads)
    if asked(config) == "probe":
        speeds.add(probe(plan))
    most = plan.protocol.clicks
    table = Table(title=markup(f"{plan.name}: {plan.title}".rstrip(": ")), title_justify="left")
    for column in ("cell", "variant", "data set", "samples", "weights", "clicks, at most", "time, about"):
        table.add_column(column, justify="right" if column[0] in "sct" and column != "cell" else "left")
    times: list[float | None] = []
    rough = False
    for cell in plan.cells:
        samples = len(cell.data.dataset)
        speed, source = speeds.of(cell)
        seconds = None if speed is None else speed.seconds(most)
        if speed is not None and seconds is not None:  # all episodes of a sample share one encoding
            encode = (speed.encode_ms or 0.0) / 1e3
            seconds = encode + plan.protocol.episodes * (seconds - encode)
        rough |= seconds is not None and bool(source)
        times.append(None if seconds is None else seconds * samples)
        table.add_row(
            cell.key[:8],
            markup(cell.variant.name),
            markup(f"{cell.data.name} ({cell.data.note})" if cell.data.note else cell.data.name),
            str(samples),
            markup((speed.weights if speed else "") or "not looked at"),
            str(samples * most * plan.protocol.episodes),
            "unknown" if times[-1] is None else f"{duration(times[-1])} {source}".rstrip(),
        )
    console.print(table)
    for line in _summary(plan, config, measure, times, rough):
        console.print(markup(line), highlight=False)


def require_weights(variant: Variant) -> None:
    """Check that the weight file of a packaged system is there; a name ("default") is no file, nor is a user's class
    bound to take its `weights` for a path.

    Raises:
        UserError: it is not.
    """
    weights = variant.config.get("weights")
    own = str(variant.config.get("_target_", "")).partition(".")[0] in ("inter2former", "baselines")
    if not own or not isinstance(weights, str) or is_name(weights):
        return
    is_path = os.sep in weights or weights.startswith("~") or Path(weights).suffix.lower() in _WEIGHT_FILES
    if is_path and not Path(weights).expanduser().exists():
        raise UserError(
            f"variant {variant.name!r}: weights={weights}: no such file or folder. Give a checkpoint that is there, or "
            "null for random weights."
        )


def _summary(plan: Plan, config: DictConfig, measure: Measure, times: list[float | None], rough: bool) -> list[str]:
    """The lines below the table.

    Args:
        times: seconds of each cell.
        rough: some of them are of other images or variants.
    """
    parts = []
    known = [seconds for seconds in times if seconds is not None]
    if measure.quality:
        missing = f" and {len(times) - len(known)} cells of unknown time" if 0 < len(known) < len(times) else ""
        about = "roughly" if rough else "about"
        parts.append(f"clicks {about} {duration(sum(known))}{missing}" if known else "clicks: time unknown")
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
    if asked(config) == "true":
        lines.append("The settings of the variants were not tried; dry_run=probe builds them.")
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
            target = str(variant.shown.get("_target_", ""))
            speeds[variant_key(variant.shown), cell.data.digest] = replace(speed, at=at, target=target)
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
