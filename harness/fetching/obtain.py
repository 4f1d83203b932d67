"""One file of an entry, from the first address that gives the right one; pooch checks it and gives it its name."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from harness.errors import UserError
from harness.fetching import network, room, transfer
from harness.fetching.lockfile import Locked, LockFile
from harness.fetching.manifests import Download
from harness.fetching.network import Broken, Failed
from harness.fetching.places import Origin
from harness.fetching.transfer import Expected, Rules

Tell = Callable[[str], None]
Meter = Callable[[str, "int | None"], "contextlib.AbstractContextManager[transfer.Progress]"]
"""(title, bytes or None) -> a context manager that gives a function for the progress."""


@contextlib.contextmanager
def no_meter(title: str, total: int | None) -> Iterator[transfer.Progress]:
    """Progress that nobody sees."""
    yield lambda have, total: None


@dataclass(frozen=True)
class Errand:
    """One file to bring.

    Attributes:
        key: `data/grabcut/GrabCut.zip`, its name in the lock file.
        file: what the manifest says.
        folder: where it, and what is left of an interrupted transfer, lies.
        command: to repeat, for messages.
        headers: of the request, for gated repositories.
    """

    key: str
    file: Download
    folder: Path
    command: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> Path:
        """The whole file."""
        return self.folder / self.file.name

    @property
    def part(self) -> Path:
        """What came of it so far."""
        return self.folder / f"{self.file.name}.part"


class WrongDigest(Failed):
    """The file is whole, but another one than was published or recorded."""


def obtain(errand: Errand, lock: LockFile, rules: Rules, tell: Tell, meter: Meter = no_meter) -> Origin:
    """Bring a file to `errand.target`; a mirror after the other.

    Raises:
        UserError: no address gave it; the message has one reason an address.
        NoRoom: full disk, no permission.
    """
    pooch.get_logger().setLevel("ERROR")  # every line is this project's own
    file, failures = errand.file, []
    expected, said_by = expectation(errand.key, file, lock)
    network.require_online(f"{errand.key}")
    for url in file.urls:
        try:
            with network.session() as session:
                _from(session, url, errand, expected, said_by, rules, tell, meter)
            return settled(errand.target, file, errand.key, url, lock, expected)
        except Failed as error:
            failures.append(str(error))
            if url != file.urls[-1]:
                tell(f"{file.name}: {error}; trying the next address.")
    reasons = "; ".join(dict.fromkeys(failures)) or "no address is known"
    kept = " What came is kept, and continued by the same command." if errand.part.exists() else ""
    raise UserError(f"{errand.key}: {reasons}.{kept} Or bring the file from elsewhere: {errand.command} from=FILE.")


def expectation(key: str, file: Download, lock: LockFile) -> tuple[str | None, str]:
    """The digest that a file must have, as "md5:…" or "sha256:…", and who says so."""
    if file.digest is not None:
        return file.digest, file.digest_from or "the manifest"
    if (locked := lock.get(key)) is not None:
        return f"sha256:{locked.sha256}", f"{lock.path}, recorded at first use on {locked.at}"
    return None, ""


def settled(path: Path, file: Download, key: str, url: str, lock: LockFile, expected: str | None) -> Origin:
    """Where a whole file came from.

    Raises:
        UserError: the lock file has another SHA-256 although the published digest fits.
    """
    sha256, size = pooch.file_hash(str(path), alg="sha256"), path.stat().st_size
    locked = lock.get(key)
    if locked is not None and locked.sha256 != sha256:
        raise UserError(
            f"{path}: sha256 {sha256}, and {lock.path} recorded {locked.sha256} on {locked.at}. If the publisher "
            "replaced the "
            "file on purpose, remove that entry."
        )
    return Origin(file.name, url, size, sha256)


def remember(key: str, origin: Origin, lock: LockFile) -> None:
    """Record the SHA-256 of a file that turned out to be what was wanted, unless it is recorded."""
    lock.record(key, Locked(origin.sha256, origin.size, origin.url, time.strftime("%Y-%m-%d", time.gmtime())))


def _from(
    session: requests.Session,
    url: str,
    errand: Errand,
    expected: str | None,
    said_by: str,
    rules: Rules,
    tell: Tell,
    meter: Meter,
) -> None:
    """One address: try again while it breaks off; once more from the start if a continued file turns out wrong."""
    file = errand.file
    expectation = Expected(file.name, file.size, file.bytes, expected is not None, errand.headers)
    for fresh in (False, True):
        bring = _Downloader(session, errand, expectation, rules, tell, meter)
        try:
            pooch.retrieve(url, expected, errand.file.name, str(errand.folder), downloader=bring)
            transfer.forget(errand.part)
            return
        except ValueError as error:  # pooch's word for a wrong digest
            if bring.continued and not fresh:
                transfer.forget(errand.part)
                tell(f"{file.name}: wrong digest after it was continued; fetching it from its beginning.")
                continue
            raise _rejected(errand, expected or "", said_by, url) from error
        except PermissionError as error:
            raise room.no_room(error, errand.target, file.name) from error
        except OSError as error:
            if isinstance(error, requests.RequestException):
                raise network.failure(error, url) from error
            raise room.no_room(error, errand.target, file.name) from error


def _rejected(errand: Errand, expected: str, said_by: str, url: str) -> WrongDigest:
    """Put a wrong file aside, so that it is never used and can be looked at."""
    aside = errand.target.with_name(f"{errand.file.name}.rejected")
    algorithm = expected.partition(":")[0]
    actual = pooch.file_hash(str(errand.part), alg=algorithm)
    os.replace(errand.part, aside)
    transfer.forget(errand.part)
    return WrongDigest(
        f"{network.urlsplit(url).netloc} gave {algorithm} {actual} where {expected.partition(':')[2]} was expected "
        f"({said_by}); kept aside as {aside}"
    )


class _Downloader:
    """pooch's hook: brings the bytes to a partial file that outlives the process, then hands them over."""

    def __init__(
        self, session: requests.Session, errand: Errand, expectation: Expected, rules: Rules, tell: Tell, meter: Meter
    ):
        self.session, self.errand, self.expectation, self.rules = session, errand, expectation, rules
        self.tell, self.meter = tell, meter
        self.continued = False

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Called by pooch with the path of a temporary file."""
        part, tries, before = self.errand.part, 0, -1
        with self.meter(self.expectation.title, self.expectation.about) as progress:
            while True:
                try:
                    self.continued |= transfer.transfer(self.session, url, part, self.expectation, self.rules, progress)
                    break
                except Broken as error:
                    have = part.stat().st_size if part.exists() else 0
                    tries = 0 if have > before >= 0 else tries + 1
                    before = max(before, have)
                    if tries > self.rules.retries:
                        raise Failed(str(error)) from error
                    pause = (
                        error.after_s if error.after_s is not None else min(60.0, self.rules.wait_s * 2 ** (tries - 1))
                    )
                    self.tell(f"{self.expectation.title}: {error}; trying again.")
                    time.sleep(max(pause, 0.0))
        _same(part, Path(output_file))


def _same(part: Path, target: Path) -> None:
    """The same bytes under pooch's name; the partial file stays until pooch has found its digest right."""
    target.unlink(missing_ok=True)
    try:
        os.link(part, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(part, target)


def bring(source: Path, errand: Errand, lock: LockFile) -> Origin:
    """Copy the user's own file to `errand.target`, with the checks that a transfer gets.

    Raises:
        UserError: no such file, or another one than was published or recorded.
        NoRoom: full disk, no permission.
    """
    expected, said_by = expectation(errand.key, errand.file, lock)
    if not source.is_file():
        kind = "a folder; give its root to the sweep: dataset.root=DIR" if source.is_dir() else "no such file"
        raise UserError(f"from={source}: {kind}.")
    if expected is not None:
        algorithm, _, value = expected.partition(":")
        actual = pooch.file_hash(str(source), alg=algorithm)
        if actual != value:
            raise UserError(
                f"from={source}: {algorithm} {actual} where {value} was expected ({said_by}). It is another file than "
                "the "
                "published one; a copy of your own belongs to dataset.root=DIR or variant.weights=FILE."
            )
    try:
        errand.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, errand.part)
        os.replace(errand.part, errand.target)
    except OSError as error:
        errand.part.unlink(missing_ok=True)
        raise room.no_room(error, errand.target, errand.file.name) from error
    return settled(errand.target, errand.file, errand.key, str(source), lock, expected)
