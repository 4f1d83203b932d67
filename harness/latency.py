"""Latency of every variant: one pinned child per (variant, threads, resolution), interleaved in rounds.

The parent only sends "do a round" to one child at a time and blocks on its pipe. All children of a resolution wait
side by side (as far as memory allows), so that round i of every variant runs within seconds of round i of the base:
drift hits all alike, and ratios are taken within a round.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from harness import latency_contention, latency_frames, latency_pinning, latency_workload
from harness.errors import UserError
from harness.latency_process import ChildFailed, ChildProcess
from harness.sample import Sample

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """Settings of the `measure` group that concern latency; see sweeps/measure/default.yaml for what each means."""

    threads: tuple[int | str, ...] = (1, "all")
    resolutions: tuple[int, ...] = (512,)
    samples: int = 4
    later_clicks: int = 3
    workload: str = "auto"
    budget_s: float = 600.0
    min_repeats: int = 6
    max_repeats: int = 40
    precision: float = 0.01
    warmup_s: float = 3.0
    timeout_s: float = 300.0
    strict: bool = False
    parts: bool = False
    memory_share: float = 0.6

    @classmethod
    def of(cls, measure: Mapping[str, Any]) -> Options:
        """Take the known fields of a `measure` configuration.

        Raises:
            UserError: a value out of range.
        """
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in measure.items() if k in known}
        made = cls(**values)
        if made.workload not in ("auto", "recorded", "truth"):
            raise UserError(f"measure.workload={made.workload!r}: allowed are auto, recorded, truth.")
        if not made.threads or not made.resolutions:
            raise UserError(
                "measure.threads and measure.resolutions need at least one entry, e.g. measure.threads=[1,all]."
            )
        if min(made.resolutions) < 32:
            raise UserError(
                f"measure.resolutions={list(made.resolutions)}: a longest side of at least 32 px is needed."
            )
        for name in ("samples", "max_repeats", "budget_s", "timeout_s"):
            if getattr(made, name) <= 0:
                raise UserError(f"measure.{name}={getattr(made, name)}: must be greater than 0.")
        made.thread_counts()
        return made

    def thread_counts(self) -> list[int]:
        """`threads` with `all` resolved, without doubles, in order.

        Raises:
            UserError: not a number or `all`, or more threads than CPUs.
        """
        counts: list[int] = []
        for entry in self.threads:
            if entry != "all" and not isinstance(entry, int):
                raise UserError(f"measure.threads={list(self.threads)}: entries are numbers or `all`.")
            count = latency_pinning.all_threads() if entry == "all" else int(entry)
            try:
                latency_pinning.pick_cpus(count)
            except ValueError as error:
                raise UserError(f"measure.{error}") from error
            if count not in counts:
                counts.append(count)
        return counts


@dataclass
class Runner:
    """One child and everything that it said.

    `rounds` maps the number of a round to its answer; `parts` are the answers of the second pass; `error` is why it
    ended.
    """

    variant: str
    threads: int
    resolution: int
    process: ChildProcess | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: dict[int, dict[str, Any]] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    def ask(self, **command: Any) -> dict[str, Any] | None:
        """The child's answer; None once it has failed, which is remembered."""
        if self.process is None or self.error:
            return None
        try:
            return self.process.ask(**command)
        except ChildFailed as error:
            self.fail(str(error))
            return None

    def fail(self, reason: str) -> None:
        """Remember why there is no (further) number, and end the child."""
        self.error = reason
        self.end()

    def end(self) -> None:
        """End the child."""
        if self.process is not None:
            self.process.stop()
            self.process = None


