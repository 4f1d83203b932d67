"""The quality pass of one data set as the sweep runs it: what is missing, who is built here, who runs apart."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from harness.clicking.limits import Guard
from harness.clicking.loop import failed_episode
from harness.clicking.quality import Work
from harness.clicking.records import Result, Weights
from harness.console import Console
from harness.errors import UserError
from harness.executors import submit
from harness.executors.jobs import ProcessEnded, Watched
from harness.executors.underway import Underway
from harness.machine import describe
from harness.planning.config import plain
from harness.planning.plan import Cell, DatasetPlan
from harness.progress import Bar
from harness.protocol import Protocol
from harness.results import stages
from harness.results.cells import CellFile
from harness.results.machines import Machines
from harness.results.schema import Origin
from harness.results.store import Store
from harness.results.tables import commit

Pair = tuple[str, str]
"""(variant, sample)"""


class Clicking:
    """Clicks through data sets and writes every episode into its cell.

    Args:
        config: of the sweep.
        store: its folder.
        machines: its machine.json.
        underway: notes the running step, and knows where the last run died.
        console: for progress and messages.
        restart: a hang that nothing can end may end the process and start the same command again.
    """

    def __init__(
        self, config: DictConfig, store: Store, machines: Machines, underway: Underway, console: Console, restart: bool
    ):
        self.config, self.store, self.machines, self.underway = config, store, machines, underway
        self.console = console
        self.executor: dict[str, Any] = plain(config.executor)
        self.limit_s = _limit(self.executor.get("episode_timeout_s"))
        stuck = self._start_again if restart else None
        self.guard = Guard(self.limit_s, underway, stuck, underway.last_words)
        self._watched = Watched(store.tell, lambda machine: self.machines.add(machine))
        self._kept: dict[str, Any] = {}
        self._at, self._load = stages.now(), describe.load_average()

    def through(
        self,
        data: DatasetPlan,
        cells: Mapping[Cell, CellFile],
        protocol: Protocol,
        samples: Sequence[str] | None = None,
        reuse: bool = False,
    ) -> None:
        """Do the episodes that these cells of one data set lack.

        Args:
            samples: only those on these samples.
            reuse: build each segmenter once for all calls.
        """
        files = {cell.variant.name: (cell, file) for cell, file in cells.items()}
        names = list(data.dataset.names if samples is None else samples)
        pending = {(v, n) for v, (_, file) in files.items() for n in names if n not in file.done}
        if not pending:
            return
        self.store.added = True
        self.underway.dataset = data.name
        work = Work(
            {v: cell.variant.shown for v, (cell, _) in files.items()},
            data.config,
            protocol,
            {},
            self.config.threads,
            {v: cell.key for v, (cell, _) in files.items()},
            self.limit_s,
        )
        title = f"clicks on {data.name}" + (f", {next(iter(files))}" if len(files) == 1 else "")
        with Bar(title, len(pending), self.console) as bar:

            def keep(results: Iterable[Result]) -> None:
                with contextlib.closing(results):  # type: ignore[type-var]  # a generator: its jobs end with it
                    for result in results:
                        cell, file = files[result.variant]
                        file.append(result.episode, self._origin(cell, result))
                        pending.discard((result.variant, result.episode.sample))
                        bar.advance(f"{result.variant} {result.episode.sample}")

            apart = self._suspects(work, names, files, pending, keep)
            segmenters = {}
            for variant in [v for v in files if v not in apart and any(p[0] == v for p in pending)]:
                segmenter = self._build_once(files[variant][0], reuse)
                if isinstance(segmenter, BaseException):
                    keep(Result(v, failed_episode(n, segmenter)) for v, n in _ordered(pending, names) if v == variant)
                elif segmenter is None:
                    pending -= {pair for pair in pending if pair[0] == variant}
                else:
                    segmenters[variant] = segmenter
            built = submit.Built(segmenters, data.dataset, self.guard)
            todo = _todo(work, names, pending)
            keep(submit.execute(self.executor, todo, self.store.out, built, self._watched, frozenset(apart)))

    def _suspects(
        self, work: Work, names: list[str], files: Mapping[str, tuple[Cell, CellFile]], pending: set[Pair], keep: Any
    ) -> set[str]:
        """Variants that took, or may have taken, their process along: they run apart from the others.

        What the last run had under way when it died is done again first, in a process of its own.
        """
        apart = {v for v, n in pending if n in files[v][1].fatal}
        death = self.underway.before
        if self.executor["name"] != "local" or death is None or death.dataset != self.underway.dataset:
            return apart
        self.underway.before = None
        variant, sample = death.variant, death.sample
        pairs = {(v, n) for v, n in pending if v == variant and sample in ("", n)}
        if not pairs:
            return apart
        where = f"{variant} on {sample}" if sample else f"the building of {variant}"
        if death.reason:
            error = ProcessEnded(death.reason)
            keep(Result(v, failed_episode(n, error, fatal=True)) for v, n in _ordered(pairs, names))
            return apart | {variant}
        self.store.tell(f"the last run ended in the middle of {where}: done again in a process of its own.")
        if not sample:
            return apart | {variant}
        folder = submit.folder_of(self.executor, self.store.out)
        keep(submit.isolate(_todo(work, names, pairs), folder, self._watched))
        if sample in files[variant][1].fatal:
            return apart | {variant}
        # A crash that does not come again there may have been anybody's; a mere kill was nobody's.
        return set(files) if death.crashed else apart

    def _build_once(self, cell: Cell, reuse: bool) -> Any:
        """As `_build`; with `reuse` a segmenter is built once for all shares of the samples."""
        if not reuse:
            return self._build(cell)
        if cell.key not in self._kept:
            self._kept[cell.key] = self._build(cell)
        return self._kept[cell.key]

    def _build(self, cell: Cell) -> Any:
        """The segmenter; None if it is untrained and not asked to click; what it raised if it cannot be built.

        Raises:
            UserError: its settings are wrong.
        """
        try:
            with self.guard.step(cell.variant.name, ""):
                segmenter = cell.variant.make()
                status = Weights.of(segmenter).weights_status
                hash(segmenter.encoder_key)
        except (UserError, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit, and whatever else a model may raise
            return error
        return None if status == "untrained" and not self.config.untrained_quality else segmenter

    def _origin(self, cell: Cell, result: Result) -> Origin:
        weights = result.weights
        return Origin(
            code=cell.code.digest,
            dirty=cell.code.dirty,
            commit=commit(),
            machine=result.machine or self.machines.id,
            at=self._at,
            load_average=self._load,
            weights_status=weights.weights_status,
            weights_digest=weights.weights_digest,
            parameters=weights.parameters,
        )

    def _start_again(self, variant: str, sample: str) -> None:
        """Leave a step that nothing inside can end: note it, and become the same command anew."""
        reason = f"no answer within {self.limit_s:g} s (executor.episode_timeout_s), not to be interrupted"
        self.underway.give_up(variant, sample, reason)
        self.store.tell(f"{variant} on {sample or 'being built'}: {reason}; the sweep starts again without it.")
        signal.setitimer(signal.ITIMER_REAL, 0)  # a timer outlives the change of program
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _limit(value: Any) -> float | None:
    """`executor.episode_timeout_s` as seconds.

    Raises:
        UserError: not a number above 0, and not null.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise UserError(f"executor.episode_timeout_s={value!r}: seconds greater than 0, or null for no limit.")
    return float(value)


def _ordered(pairs: Iterable[Pair], names: list[str]) -> list[Pair]:
    place = {name: i for i, name in enumerate(names)}
    return sorted(pairs, key=lambda pair: (pair[0], place[pair[1]]))


def _todo(work: Work, names: list[str], pairs: set[Pair]) -> Work:
    """The share of these pairs, in the order of the data set and of the variants."""
    todo = {n: [v for v in work.variants if (v, n) in pairs] for n in names}
    return replace(work, todo={name: variants for name, variants in todo.items() if variants})
