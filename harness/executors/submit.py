"""Where the quality pass runs: in this process, in processes of its own, or as Slurm jobs (both through submitit)."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.clicking import quality
from harness.clicking.limits import Guard
from harness.clicking.quality import Work
from harness.clicking.records import Result
from harness.errors import UserError, near_miss
from harness.executors import spool
from harness.executors.isolated import Isolated
from harness.executors.job import collect
from harness.executors.jobs import Handle, Watched, cells_of, supervise
from harness.segmenter import Segmenter

EXECUTORS = ("local", "processes", "slurm")


@dataclass(frozen=True)
class Built:
    """What the sweep's process has built already, for the local executor; jobs build their own."""

    segmenters: Mapping[str, Segmenter]
    dataset: Any
    guard: Guard | None = None


def execute(
    settings: Mapping[str, Any],
    work: Work,
    out: Path,
    built: Built,
    watched: Watched,
    suspects: frozenset[str] = frozenset(),
) -> Iterator[Result]:
    """Yield episodes as they become known. Close the iterator to cancel jobs that still run.

    Args:
        settings: the `executor` configuration: name, chunks, folder, parameters.
        work: what to do.
        out: the sweep's folder; files of jobs go under it.
        built: for the local executor.
        watched: who hears of machines and damaged lines.
        suspects: variants that took their process along before; the local executor gives each a process of its own.

    Raises:
        UserError: unknown executor, or Slurm is not there.
    """
    name = settings["name"]
    if name not in EXECUTORS:
        raise UserError(f"unknown executor {name!r}. {near_miss(str(name), EXECUTORS)}")
    folder = folder_of(settings, out)
    todo = {n: list(variants) for n, variants in work.todo.items()}
    for result, machine in spool.left_over(folder, cells_of(work), watched.tell):
        if result.variant in todo.get(result.episode.sample, ()):
            todo[result.episode.sample].remove(result.variant)
            watched.machine(machine)
            yield result
    if name != "local":
        yield from _submit(settings, only(replace(work, todo=todo), set(work.variants)), folder, watched)
        return
    yield from isolate(only(replace(work, todo=todo), suspects), folder, watched)
    rest = only(replace(work, todo=todo), set(work.variants) - suspects)
    if rest.todo:
        yield from quality.run(rest, built.segmenters, built.dataset, built.guard)


def folder_of(settings: Mapping[str, Any], out: Path) -> Path:
    """Where the files of jobs lie."""
    return Path(settings.get("folder") or out / "jobs") / "episodes"


def isolate(work: Work, folder: Path, watched: Watched) -> Iterator[Result]:
    """Do a share on this machine, variant by variant, each in a process of its own."""
    shares = [only(work, {variant}) for variant in work.variants]

    def start(share: Work, name: str) -> Handle:
        return Isolated(share, folder, name)

    yield from supervise(start, [s for s in shares if s.todo], folder, watched, at_once=1)


def only(work: Work, variants: set[str] | frozenset[str]) -> Work:
    """The part of a share that concerns these variants."""
    todo = {name: [v for v in missing if v in variants] for name, missing in work.todo.items()}
    return replace(work, todo={name: missing for name, missing in todo.items() if missing})


def split(work: Work, chunks: int) -> list[Work]:
    """Deal the samples out to at most `chunks` shares, none empty."""
    names = list(work.todo)
    shares = [names[i::chunks] for i in range(max(1, chunks))]
    return [replace(work, todo={n: work.todo[n] for n in share}) for share in shares if share]


def _submit(settings: Mapping[str, Any], work: Work, folder: Path, watched: Watched) -> Iterator[Result]:
    import submitit

    processes = settings["name"] == "processes"
    try:
        executor = submitit.AutoExecutor(folder=folder.parent, cluster="local" if processes else "slurm")
        executor.update_parameters(name="is-bench", **{"timeout_min": 24 * 60, **(settings.get("parameters") or {})})
    except (RuntimeError, OSError, TypeError) as error:
        raise _no_executor(settings, error) from error
    # Processes of this machine end with the sweep; a Slurm job may outlive it, and the next sweep reads what it wrote.
    owner = (platform.node(), os.getpid()) if processes else None

    def start(share: Work, name: str) -> Handle:
        try:
            return _Submitted(executor.submit(collect, share, folder, name, owner))
        except (RuntimeError, OSError, TypeError) as error:
            raise _no_executor(settings, error) from error

    yield from supervise(start, split(work, int(settings["chunks"])), folder, watched)


def _no_executor(settings: Mapping[str, Any], error: Exception) -> UserError:
    return UserError(f"executor={settings['name']}: {error}. Use executor.name=local where there is no Slurm.")


class _Submitted:
    """A job of submitit (a `jobs.Handle`)."""

    def __init__(self, job: Any):
        self._job = job

    def done(self) -> bool:
        return bool(self._job.done())

    @functools.cached_property
    def _reason(self) -> str:
        try:
            self._job.result()
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[-500:]}"
        return ""

    def reason(self) -> str:
        return self._reason

    def cancel(self) -> None:
        with contextlib.suppress(Exception):
            self._job.cancel(check=False)
