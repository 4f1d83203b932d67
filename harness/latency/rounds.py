"""Measuring one resolution: children that wait side by side and take their turns in interleaved rounds."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from harness.latency import pinning
from harness.latency.contention import Load, verdict
from harness.latency.options import AUTO_WIDTH, Options
from harness.latency.process import ChildFailed, ChildProcess
from harness.latency.records import Built, Job, Round, Warmed
from harness.latency.stats import median_interval, ratio_interval, spread

T = TypeVar("T")
Progress = Callable[[str], None]
PROTOCOL = ".protocol"  # suffix of the pickled protocol beside the workload
PARTS_SHARE = 0.2  # of the budget goes to the second pass, if there is one


@dataclass(eq=False)
class Runner:
    """One child and everything that it said.

    Attributes:
        built, warmed: its answers before the rounds; None until it gave them.
        rounds: number of a round -> its answer.
        parts: the answers of the second pass.
        error: why it ended.
    """

    variant: str
    threads: int
    resolution: int
    process: ChildProcess | None = None
    built: Built | None = None
    warmed: Warmed | None = None
    rounds: dict[int, Round] = field(default_factory=dict)
    parts: list[Round] = field(default_factory=list)
    error: str = ""

    def ask(self, question: Callable[[ChildProcess], T]) -> T | None:
        """The child's answer; None once it has failed, which is remembered."""
        if self.process is None or self.error:
            return None
        try:
            return question(self.process)
        except ChildFailed as error:
            self.fail(str(error))
            return None

    @property
    def rss_mb(self) -> float:
        """Memory of the process as it told it last, MiB; 0 before."""
        last = self.warmed or self.built
        return last.rss_mb if last else 0.0

    def loads(self) -> list[Load]:
        """What else the machine did in each round."""
        return [answer.load for answer in self.rounds.values()]

    def contention(self) -> str:
        """Why these numbers are doubtful, or ""."""
        totals = [sum(t.ms for t in answer.timings) for answer in self.rounds.values()]
        return verdict(self.loads(), spread(totals))

    def boundary(self) -> dict[tuple[int, int], float]:
        """(image, click) -> share of boundary tokens, where known."""
        return {(b.image, b.click): b.share for b in (self.warmed.boundary if self.warmed else ())}

    def fail(self, reason: str) -> None:
        """Remember why there is no (further) number, and end the child."""
        self.error = reason
        self.end()

    def end(self) -> None:
        """End the child."""
        if self.process is not None:
            self.process.stop()
            self.process = None


def narrow(runner: Runner, base: Runner | None) -> bool:
    """Whether a runner's ratios to the base's times are known to within `AUTO_WIDTH`, of encoding and of clicks.

    Rounds in which the base answered too are paired. A runner that is the base, or has none, is looked at by itself.
    """
    for encoding in (True, False):
        mine = {n: total(answer, encoding) for n, answer in runner.rounds.items()}
        others = base.rounds if base is not None and base is not runner else {}
        shared = [n for n in mine if n in others and total(others[n], encoding) > 0]
        if shared:
            interval = ratio_interval([mine[n] for n in shared], [total(others[n], encoding) for n in shared])
        else:
            interval = median_interval(list(mine.values()))
        width = AUTO_WIDTH * interval.median
        if interval.high - interval.median > width or interval.median - interval.low > width:
            return False
    return True


def total(answer: Round, encoding: bool) -> float:
    """Milliseconds of a round's encodings, or of its clicks."""
    return float(sum(t.ms for t in answer.timings if (t.click == 0) == encoding))


