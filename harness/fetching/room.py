"""Room on the disk: what keeps a file from being written, in the user's words."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable
from pathlib import Path

from harness.errors import UserError

SPARE = 64 << 20
"""Bytes that a transfer leaves free on the disk."""


class NoRoom(UserError):
    """The disk is full, or the file may not be written: no other address helps."""


def no_room(error: OSError, path: Path, title: str) -> NoRoom:
    """The user's words for what keeps a file from being written."""
    where = path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = _free(where)
        left = f", {free / 1e6:,.0f} MB are free" if free is not None else ""
        return NoRoom(
            f"{title}: no room in {where} ({error.strerror}{left}). What came is kept; make room and repeat the "
            "command, or "
            "set IS_BENCH_DATA to a folder on a larger disk."
        )
    return NoRoom(
        f"{title}: cannot write in {where} ({error.strerror or error}); set IS_BENCH_DATA to a folder that you may "
        "write."
    )


def guarded(part: Path, write: Callable[[], object]) -> None:
    """Write beside a partial file; NoRoom where that cannot be."""
    try:
        write()
    except OSError as error:
        raise no_room(error, part, part.name) from error


def check_room(part: Path, total: int | None, have: int) -> None:
    """NoRoom if what is still to come does not fit on the disk."""
    free = _free(part.parent)
    if total is not None and free is not None and total - have + SPARE > free:
        raise NoRoom(
            f"{part.name.removesuffix('.part')}: {(total - have) / 1e6:,.0f} MB are still to come, and {part.parent} "
            "has "
            f"{free / 1e6:,.0f} MB free. Make room, or set IS_BENCH_DATA to a folder on a larger disk."
        )


def _free(folder: Path) -> int | None:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None
