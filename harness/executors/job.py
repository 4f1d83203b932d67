"""The other end of a job: does a share in this process and writes every episode down as it ends.

Also a program, `python -m harness.executors.job FILE`, for a share in a process of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import platform
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from harness.clicking import quality
from harness.clicking.limits import Guard
from harness.clicking.quality import Work
from harness.executors import spool
from harness.executors.jobs import cells_of
from harness.machine import describe


def collect(work: Work, folder: Path, name: str, owner: tuple[str, int] | None = None) -> None:
    """Do a share.

    Args:
        folder, name: of the job's files.
        owner: node and process of the sweep, where the job shall end with it.
    """
    if owner is not None and owner[0] == platform.node():
        threading.Thread(target=_end_with, args=(owner[1],), name="owner", daemon=True).start()
    writer = spool.Writer(folder, name, cells_of(work), describe.describe(peaks=False))
    whole = False
    try:
        for result in quality.run(work, guard=Guard(work.limit_s, writer)):
            writer.add(result)
        whole = True
    finally:
        writer.close(whole)


def _end_with(process: int) -> None:
    """Wait for the end of another process, however it was killed, and end this one."""
    with contextlib.suppress(psutil.Error):
        sweep = psutil.Process(process)  # remembers when it began, so that a reused id is not taken for it
        while sweep.is_running() and sweep.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Read the pickled (search path, share, folder, name) and do it; ends with its parent."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    with open(sys.argv[1], "rb") as file:
        path, rest = pickle.load(file)
        sys.path[:0] = [entry for entry in path if entry not in sys.path]
        work, folder, name = pickle.loads(rest)
    collect(work, folder, name)


if __name__ == "__main__":
    main()
