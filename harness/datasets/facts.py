"""What was once learned of a file (content hash, instances), remembered while its size and time of change
stay.

Hashing a large data set and listing the instances of thousands of masks take minutes; a sweep that is started
again, or once per shard, should not pay twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.text import printable

_BLOCK = 1 << 20


def content_hash(path: Path) -> str:
    """32 hexadecimal digits of BLAKE2b over the content of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class FileFacts:
    """Facts of files in a small SQLite file; a context manager, safe in several processes at once.

    A fact is remembered under the path, and valid while size and time of change (ns) are the same. Without a
    writable cache folder every fact is found anew; nothing else changes.

    Args:
        path: the SQLite file; default `$IS_BENCH_CACHE` or the user's cache folder.
    """

    def __init__(self, path: Path | None = None):
        self._path = _default_cache() if path is None else path
        self._connection: sqlite3.Connection | None = None
        self._new: list[tuple[str, str, int, int, str]] = []

    def __enter__(self) -> FileFacts:
        with contextlib.suppress(OSError, sqlite3.Error, UnicodeError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=10)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS facts"
                " (path TEXT, kind TEXT, size INT, mtime INT, value TEXT, PRIMARY KEY (path, kind))"
            )
            self._connection = connection
        return self

    def get(self, path: Path, kind: str, find: Callable[[Path], Any]) -> Any:
        """The fact `kind` of a file: remembered, or `find(path)`, which must be plain JSON."""
        status = path.stat()
        key = printable(path.resolve())
        row = self._row(key, kind)
        if row is not None and row[:2] == (status.st_size, status.st_mtime_ns):
            return json.loads(row[2])
        fact = find(path)
        self._new.append((key, kind, status.st_size, status.st_mtime_ns, json.dumps(fact)))
        return fact

    def _row(self, key: str, kind: str) -> tuple[int, int, str] | None:
        if self._connection is None:
            return None
        with contextlib.suppress(sqlite3.Error):
            row: tuple[int, int, str] | None = self._connection.execute(
                "SELECT size, mtime, value FROM facts WHERE path = ? AND kind = ?", (key, kind)
            ).fetchone()
            return row
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if self._connection is None:
            return
        # A cache that cannot be written (full disk, read-only home) is no error.
        with contextlib.suppress(sqlite3.Error):
            self._connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", self._new)
            self._connection.commit()
        self._connection.close()
        self._connection = None


def _default_cache() -> Path:
    named = os.environ.get("IS_BENCH_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(os.path.expanduser(named or os.path.join(base, "interactive-segmentation-bench"))) / "files.sqlite"
