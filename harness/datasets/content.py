"""Content hashes of files, remembered by path, size and time of change, since large data sets take minutes to
read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 20


def content_hash(path: Path) -> str:
    """32 hexadecimal digits of BLAKE2b over the content of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class HashCache:
    """Content hashes kept in a small SQLite file; several processes may use it at once.

    A file counts as unchanged while its path, size and time of change (ns) are the same. Without a writable
    cache folder every file is read; nothing else changes.
    """

    def __init__(self, path: Path | None = None):
        self._path = default_cache() if path is None else path

    @contextlib.contextmanager
    def open(self) -> Iterator[_OpenCache]:
        """The cache for the time of one digest."""
        connection = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=10)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, size INT, mtime INT, hash TEXT)"
            )
        except (OSError, sqlite3.Error):
            connection = None
        opened = _OpenCache(connection)
        try:
            yield opened
        finally:
            opened.close()


class _OpenCache:
    def __init__(self, connection: sqlite3.Connection | None):
        self._connection = connection
        self._known: dict[str, tuple[int, int, str]] = {}
        self._new: list[tuple[str, int, int, str]] = []

    def hash(self, path: Path) -> str:
        """Content hash of a file, read only if it changed since the last time."""
        status = path.stat()
        key = os.fspath(path.resolve())
        row = self._row(key)
        if row is not None and row[:2] == (status.st_size, status.st_mtime_ns):
            return row[2]
        found = content_hash(path)
        self._known[key] = (status.st_size, status.st_mtime_ns, found)
        self._new.append((key, *self._known[key]))
        return found

    def _row(self, key: str) -> tuple[int, int, str] | None:
        if key in self._known:
            return self._known[key]
        if self._connection is None:
            return None
        with contextlib.suppress(sqlite3.Error):
            row: tuple[int, int, str] | None = self._connection.execute(
                "SELECT size, mtime, hash FROM hashes WHERE path = ?", (key,)
            ).fetchone()
            return row
        return None

    def close(self) -> None:
        """Write what is new; a cache that cannot be written is no error."""
        if self._connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            self._connection.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)", self._new)
            self._connection.commit()
        self._connection.close()


def default_cache() -> Path:
    """`$IS_BENCH_CACHE`, else the user's cache folder."""
    named = os.environ.get("IS_BENCH_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(named or os.path.join(base, "interactive-segmentation-bench")).expanduser() / "hashes.sqlite"
