"""An entry from its manifest to its place: transfer, unpack, look for the layout, and rename the whole in one step."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from harness.errors import UserError
from harness.fetching import hub, obtain, places, room, unpack
from harness.fetching.lockfile import LockFile
from harness.fetching.manifests import Download, Entry, matches
from harness.fetching.obtain import Errand, Meter, Tell, no_meter
from harness.fetching.places import RECORD, SUMS, Installed, Origin
from harness.fetching.transfer import Rules

_DEEPEST = 4
"""Folders under an archive's own in which a layout is looked for."""


@dataclass(frozen=True)
class Way:
    """How a command wants things brought.

    Attributes:
        lock: file of recorded digests.
        rules: timeouts and retries.
        keep: leave the archives in `incoming/` after they were unpacked.
        again: fetch anew what is here.
        sources: files that a person downloaded (`from=`); empty: the network.
        tell: for lines that the user should read.
        meter: for progress.
    """

    lock: LockFile
    rules: Rules = Rules()
    keep: bool = False
    again: bool = False
    sources: tuple[Path, ...] = ()
    tell: Tell = lambda text: None
    meter: Meter = no_meter


def install(entry: Entry, way: Way) -> Installed:
    """Bring an entry to its place, unless it is there; safe beside another process that does the same.

    Returns:
        Its record.

    Raises:
        UserError: no address gives it, a wrong digest, a bad archive, a layout that is not there, full disk, …; nothing
            half-done lies under its name then.
    """
    _require_folder(entry)
    with _alone(entry, way.tell):
        here = places.installed(entry.kind, entry.name)
        if here is not None and not way.again:
            way.tell(f"{entry.key}: is here, {here.path}")
            return here
        target = places.folder(entry.kind, entry.name)
        if here is None and target.exists() and not (target / RECORD).exists() and any(target.iterdir()):
            raise UserError(
                f"{target}: lies there already and was not fetched; move it away, or use it as it is: "
                f"{'dataset.root' if entry.kind == 'data' else 'variant.weights'}={target}."
            )
        incoming = places.home() / "incoming" / f"{entry.kind}-{entry.name}"
        _clean(entry, incoming)
        origins = _bring(entry, way, incoming)
        staging = places.home() / entry.kind / f".{entry.name}.{os.getpid()}.staging"
        try:
            try:
                staging.mkdir(parents=True)
                record = _stage(entry, origins, incoming, staging, way)
                for file, origin in origins:  # not before: a page or a cut archive is nothing to hold others to
                    obtain.remember(f"{entry.key}/{file.name}", origin, way.lock)
                _put(staging, target)
            except OSError as error:
                raise room.no_room(error, staging / "x", entry.key) from error
            except room.NoRoom:
                raise
            except UserError:  # not what was wanted: the next command must not take it for whole
                for file, _ in origins:
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(incoming / file.name, incoming / f"{file.name}.rejected")
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        if not way.keep:
            shutil.rmtree(incoming, ignore_errors=True)
        return record


def _bring(entry: Entry, way: Way, incoming: Path) -> list[tuple[Download, Origin]]:
    command = places.command(entry.kind, entry.name)
    if way.sources:
        return _from_files(entry, way, incoming, command)
    if not entry.files:
        where = f" {entry.by_hand}" if entry.by_hand else ""
        raise UserError(f"{entry.key}: no program can fetch it.{where} Then: {command} from=FILE.")
    files: list[tuple[Download, hub.Headers]] = [(file, ()) for file in entry.files]
    if any(file.on_hub for file in entry.files):
        files = hub.expanded(entry, way.rules.timeout_s)
    _make(incoming, entry)
    return [
        (
            f,
            obtain.obtain(
                Errand(f"{entry.key}/{f.name}", f, incoming, command, headers), way.lock, way.rules, way.tell, way.meter
            ),
        )
        for f, headers in files
    ]


def _from_files(entry: Entry, way: Way, incoming: Path, command: str) -> list[tuple[Download, Origin]]:
    """The user's files in the place of the manifest's: by name, or in its order where there are as many."""
    unpack_rule = "auto" if entry.kind == "data" else "none"
    files = [f for f in entry.files if not f.on_hub] or [Download(s.name, unpack=unpack_rule) for s in way.sources]
    by_name = {s.name: s for s in way.sources}
    pairs: list[tuple[Download, Path | None]] = [(file, by_name.get(file.name)) for file in files]
    if any(source is None for _, source in pairs) and len(way.sources) == len(files):
        pairs = [(file, source) for file, source in zip(files, way.sources, strict=True)]
    chosen = []
    for file, source in pairs:
        if source is None:
            names = ", ".join(f.name for f in files)
            raise UserError(f"{entry.key} has {len(files)} files ({names}); give each: from=FILE,FILE.")
        # What a person has unpacked already is taken as it is.
        if entry.kind == "weights" and file.unpack != "none" and matches(source.name, entry.use):
            file = Download(source.name)
        chosen.append((file, source))
    return [
        (file, obtain.bring(source.expanduser(), Errand(f"{entry.key}/{file.name}", file, incoming, command), way.lock))
        for file, source in chosen
    ]


