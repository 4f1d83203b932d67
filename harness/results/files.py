"""Files that several processes share: replaced whole or not at all, and locked where the file system can lock."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

from harness import cli


class Held(Exception):
    """Another process holds the lock."""


class Lock:
    """An exclusive lock on a file, held until `close` or the end of the process; also a context manager.

    Lustre mounted without flock, some NFS and FUSE file systems, and some container sandboxes cannot lock at all. That
    is no other process: the work goes on without the lock, and a line on standard error says so.

    Args:
        path: made if it is missing; its content is of no interest.
        wait: wait for the other process; otherwise `Held` is raised at once.

    Raises:
        Held: another process has it (only with wait=False).
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, wait: bool = False):
        self._file = open(path, "w")  # noqa: SIM115 (held until the process ends)
        self.locked = True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                self._file.close()
                raise Held(str(path)) from error
            self.locked = False
            cli.note(
                f"{path.parent}: its file system cannot lock files ({error.strerror}); going on without the lock. "
                "Let no other command write there meanwhile."
            )

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def replace(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` make a file beside `path`, then put it in the place of `path` in one step.

    Raises:
        OSError: of `write` or of the renaming; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def check_plain(path: Path, most: int) -> None:
    """Look at a file before it is opened: one of anybody's folder may be a FIFO, on which reading waits for ever.

    Raises:
        OSError: missing, a folder, a FIFO or device, or larger than `most` bytes.
    """
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):
        raise OSError("it is a folder, FIFO or device, not a file")
    if state.st_size > most:
        raise OSError(f"{state.st_size:,} bytes; at most {most:,} are read")