def measure(
    variants: Mapping[str, Mapping[str, Any]],
    samples: Sequence[Sample],
    options: Options | Mapping[str, Any],
    *,
    base: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Measure encode, first and later clicks of every variant.

    Args:
        variants: name -> resolved configuration with `_target_`.
        samples: candidates for the workload; `options.samples` of them are used.
        options: an Options, or the `measure` configuration.
        base: variant that ratios refer to; the first one if None or unknown.
        out: folder for `latency_samples.parquet` (every timing) and `latency_parts.csv`; nothing is written if None.
        progress: called with one line of text now and then.

    Returns:
        The rows of latency.csv (see latency_frames); a variant that failed has one row with the reason in `error`.

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
            episodes = latency_workload.compose(samples, settings.samples, resolution, settings.later_clicks)
            if not episodes:
                raise UserError("latency needs at least one sample with an object; the data set has none.")
            path = Path(folder) / f"workload{resolution}.npz"
            latency_workload.save(episodes, path)
            budget = settings.budget_s * resolution * resolution / pixels
            group = _Group(variants, base, settings, resolution, path, budget, tell)
            runners += group.run()
    frames = latency_frames.build(runners, base, settings)
    if out is not None:
        latency_frames.write(frames, Path(out))
    return frames.latency


def _seldom(tell: Progress, every_s: float = 10.0) -> Progress:
    """Pass on a line only so often."""
    last = [-math.inf]

    def seldom(text: str) -> None:
        if time.monotonic() - last[0] >= every_s:
            last[0] = time.monotonic()
            tell(text)

    return seldom


class _Group:
    """All (variant, threads) of one resolution, measured in interleaved rounds."""

    def __init__(
        self, variants: Mapping[str, Mapping[str, Any]], base: str | None, settings: Options, resolution: int,
        workload: Path, budget_s: float, tell: Progress,
    ):  # fmt: skip
        self.variants, self.base, self.settings = variants, base, settings
        self.resolution, self.workload, self.budget_s, self.tell = resolution, workload, budget_s, tell
        counts = settings.thread_counts()
        # The base comes first: it stays alive while the others come and go, when not all fit into memory.
        names = sorted(variants, key=lambda name: name != base)
        self.runners = [Runner(name, count, resolution) for name in names for count in counts]
        self.number = 0
        self.started = 0.0

    def run(self) -> list[Runner]:
        """Measure; always returns every runner, with its rounds or its error."""
        self.started = time.monotonic()
        deadline = self.started + self.budget_s
        waiting = list(self.runners)
        staying: list[Runner] = []
        try:
            while waiting:
                batch = self._start(staying, waiting)
                share = len(batch) / (len(batch) + len(waiting))
                until = time.monotonic() + max(0.0, deadline - time.monotonic()) * share
                self._rounds(staying + batch, until)
                staying += [r for r in batch if r.variant == self.base]
                for runner in batch:
                    if runner.variant != self.base:
                        runner.end()
        finally:
            for runner in self.runners:
                runner.end()
        return self.runners

    def _start(self, staying: list[Runner], waiting: list[Runner]) -> list[Runner]:
        """Build and warm children from the front of `waiting` while they fit into memory (at least one)."""
        limit = psutil.virtual_memory().available * self.settings.memory_share / 2**20
        used = 0.0
        batch: list[Runner] = []
        at_once = latency_pinning.all_threads()
        while waiting and (used < limit or not batch):
            starting = [waiting.pop(0) for _ in range(min(at_once if batch else 1, len(waiting)))]
            for runner in starting:
                self._launch(runner)
            for runner in starting:
                self.tell(f"latency {self.resolution} px: starting {runner.variant}, {runner.threads} threads")
                self._await_build(runner)
            for runner in starting:
                answer = runner.ask(do="warm", limit_s=self.settings.warmup_s)
                runner.facts.update(answer or {})
                used += float(runner.facts.get("rss_mb", 0.0)) * 1.5 if not runner.error else 0.0
            batch += starting
        return batch

    def _launch(self, runner: Runner) -> None:
        job = {
            "config": dict(self.variants[runner.variant]),
            "threads": runner.threads,
            "cpus": latency_pinning.pick_cpus(runner.threads),
            "workload": str(self.workload),
            "mode": self.settings.workload,
            "path": [p for p in sys.path if p],
        }
        name = f"child-{self.resolution}-{self.runners.index(runner)}"
        runner.process = ChildProcess(job, self.workload.parent, name, self.settings.timeout_s)
        try:
            runner.process.send(do="build")
        except ChildFailed as error:
            runner.fail(str(error))

    def _await_build(self, runner: Runner) -> None:
        if runner.process is None:
            return
        try:
            runner.facts.update(runner.process.receive())
        except ChildFailed as error:
            runner.fail(str(error))

    def _rounds(self, runners: list[Runner], until: float) -> None:
        """Interleaved rounds until the deadline, or until every row is precise; at least one round."""
        order = random.Random(0)
        done = 0
        while done < self.settings.max_repeats and (done == 0 or time.monotonic() < until or self._may_overdraw(done)):
            alive = [r for r in runners if r.process is not None]
            if not alive:
                return
            order.shuffle(alive)
            self.number += 1
            done += 1
            for runner in alive:
                answer = runner.ask(do="round")
                if answer is not None:
                    runner.rounds[self.number] = answer
            left = max(0.0, until - time.monotonic())
            self.tell(f"latency {self.resolution} px: round {done}, at most {left:.0f} s left")

    def _may_overdraw(self, done: int) -> bool:
        """The fewest rounds with a finite interval may cost half of the budget again, not more."""
        return done < self.settings.min_repeats and time.monotonic() < self.started + 1.5 * self.budget_s


def contention(runner: Runner) -> str:
    """Why this child's numbers are doubtful, or ""."""
    loads = [latency_contention.Load(**answer["load"]) for answer in runner.rounds.values()]
    totals = [sum(t["ms"] for t in answer["timings"]) for answer in runner.rounds.values()]
    from harness.latency_stats import spread

    return latency_contention.verdict(loads, spread(totals))
