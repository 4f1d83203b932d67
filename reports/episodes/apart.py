"""Episodes replayed in a process of their own, which is ended when it takes too long or too much memory.

A run's configuration may come from anybody. What it may build is limited (`harness.planning.disk`); how long that takes
is not: GrabCut does a billion rounds if it is told to, and no exception reaches it. A crash ends this process only.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from harness.planning.config import Config
from harness.planning.disk import Trust
from reports.episodes import gallery
from reports.read.frames import read
from reports.read.runs import Run

SHARE = 0.75
"""Of the memory that is free when the replays begin."""
_LOOK_S = 0.1


def limit_s(budget_s: float) -> float:
    """Seconds after which a replay is ended, where no new one is begun after `budget_s`: one that began may finish."""
    return 60 + 4 * budget_s


def memory_limit() -> int:
    """Bytes of memory at which a replay is ended."""
    return int(psutil.virtual_memory().available * SHARE)


def stories(run: Run, budget_s: float, trust: Trust | None = None) -> tuple[list[gallery.Story], list[str]]:
    """`gallery.stories` of a run's folder, bounded; what was finished before the end is there."""
    trust = trust or Trust()
    request = {
        "run": str(run.path),
        "budget_s": budget_s,
        "config_dir": None if trust.config_dir is None else str(trust.config_dir),
        "environment": sorted(trust.environment),
    }
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        results = Path(folder) / "stories"
        why = _ended(request, results, limit_s(budget_s))
        replayed: list[gallery.Story] = []
        for result in _pickles(results):
            if isinstance(result, gallery.Story):
                replayed.append(result)
            else:
                return replayed, result
    return replayed, [f"Not all episodes are shown: {why or 'the process that replays them ended'}."]


def _ended(request: dict[str, object], results: Path, most_s: float) -> str:
    """Let the process work; why it had to be ended, or how it died, else ""."""
    most_bytes = memory_limit()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(results)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(request).encode())
        until = time.monotonic() + most_s
        watched = psutil.Process(process.pid)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_LOOK_S)
                return f"the process that replays them ended by {signal.Signals(-code).name}" if code < 0 else ""
            if time.monotonic() > until:
                return f"replaying was ended after {most_s:.0f} s"
            with contextlib.suppress(psutil.Error):
                if watched.memory_info().rss > most_bytes:
                    return f"replaying was ended when it took more than {most_bytes / 2**30:.1f} GiB of memory"
    finally:
        # Its group: a segmenter may have begun processes of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _pickles(path: Path) -> Iterator[list[str] | gallery.Story]:
    """What this module's own process wrote; the last one may be cut off."""
    if not path.exists():
        return
    with open(path, "rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
        while True:
            yield pickle.load(file)


def _main(results: Path) -> None:
    request = json.load(sys.stdin)
    trust = Trust(Config(request["config_dir"]).config_dir, frozenset(request["environment"]))
    with open(results, "wb") as file:

        def keep(result: gallery.Story | list[str]) -> None:
            pickle.dump(result, file)
            file.flush()

        _, problems = gallery.stories(read(request["run"]), request["budget_s"], trust, keep)
        keep(problems)


if __name__ == "__main__":
    from reports.episodes import apart  # the classes in the pickles are those of this module's importers

    apart._main(Path(sys.argv[1]))
