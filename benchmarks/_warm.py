"""Commands in forks of a process that has imported everything: the same code and exit codes, without the imports.

Each command has a process of its own (a fork of multiprocessing's fork server, in which nothing has run), so that a
crash, a leak or a changed module of one reaches no other.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import runpy
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import baselines

COMMANDS = ("harness.sweep", "harness.convert", "reports")


def _loaded() -> list[str]:
    """Modules that the commands import on their way."""
    systems = [f"baselines.{m.name}" for m in pkgutil.iter_modules(baselines.__path__)]
    return [
        *("harness.sweep", "harness.executors.sweeping", "harness.results.summary", "harness.convert"),
        *("inter2former.segmenter", "reports.pages.assemble", "harness.datasets.folder", "harness.datasets.sbd"),
        *systems,
    ]


def _command(arguments: Sequence[str], folder: Path, errors: Path) -> None:
    """The child: `python -m ARGUMENTS` from here on."""
    os.chdir(folder)
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, os.devnull, os.O_WRONLY),
        (2, errors, os.O_WRONLY),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    sys.argv = [arguments[0], *arguments[1:]]
    sys.orig_argv = [sys.executable, "-m", *arguments]  # a sweep that starts itself again reads it
    os.environ["MPLBACKEND"] = "Agg"
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def run(arguments: Sequence[str], folder: Path, limit_s: float) -> tuple[int | None, str]:
    """Exit code (None: it had to be ended; negative: a signal) and what was written to standard error."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_loaded())
    with tempfile.NamedTemporaryFile() as errors:
        process = context.Process(target=_command, args=(tuple(arguments), folder, Path(errors.name)))
        process.start()
        process.join(limit_s)
        ended = not process.is_alive()
        if not ended:
            process.kill()
            process.join()
        text = Path(errors.name).read_text(errors="replace")
    return (process.exitcode if ended else None), text if ended else f"{text}\nno end after {limit_s:g} s"
