"""The parent's end of a measuring child: start it, ask it, and turn every way of dying into one line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.latency import pinning


class ChildFailed(Exception):
    """The child gave no number; the message is the reason for the table."""


class ChildProcess:
    """One measuring child.

    Args:
        job: what `harness.latency.child.Child` reads; `cpus` and `threads` also set the child's environment.
        folder: an existing folder for its job file and its standard error.
        name: unique file name stem in that folder.
        timeout_s: longest silence that is waited for.
    """

    def __init__(self, job: dict[str, Any], folder: Path, name: str, timeout_s: float):
        self.timeout_s = timeout_s
        path = folder / f"{name}.json"
        path.write_text(json.dumps(job))
        self._stderr = (folder / f"{name}.stderr").open("w+b")
        self._oom_kills = _oom_kills()
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.latency.child", str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            env=pinning.environment(job["threads"], os.environ),
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and block until its answer (no polling: a busy parent would slow the child).

        Raises:
            ChildFailed: it crashed, was killed, ran out of memory, fell silent, or answered with an error.
        """
        self.send(**command)
        return self.receive()

    def send(self, **command: Any) -> None:
        """Send a command without waiting for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise ChildFailed(self._how_it_died()) from None

    def receive(self) -> dict[str, Any]:
        """Wait for one answer; raises ChildFailed as `ask` does."""
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
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer = json.loads(line)
        if "error" in answer:
            raise ChildFailed(answer["error"])
        return answer

    def stop(self) -> None:
        """End the child; never raises."""
        with contextlib.suppress(ChildFailed):
            self.send(do="stop")
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