def _stage(
    entry: Entry, origins: Sequence[tuple[Download, Origin]], incoming: Path, staging: Path, way: Way
) -> Installed:
    """Everything that the entry's folder will hold, its record last."""
    members: list[unpack.Member] = []
    for file, origin in origins:
        source = incoming / file.name
        if file.unpack == "none":
            place = staging / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copyfile if way.keep else os.replace)(source, place)
            members.append(unpack.Member(file.name, origin.sha256))
        else:
            way.tell(f"{file.name}: unpacking")
            members += unpack.unpack(source, staging, file.unpack)
    use = _root(entry, staging) if entry.kind == "data" else _weights(entry, members)
    if entry.kind == "weights" and (staging / use).is_file() and _cut_off(staging / use):
        raise UserError(
            f"{entry.key}: {Path(use).name} ends before its table of contents: it was cut off; fetch it again."
        )
    (staging / SUMS).write_text(
        "".join(f"{m.sha256}  {m.path}\n" for m in sorted(members, key=lambda m: m.path)),
        encoding="utf-8",
        errors="surrogateescape",
    )
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = Installed(entry.kind, entry.name, use, at, tuple(origin for _, origin in origins))
    (staging / RECORD).write_text(json.dumps(record.record(), indent=1), encoding="utf-8")
    return record


def _root(entry: Entry, staging: Path) -> str:
    """The folder of the unpacked tree that has the layout, nearest to the top."""
    level = [staging]
    for _ in range(_DEEPEST + 1):
        fitting = [f for f in level if all((f / part).exists() for part in entry.layout)]
        if len(fitting) == 1:
            return fitting[0].relative_to(staging).as_posix()
        if fitting:
            names = ", ".join(sorted(f.relative_to(staging).as_posix() for f in fitting))
            raise UserError(f"{entry.key}: the layout ({', '.join(entry.layout)}) is there several times: {names}.")
        level = [child for f in level for child in sorted(f.iterdir()) if child.is_dir()]
    inside = ", ".join(sorted(p.relative_to(staging).as_posix() for p in staging.glob("*/*"))[:8]) or "nothing"
    raise UserError(
        f"{entry.key}: no folder of it has {' and '.join(entry.layout)} (it holds: {inside}). It is not the package "
        "that was "
        "expected; if it is yours, unpack it and give dataset.root=DIR."
    )


def _weights(entry: Entry, members: Sequence[unpack.Member]) -> str:
    """The file that a variant loads."""
    if entry.use == ".":
        return "."
    fitting = [m.path for m in members if matches(m.path, entry.use)]
    if len(fitting) != 1:
        names = ", ".join(m.path for m in members[:6])
        raise UserError(f"{entry.key}: expected one file like {entry.use!r}, found {len(fitting)} (it holds: {names}).")
    return fitting[0]


def _cut_off(path: Path) -> bool:
    """Whether a file begins as torch's archives do, and does not end as they do."""
    with open(path, "rb") as file:
        start = file.read(4)
    return start == b"PK\x03\x04" and not zipfile.is_zipfile(path)


def _put(staging: Path, target: Path) -> None:
    """The whole folder under its name in one step; what was there goes afterwards."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        os.replace(target, old)
    os.replace(staging, target)
    shutil.rmtree(old, ignore_errors=True)


def _clean(entry: Entry, incoming: Path) -> None:
    """Remove what a killed command left; its partial transfers stay."""
    for left in (places.home() / entry.kind).glob(f".{entry.name}.*"):
        if left.suffix in (".staging", ".old"):
            shutil.rmtree(left, ignore_errors=True)
    for temporary in incoming.glob("tmp*") if incoming.is_dir() else ():  # pooch's
        with contextlib.suppress(OSError):
            temporary.unlink()


def _make(folder: Path, entry: Entry) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise room.no_room(error, folder / "x", entry.key) from error


def _require_folder(entry: Entry) -> None:
    """The data folder can be made and written, before anything is asked of anybody."""
    probe = places.home() / ".locks"
    _make(probe, entry)
    if not os.access(probe, os.W_OK):
        raise room.no_room(PermissionError(13, "Permission denied"), probe, entry.key)


@contextlib.contextmanager
def _alone(entry: Entry, tell: Tell) -> Iterator[None]:
    """One process at a time for an entry; another one waits and then finds it done."""
    path = places.home() / ".locks" / f"{entry.kind}-{entry.name}.lock"
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            tell(f"{entry.key}: another command is fetching it; waiting until it is done.")
            lock.acquire()
    except NotImplementedError:
        tell(f"{path.parent}: its file system cannot lock files; let no other command fetch meanwhile.")
    except OSError as error:
        raise room.no_room(error, path, entry.key) from error
    try:
        yield
    finally:
        lock.release()
