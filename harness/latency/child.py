"""The measuring child: `python -m harness.latency.child JOB.json`, one per (variant, threads, resolution).

It pins itself before anything heavy is imported, builds the segmenter, and then answers one JSON line per command on
its original standard output; whatever libraries print goes to standard error. No MLflow, no harness beyond what is
named here.

Commands: ``build``, ``warm``, ``round`` (``parts: true`` for the pass with hooks), ``stop``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.latency import pinning
from harness.latency.records import (
    Boundary,
    Built,
    Command,
    Failure,
    Job,
    Round,
    Warmed,
    line,
    read_command,
    read_job,
)


def main() -> None:
    """Read the job, pin, answer commands until `stop` or the end of the input."""
    job = read_job(Path(sys.argv[1]).read_bytes())
    _die_with_parent()
    pinning.pin(job.cpus)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    child: Child | None = None
    for text in sys.stdin:
        command = read_command(text)
        if command.do == "stop":
            break
        answer: Built | Warmed | Round | Failure
        try:
            child = Child(job) if command.do == "build" else child
            assert child is not None
            answer = child.answer(command)
        except MemoryError as error:
            answer = Failure(f"out of memory: {error}")
        except Exception as error:  # everything a model can do wrong becomes a row
            answer = Failure(_describe(error))
        answers.write(line(answer) + "\n")
    # No tidy shutdown: destructors of thread pools can hang, and nothing is left to save.
    answers.flush()
    os._exit(0)


class Child:
    """The measured process.

    Args:
        job: what to build and on which workload.
    """

    def __init__(self, job: Job):
        sys.path[:0] = [p for p in job.path if p not in sys.path]
        pinning.set_threads(job.threads)
        from hydra.utils import instantiate

        from harness.latency import energy, replay, workload

        self.episodes = workload.load(Path(job.workload))
        self.cpus = job.cpus
        self.bare_kb = memory_kb("VmRSS")
        self.segmenter = instantiate(job.config, _convert_="all")
        path = Path(job.protocol)
        protocol = pickle.loads(path.read_bytes()) if path.is_file() else workload.DEFAULT
        self.replay = replay.Replay(self.segmenter, self.episodes, job.mode, protocol, job.encodes, energy.find())

    def answer(self, command: Command) -> Built | Warmed | Round:
        """Do what is asked."""
        if command.do == "warm":
            return self.warm(command.limit_s)
        return self.round(command.parts) if command.do == "round" else self.build()

    def build(self) -> Built:
        """What was built; the work was done in the constructor."""
        return Built(str(getattr(self.segmenter, "weights_status", "")), memory_kb("VmRSS") / 1024)

    def warm(self, limit_s: float) -> Warmed:
        """Record the episodes, which is a first pass, then replay them until the median settles or the time is up."""
        from harness.latency.stats import settled

        started = time.perf_counter()
        self.replay.record()
        # Memory of one image at a time: the timed passes keep the embeddings of all.
        peak_mb = (memory_kb("VmHWM") - self.bare_kb) / 1024
        self.replay.keep()
        series: list[float] = []
        while not settled(series) and (time.perf_counter() - started < limit_s or not series):
            series.append(sum(t.ms for t in self.replay.once()))
        gc.collect()
        gc.freeze()  # what is alive now stays so: the collection before each round has little to look at
        return Warmed(
            workload=self.replay.description,
            boundary=tuple(Boundary(image, click, share) for (image, click), share in self.replay.boundary.items()),
            peak_mb=peak_mb,
            settled=settled(series),
            round_s=series[-1] / 1e3,
            warm_rounds=len(series),
            rss_mb=memory_kb("VmRSS") / 1024,
        )

    def round(self, parts: bool = False) -> Round:
        """One timed pass over the workload, and what else the machine did meanwhile."""
        from harness.latency import contention

        # Another child ran since: one untimed click brings the code and weights of this one back into the caches.
        self.replay.touch()
        with _no_garbage_collection():
            before = contention.read(self.cpus)
            timings = self.replay.once_by_part() if parts else self.replay.once()
            after = contention.read(self.cpus)
        load = contention.between(before, after, len(self.cpus))
        return Round(tuple(timings), load)


def memory_kb(field: str) -> int:
    """VmRSS or VmHWM of this process in KiB; 0 where there is no /proc."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    cause = error.__cause__
    if cause is not None and type(error).__module__.startswith("hydra"):
        text = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
    if "allocate memory" in text or "not enough memory" in text:
        return f"out of memory: {text[:300]}"
    return f"{type(error).__name__}: {text[:500]}"


def _die_with_parent() -> None:
    """A child that hangs must not outlive a killed parent; and it, not the parent, is the one to run out of memory."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
