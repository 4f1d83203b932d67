"""Latency of every variant: one pinned child per (variant, threads, resolution), interleaved in rounds.

The parent only sends "do a round" to one child at a time and blocks on its pipe. All children of a resolution wait
side by side (as far as memory allows), so that round i of every variant runs within seconds of round i of the base:
drift hits all alike, and ratios are taken within a round.
"""

from __future__ import annotations

import math
import pickle
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.latency import frames as latency_frames
from harness.latency import scaling, workload
from harness.latency.options import Options
from harness.latency.rounds import PROTOCOL, Group, Progress, Runner
from harness.planning.identity import TIMING
from harness.protocol import Protocol
from harness.sample import Sample

__all__ = ["Options", "measure"]


def measure(
    variants: Mapping[str, Mapping[str, Any]],
    samples: Sequence[Sample],
    options: Options | Mapping[str, Any],
    *,
    base: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    roof: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    protocol: Protocol = workload.DEFAULT,
) -> pd.DataFrame:
    """Measure encode, first and later clicks of every variant.

    Args:
        variants: name -> resolved configuration with `_target_`.
        samples: candidates for the workload; `options.samples` of them are used.
        options: an Options, or the `measure` configuration.
        base: variant that ratios refer to; the first one if None or unknown.
        out: folder for `latency_samples.parquet` (every timing), `latency_parts.csv` (the pass with hooks) and
            `latency_scaling.csv` (fits); nothing is written if None.
        progress: called with one line of text now and then.
        roof: adds the roofline columns to rows of latency.csv and latency_parts.csv; left out if None.
        protocol: whose annotator clicks and whose threshold makes masks of scores; the children get it pickled.

    Returns:
        The rows of latency.csv (`harness.latency.frames`); a variant that failed has one row, its reason in `error`.

    Raises:
        UserError: options out of range, or no sample with an object.
    """
    settings = options if isinstance(options, Options) else Options.of(options)
    tell = _seldom(progress) if progress else (lambda text: None)
    base = base if base in variants else next(iter(variants), None)
    pixels = sum(r * r for r in settings.resolutions)
    runners: list[Runner] = []
    with tempfile.TemporaryDirectory(prefix="latency-") as folder:
        for resolution in settings.resolutions:
            episodes = workload.compose(samples, settings.samples, resolution, settings.later_clicks, protocol)
            if not episodes:
                raise UserError("latency needs at least one sample with an object; the data set has none.")
            path = Path(folder) / f"workload{resolution}.npz"
            workload.save(episodes, path)
            path.with_suffix(PROTOCOL).write_bytes(pickle.dumps(protocol))
            budget = settings.seconds * resolution * resolution / pixels
            group = Group(variants, base, settings, resolution, path, budget, tell)
            runners += group.run()
    frames = latency_frames.build(runners, base, settings.strict)
    frames.latency["timing_version"] = TIMING
    latency, parts = (frame if roof is None else roof(frame) for frame in (frames.latency, frames.parts))
    if out is not None:
        fits = scaling.fit(frames.timings, parts)
        latency_frames.write(Path(out), timings=frames.timings, parts=parts, scaling=fits)
    return latency


def _seldom(tell: Progress, every_s: float = 10.0) -> Progress:
    """Pass on a line only so often."""
    last = [-math.inf]

    def seldom(text: str) -> None:
        if time.monotonic() - last[0] >= every_s:
            last[0] = time.monotonic()
            tell(text)

    return seldom
