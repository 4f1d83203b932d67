"""Watching over jobs: episodes as they come, what a job that died had under way, and its share again in smaller parts.

A process that crashes or hangs takes all of its share along. So the pair of variant and sample that it had under way
is done again alone, and the rest variant by variant; a pair that takes its process along when it is alone is recorded
as failed. Every job that dies makes the rest smaller, so that this ends.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from harness.clicking.limits import Guard
from harness.clicking.loop import failed_episode
from harness.clicking.quality import Work
from harness.clicking.records import Result
from harness.executors import spool
from harness.results.damaged import Tell

_LOOK_EVERY_S = 0.5
_LAST_LINES_S = 10.0
"""Network file systems show the last lines of another node's file late."""

Pair = tuple[str, str]


class ProcessEnded(Exception):
    """The process of an episode did not live to its end."""


class Handle(Protocol):
    """A job that runs somewhere."""

    def done(self) -> bool:
        """Whether it runs no more."""
        ...

    def reason(self) -> str:
        """Why it ended before its share was done, in one line; "" if it ended well."""
        ...

    def cancel(self) -> None:
        """End it; never raises."""
        ...


Start = Callable[[Work, str], Handle]
"""Begins the job of a share under a name."""


@dataclass
class Watched:
    """How the sweep hears of a job besides its episodes.

    Attributes:
        tell: one line of text for the user.
        machine: called with the description of each machine that episodes come from.
    """

    tell: Tell
    machine: Callable[[Mapping[str, Any]], object]


def supervise(
    start: Start, shares: Sequence[Work], folder: Path, watched: Watched, at_once: int | None = None
) -> Iterator[Result]:
    """Run shares as jobs and yield their episodes; jobs that still run when this ends are cancelled.

    Args:
        start: begins a job.
        shares: what to do.
        folder: of the jobs' files.
        watched: who hears of machines and damaged lines.
        at_once: jobs at a time; None: all.
    """
    waiting = list(shares)
    running: list[_Job] = []
    try:
        while waiting or running:
            while waiting and (at_once is None or len(running) < at_once):
                running.append(_Job(waiting.pop(0), start, folder, watched))
            for job in list(running):
                yield from job.look()
                if job.over():
                    running.remove(job)
                    lost, again = job.bury()
                    yield from lost
                    waiting += again
            if running:
                time.sleep(_LOOK_EVERY_S)
    finally:
        for job in running:
            job.handle.cancel()


class _Job:
    """A share that runs, and which of its episodes are known."""

    def __init__(self, work: Work, start: Start, folder: Path, watched: Watched):
        self.work, self._watched = work, watched
        name = uuid.uuid4().hex[:12]
        self._readers = [
            spool.Reader(folder / f"{cell}.{name}.jsonl", cell, variant, watched.tell)
            for variant, cell in cells_of(work).items()
        ]
        self._missing: set[Pair] = {(v, name) for name, variants in work.todo.items() for v in variants}
        self._greeted = self._hung = False
        self._ended_at = 0.0
        self._heard = time.monotonic()
        self.handle = start(work, name)

    def look(self) -> Iterator[Result]:
        """Episodes that have come since the last look."""
        done = self.handle.done()  # asked before the look, so that it misses nothing
        for reader in self._readers:
            for result in reader.new():
                pair = (result.variant, result.episode.sample)
                if pair in self._missing:
                    self._missing.remove(pair)
                    yield result
            if reader.grown:
                self._heard = time.monotonic()
            if reader.header and not self._greeted:
                self._greeted = True
                self._watched.machine(reader.header["machine"])
        if done and not self._ended_at:
            self._ended_at = time.monotonic()
        if not done and self._silent_too_long():
            self._hung = True
            self.handle.cancel()
            self._ended_at = time.monotonic()

    def over(self) -> bool:
        """Whether the job has ended and everything that it wrote is known."""
        if not self._ended_at:
            return False
        late = self._missing and not self._hung and not self.handle.reason()
        return not late or all(r.ended for r in self._readers) or time.monotonic() > self._ended_at + _LAST_LINES_S

    def bury(self) -> tuple[list[Result], list[Work]]:
        """After the end: failures for what nobody will do, and shares for what is to be tried again."""
        for reader in self._readers:
            reader.remove()
        if not self._missing:
            return [], []
        limit = f"no answer within {self.work.limit_s or 0:g} s (executor.episode_timeout_s), ended from outside"
        reason = limit if self._hung else self.handle.reason() or "the job ended without this episode"
        underway = [(r.variant, r.underway) for r in self._readers if r.underway is not None]
        if not underway:  # it did not die of an episode: a lost node, a data set that cannot be built there
            return self._failures(self._missing, reason, fatal=False), []
        variant, sample = underway[0]
        culprits = {pair for pair in self._missing if pair[0] == variant and sample in ("", pair[1])}
        if self._missing == culprits:
            return self._failures(culprits, reason, fatal=True), []
        self._watched.tell(
            f"{variant}{f' on {sample}' if sample else ''}: {reason}; done again in a process of its own."
        )
        groups = [culprits, *({p for p in self._missing - culprits if p[0] == v} for v in self.work.variants)]
        return [], [self._share(group) for group in groups if group]

    def _share(self, pairs: set[Pair]) -> Work:
        todo = {n: [v for v in variants if (v, n) in pairs] for n, variants in self.work.todo.items()}
        return replace(self.work, todo={n: variants for n, variants in todo.items() if variants})

    def _failures(self, pairs: set[Pair], reason: str, fatal: bool) -> list[Result]:
        error = ProcessEnded(reason)
        return [Result(variant, failed_episode(name, error, fatal)) for variant, name in sorted(pairs)]

    def _silent_too_long(self) -> bool:
        limit = self.work.limit_s
        if not limit or not self._greeted:  # it may still wait in a queue
            return False
        return time.monotonic() - self._heard > limit + 2 * Guard(limit).grace_s


def cells_of(work: Work) -> dict[str, str]:
    """Variant -> key of its cell, for the variants that have something to do."""
    return {v: work.cells[v] for variants in work.todo.values() for v in variants}
