"""Where the quality pass runs: in this process, in processes of its own, or as Slurm jobs (both through submitit)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import quality
from harness.errors import UserError, near_miss
from harness.quality import Work
from harness.segmenter import Segmenter

EXECUTORS = ("local", "processes", "slurm")


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

    folder = settings.get("folder") or out / "jobs"
    cluster = "local" if settings["name"] == "processes" else "slurm"
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="is-bench", **{"timeout_min": 24 * 60, **(settings.get("parameters") or {})})
        jobs = [(chunk, executor.submit(_collect, chunk)) for chunk in split(work, int(settings["chunks"]))]
    except (RuntimeError, OSError, TypeError) as error:
        raise UserError(
            f"executor={settings['name']}: {error}. Use executor.name=local where there is no Slurm."
        ) from error
    for chunk, job in jobs:
        try:
            yield from job.result()
        except Exception as error:  # a lost job is a failure of its episodes; the next run repeats them
            from harness.episodes import failed_episode

            yield from ((v, failed_episode(s, error)) for s, variants in chunk.todo.items() for v in variants)


def _collect(work: Work) -> list[tuple[str, dict[str, Any]]]:
    return list(quality.run(work))


def split(work: Work, chunks: int) -> list[Work]:
    """Deal the samples out to at most `chunks` shares, none empty."""
    names = list(work.todo)
    shares = [names[i::chunks] for i in range(max(1, chunks))]
    return [replace(work, todo={n: work.todo[n] for n in share}) for share in shares if share]
