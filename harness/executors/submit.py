"""Where the quality pass runs: in this process, in processes of its own, or as Slurm jobs (both through submitit)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.clicking import quality
from harness.clicking.loop import failed_episode
from harness.clicking.quality import Work
from harness.errors import UserError, near_miss
from harness.executors import spool
from harness.segmenter import Segmenter

EXECUTORS = ("local", "processes", "slurm")
_LOOK_EVERY_S = 0.5


def execute(
    settings: Mapping[str, Any],
    work: Work,
    out: Path,
    segmenters: Mapping[str, Segmenter] | None,
    dataset: Any,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (variant, episode) as they become known.

    Args:
        settings: the `executor` configuration: name, chunks, folder, parameters.
        work: what to do.
        out: the sweep's folder; logs of submitted jobs go under it.
        segmenters: built ones for the local executor; jobs build their own.
        dataset: likewise.

    Raises:
        UserError: unknown executor, or Slurm is not there.
    """
    name = settings["name"]
    if name not in EXECUTORS:
        raise UserError(f"unknown executor {name!r}. {near_miss(str(name), EXECUTORS)}")
    if name == "local":
        yield from quality.run(work, segmenters, dataset)
    else:
        yield from _submit(settings, work, out)


def _submit(settings: Mapping[str, Any], work: Work, out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import submitit

    folder = Path(settings.get("folder") or out / "jobs")
    files = folder / "episodes"
    todo = {name: list(variants) for name, variants in work.todo.items()}
    for variant, episode in spool.left_over(files, work.cells):
        if variant in todo.get(episode["sample"], ()):
            todo[episode["sample"]].remove(variant)
            yield variant, episode
    spool.clear(files)
    work = replace(work, todo={name: variants for name, variants in todo.items() if variants})
    cluster = "local" if settings["name"] == "processes" else "slurm"
    # Processes end with the sweep; jobs of a cluster may outlive it, and the next run reads their files.
    mine = os.getpid() if cluster == "local" else None
    jobs = []
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="is-bench", **{"timeout_min": 24 * 60, **(settings.get("parameters") or {})})
        for chunk in split(work, int(settings["chunks"])):
            path = files / f"{uuid.uuid4().hex}.jsonl"
            jobs.append(_Job(chunk, executor.submit(_collect, chunk, path, mine), spool.Reader(path, work.cells)))
    except (RuntimeError, OSError, TypeError) as error:
        raise UserError(
            f"executor={settings['name']}: {error}. Use executor.name=local where there is no Slurm."
        ) from error
    while jobs:
        for job in list(jobs):
            ended = job.submitted.done()  # asked before the last look, so that it misses nothing
            yield from job.new()
            if ended:
                jobs.remove(job)
                yield from job.rest()
                job.reader.path.unlink(missing_ok=True)
        if jobs:
            time.sleep(_LOOK_EVERY_S)


class _Job:
    """A submitted share, and which of its episodes are known."""

    def __init__(self, work: Work, submitted: Any, reader: spool.Reader):
        self.submitted, self.reader = submitted, reader
        self._missing = {(name, variant) for name, variants in work.todo.items() for variant in variants}

    def new(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Episodes that have come since the last look."""
        for variant, episode in self.reader.new():
            if (episode["sample"], variant) in self._missing:
                self._missing.remove((episode["sample"], variant))
                yield variant, episode

    def rest(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """After the end: what the file did not show in time, and failures for what a lost job did not do."""
        try:
            found = self.submitted.result()
        except Exception as error:  # the next run repeats the failed episodes
            yield from ((variant, failed_episode(name, error)) for name, variant in sorted(self._missing))
            return
        yield from ((v, episode) for v, episode in found if (episode["sample"], v) in self._missing)


def _collect(work: Work, path: Path, parent: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Do a share; every episode is on disk when it ends, and all are returned in the end.

    Args:
        parent: process id of the sweep, with which this process ends; None: it lives on.
    """
    if parent is not None:
        _end_with(parent)
    found = []
    writer = spool.Writer(path, work.cells)
    try:
        for variant, episode in quality.run(work):
            writer.add(variant, episode)
            found.append((variant, episode))
    finally:
        writer.close()
    return found


def _end_with(parent: int) -> None:
    """End this process soon after another one ended, however that was killed."""
    import psutil

    def watch() -> None:
        with contextlib.suppress(psutil.Error):
            sweep = psutil.Process(parent)  # remembers when it began, so that a reused id is not taken for it
            while sweep.is_running() and sweep.status() != psutil.STATUS_ZOMBIE:
                time.sleep(_LOOK_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with the sweep").start()


def split(work: Work, chunks: int) -> list[Work]:
    """Deal the samples out to at most `chunks` shares, none empty."""
    names = list(work.todo)
    shares = [names[i::chunks] for i in range(max(1, chunks))]
    return [replace(work, todo={n: work.todo[n] for n in share}) for share in shares if share]
