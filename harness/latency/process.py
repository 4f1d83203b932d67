"""The parent's end of a measuring child: start it, ask it, and turn every way of dying into one line."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.latency import pinning
from harness.latency.records import Answer, Built, Command, Failure, Job, Round, Warmed, line, read_answer
from harness.records import BadRecord


class ChildFailed(Exception):
    """The child gave no number; the message is the reason for the table."""


class ChildProcess:
    """One measuring child.

    Args:
        job: what the child measures; its `threads` also set the child's environment.
        folder: an existing folder for its job file and its standard error.
        name: unique file name stem in that folder.
        timeout_s: longest silence that is waited for.
    """

    def __init__(self, job: Job, folder: Path, name: str, timeout_s: float):
        self.timeout_s = timeout_s
        path = folder / f"{name}.json"
        path.write_text(line(job))
        self._stderr = (folder / f"{name}.stderr").open("w+b")
        self._oom_kills = _oom_kills()
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.latency.child", str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            env=pinning.environment(job.threads, os.environ),
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def begin_build(self) -> None:
        """Let the child build its segmenter, without waiting for it; raises ChildFailed as `round` does."""
        self._send(Command("build"))

    def built(self) -> Built:
        """Wait for what `begin_build` began; raises ChildFailed as `round` does."""
        return self._receive(Built)

    def warm(self, limit_s: float) -> Warmed:
        """Warm up for at most about `limit_s` seconds; raises ChildFailed as `round` does."""
        self._send(Command("warm", limit_s=limit_s))
        return self._receive(Warmed)

    def round(self, parts: bool = False) -> Round:
        """One timed pass over the workload; blocks (no polling: a busy parent would slow the child).

        Args:
            parts: the pass with hooks, timed by part.

        Raises:
            ChildFailed: it crashed, was killed, ran out of memory, fell silent, or answered with an error.
        """
        self._send(Command("round", parts=parts))
        return self._receive(Round)

    def _send(self, command: Command) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line(command).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise ChildFailed(self._how_it_died()) from None

    def _receive(self, kind: type[Answer]) -> Answer:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + self.timeout_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.kill()
                raise ChildFailed(f"no answer for {self.timeout_s:g} s (measure.timeout_s); ended")
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise ChildFailed(self._how_it_died())
            self._buffer += chunk
        text, self._buffer = self._buffer.split(b"\n", 1)
        try:
            answer = read_answer(kind, text)
        except BadRecord as error:
            raise ChildFailed(f"the child's answer is not understood: {error}") from error
        if isinstance(answer, Failure):
            raise ChildFailed(answer.error)
        return answer

    def stop(self) -> None:
        """End the child; never raises."""
        with contextlib.suppress(ChildFailed):
            self._send(Command("stop"))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self.kill()

    def kill(self) -> None:
        """End the child at once; never raises."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _how_it_died(self) -> str:
        code = self._process.wait()
        last = ""
        with contextlib.suppress(OSError, ValueError):
            self._stderr.seek(0)
            lines = [s for s in self._stderr.read().decode(errors="replace").splitlines() if s.strip()]
            last = f"; last words: {lines[-1][:300]}" if lines else ""
        if code >= 0:
            return f"child ended with exit code {code}{last}"
        name = signal.Signals(-code).name
        if code == -signal.SIGKILL and _oom_kills() > self._oom_kills:
            return "out of memory: killed by the kernel (SIGKILL, oom_kill counter rose)"
        hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
        return f"child was killed by {name}{hint}{last}"


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory, of this control group or the machine; 0 where unknown."""
    for path, field in ((Path("/sys/fs/cgroup/memory.events"), "oom_kill"), (Path("/proc/vmstat"), "oom_kill")):
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, value = line.split()
                if name == field:
                    return int(value)
    return 0