class Group:
    """All (variant, threads) of one resolution.

    Args:
        variants: name -> resolved configuration.
        base: the variant that ratios refer to.
        settings: of the measurement.
        resolution: longest side in pixels.
        workload: file of the workload, in a folder that may be written to.
        budget_s: for this resolution.
        tell: progress.
    """

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
        self._parts_share = PARTS_SHARE if settings.parts else 0.0
        self.number = 0

    def run(self) -> list[Runner]:
        """Measure; always returns every runner, with its rounds or its error."""
        deadline = time.monotonic() + self.budget_s
        waiting = list(self.runners)
        staying: list[Runner] = []
        try:
            while waiting:
                batch = self._start(staying, waiting)
                share = len(batch) / (len(batch) + len(waiting))
                parts_s = self.budget_s * self._parts_share * len(batch) / len(self.runners)
                until = time.monotonic() + max(0.0, deadline - time.monotonic()) * share * (1 - self._parts_share)
                # Overdrawing is shared out as well: the first batches may not take the rounds of the last ones.
                self._rounds(staying + batch, until, until + 0.5 * self.budget_s * len(batch) / len(self.runners))
                if self.settings.parts:
                    self._parts(batch, parts_s)
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
        ahead: list[Runner] = []
        at_once = pinning.all_threads()
        while ahead or (waiting and (used < limit or not batch)):
            starting = ahead or self._launch(waiting, at_once if batch else 1)
            for runner in starting:
                self.tell(f"latency {self.resolution} px: starting {runner.variant}, {runner.threads} threads")
                runner.built = runner.ask(ChildProcess.built)
            # The next ones import and build while these warm up, where the memory holds both for certain.
            room = used + (len(starting) + at_once) * max(map(_weight, [*batch, *starting])) < limit
            ahead = self._launch(waiting, at_once) if batch and room else []
            for runner in starting:
                runner.warmed = runner.ask(lambda process: process.warm(self.settings.warmup_s))
                used += _weight(runner) if not runner.error else 0.0
            batch += starting
        return batch

    def _launch(self, waiting: list[Runner], count: int) -> list[Runner]:
        """Start the processes of the first of `waiting`, which leave it."""
        starting = [waiting.pop(0) for _ in range(min(count, len(waiting)))]
        for runner in starting:
            self._launch_one(runner)
        return starting

    def _launch_one(self, runner: Runner) -> None:
        job = Job(
            config=dict(self.variants[runner.variant]),
            threads=runner.threads,
            cpus=tuple(pinning.pick_cpus(runner.threads)),
            workload=str(self.workload),
            mode=self.settings.workload,
            protocol=str(self.workload.with_suffix(PROTOCOL)),
            encodes=self.settings.encodes,
            path=tuple(p for p in sys.path if p),
        )
        name = f"child-{self.resolution}-{self.runners.index(runner)}"
        runner.process = ChildProcess(job, self.workload.parent, name, self.settings.timeout_s)
        runner.ask(ChildProcess.begin_build)

    def _rounds(self, runners: list[Runner], until: float, latest: float) -> None:
        """Interleaved rounds until the deadline, at least one; to `latest` for the fewest with a finite interval."""
        order = random.Random(0)
        done = disturbed = 0
        while self.settings.auto or done < self.settings.max_repeats:
            if done and time.monotonic() >= (latest if done < self.settings.min_repeats else until):
                return
            alive = [r for r in runners if r.process is not None]
            if self.settings.auto and done >= self.settings.min_repeats:
                alive = self._wanting(alive)
            if not alive:
                return
            order.shuffle(alive)
            self.number += 1
            done += 1
            answers = {runner: runner.ask(lambda process: process.round()) for runner in alive}
            if self.settings.strict and self._disturbed([a for a in answers.values() if a]):
                # A round is dropped for all, so that ratios stay paired; the deadline bounds the repeats.
                disturbed += 1
                if time.monotonic() < until:
                    done -= 1
                    continue
            for runner, answer in answers.items():
                if answer is not None:
                    runner.rounds[self.number] = answer
            left = max(0.0, until - time.monotonic())
            dropped = f", {disturbed} disturbed ones dropped" if disturbed else ""
            self.tell(f"latency {self.resolution} px: round {done}{dropped}, at most {left:.0f} s left")

    def _wanting(self, runners: list[Runner]) -> list[Runner]:
        """Those whose ratio is not known well enough, and the base's child that they are paired with."""
        bases = {r.threads: r for r in self.runners if r.variant == self.base}
        wide = [r for r in runners if not narrow(r, bases.get(r.threads))]
        counts = {r.threads for r in wide}
        return [r for r in runners if r in wide or (r.variant == self.base and r.threads in counts)]

    def _parts(self, runners: list[Runner], seconds: float) -> None:
        """The second pass: rounds with hooks for so long, but no fewer than `min_repeats`."""
        started = time.monotonic()
        for done in range(self.settings.max_repeats):
            if done >= self.settings.min_repeats and time.monotonic() > started + seconds:
                return
            for runner in runners:
                answer = runner.ask(lambda process: process.round(parts=True))
                if answer is not None:
                    runner.parts.append(answer)
            self.tell(f"latency {self.resolution} px: parts, round {done + 1}")

    @staticmethod
    def _disturbed(answers: list[Round]) -> bool:
        return bool(verdict([answer.load for answer in answers]))


def _weight(runner: Runner) -> float:
    """Memory that a child may take, in MiB, from what it has now."""
    return runner.rss_mb * 1.5
