"""A share in a process of its own on this machine, for variants that take their process along."""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
import sys
from pathlib import Path

from harness.clicking.quality import Work

_SIGNAL_WORDS = {"SIGSEGV": "segmentation fault", "SIGABRT": "abort", "SIGFPE": "arithmetic error",
                 "SIGILL": "illegal instruction", "SIGBUS": "bus error",
                 "SIGKILL": "as the kernel does when memory runs out"}  # fmt: skip


class Isolated:
    """The process of one share (a `jobs.Handle`).

    Args:
        work: the share.
        folder: of the jobs' files.
        name: of the job.
    """

    def __init__(self, work: Work, folder: Path, name: str):
        folder.mkdir(parents=True, exist_ok=True)
        self._task = folder / f"{name}.task"
        # The search path comes first: the share may name classes of the user's own.
        self._task.write_bytes(pickle.dumps(([p for p in sys.path if p], pickle.dumps((work, folder, name)))))
        self._words = folder / f"{name}.stderr"
        with open(self._words, "wb") as words:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.executors.job", str(self._task)],
                stdin=subprocess.DEVNULL, stdout=words, stderr=words,
            )  # fmt: skip

    def done(self) -> bool:
        """Whether it runs no more."""
        if self._process.poll() is None:
            return False
        self._tidy()
        return True

    def reason(self) -> str:
        """How it died, with its last words; "" if it ended well."""
        code = self._process.poll()
        if not code:
            return ""
        if code > 0:
            words = f"the process ended with exit code {code}"
        else:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                words = f"the process was ended by {name} ({_SIGNAL_WORDS.get(name, 'a signal')})"
        return f"{words}{self._last}"

    def cancel(self) -> None:
        """End it at once."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        self._tidy()

    _last = ""

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            lines = [s for s in self._words.read_text(errors="replace").splitlines() if s.strip()]
            self._last = f"; last words: {lines[-1].strip()[:200]}" if lines else ""
        for path in (self._task, self._words):
            path.unlink(missing_ok=True)
