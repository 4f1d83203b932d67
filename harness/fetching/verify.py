"""Whether what was fetched is still what it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pooch

from harness.errors import UserError
from harness.fetching import places
from harness.fetching.lockfile import LockFile
from harness.fetching.manifests import Entry
from harness.fetching.places import RECORD, SUMS


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was fetched: a file's path, and what is wrong with it."""

    path: str
    wrong: str


def verify(entry: Entry, lock: LockFile, progress: Callable[[int], None] = lambda count: None) -> list[Finding]:
    """Compare every file of an entry with the digests of the fetch, and those with the published or recorded ones.

    Raises:
        UserError: the entry is not here.
    """
    record = places.installed(entry.kind, entry.name)
    if record is None:
        raise UserError(f"{entry.key} is not in {places.home()}: {places.command(entry.kind, entry.name)}")
    folder = places.folder(entry.kind, entry.name)
    sums = _sums(folder / SUMS)
    if sums is None:
        return [Finding(SUMS, "is missing or damaged")]
    findings = []
    for path, expected in sums.items():
        file = folder / path
        try:
            actual = pooch.file_hash(str(file), alg="sha256")
            progress(file.stat().st_size)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            findings.append(Finding(path, "is missing" if missing else str(error.strerror)))
            continue
        if actual != expected:
            findings.append(Finding(path, f"was changed: sha256 {actual[:12]}… where {expected[:12]}… was fetched"))
    findings += [Finding(path, "was not fetched") for path in sorted(_files(folder) - set(sums))]
    for origin in record.files:
        published = next((f for f in entry.files if f.name == origin.name and f.digest), None)
        if (
            published is not None
            and (published.digest or "").startswith("sha256:")
            and published.digest != f"sha256:{origin.sha256}"
        ):
            findings.append(
                Finding(origin.name, f"came as sha256 {origin.sha256[:12]}…, and the manifest has {published.digest}")
            )
        locked = lock.get(f"{entry.key}/{origin.name}")
        if locked is not None and locked.sha256 != origin.sha256:
            findings.append(
                Finding(origin.name, f"came as sha256 {origin.sha256[:12]}…, and {lock.path} has {locked.sha256[:12]}…")
            )
    return findings


def size_of(kind: str, name: str) -> int:
    """Bytes that an entry takes on the disk."""
    folder = places.folder(kind, name)
    return sum((folder / path).stat().st_size for path in _files(folder))


def _sums(path: Path) -> dict[str, str] | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        pairs = [line.split("  ", 1) for line in lines if line]
        return {name: digest for digest, name in pairs}
    except (OSError, ValueError):
        return None


def _files(folder: Path) -> set[str]:
    paths = set()
    for root, _, names in os.walk(folder):
        paths |= {Path(root, name).relative_to(folder).as_posix() for name in names}
    return paths - {RECORD, SUMS}
