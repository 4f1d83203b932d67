"""Where fetched things lie, and what was fetched: the one place that turns a fetched name into a path.

Under the data folder (`IS_BENCH_DATA`, else the user's data folder as platformdirs names it):

    data/NAME/…       an unpacked data set         weights/NAME/…   a checkpoint
    …/.fetched.json   what it came from            …/.sha256sums    its files, as `sha256sum -c` reads them
    incoming/         transfers that are under way .locks/          one lock an entry
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import platformdirs

from harness.errors import UserError

APPLICATION = "interactive-segmentation-bench"
VARIABLE = "IS_BENCH_DATA"
KINDS = ("data", "weights")
FETCHED = "fetched:"
"""Beginning of a data set's root that stands for the folder of a fetched one, `fetched:grabcut`."""
RECORD, SUMS = ".fetched.json", ".sha256sums"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
"""Names of entries and of their files: no path in them."""
_MOST_RECORD = 1 << 22


@dataclass(frozen=True)
class Origin:
    """One file as it came.

    Attributes:
        name: of the file.
        url: the address that gave it, or the path of the user's own file.
        size: bytes.
        sha256: 64 hexadecimal digits.
    """

    name: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Installed:
    """What lies in an entry's folder.

    Attributes:
        kind, name: of the entry.
        use: what a setting points to, relative to the folder: a data set's root, a checkpoint's file.
        at: time of the fetch, UTC.
        files: what was transferred.
        version: form of this record.
    """

    kind: str
    name: str
    use: str
    at: str = ""
    files: tuple[Origin, ...] = field(default_factory=tuple)
    version: int = 1

    @property
    def path(self) -> Path:
        """The root or the checkpoint."""
        return folder(self.kind, self.name) / self.use

    def record(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def home() -> Path:
    """The data folder; nothing is made.

    Raises:
        UserError: `IS_BENCH_DATA` is no path.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return platformdirs.user_data_path(APPLICATION)
    try:
        return Path(named).expanduser().absolute()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{VARIABLE}={named}: {error}; give the path of a folder.") from error


def folder(kind: str, name: str) -> Path:
    """Folder of an entry, whether it is there or not."""
    return home() / kind / name


def installed(kind: str, name: str) -> Installed | None:
    """What was fetched under a name; None where nothing (whole) lies there."""
    if not NAME.fullmatch(name):
        return None
    record = read_record(folder(kind, name) / RECORD)
    if record is None or (record.kind, record.name) != (kind, name) or not record.path.exists():
        return None
    return record


def read_record(path: Path) -> Installed | None:
    """A record from disk; None where there is none, or where it is none of ours."""
    try:
        if path.stat().st_size > _MOST_RECORD:
            return None
        values = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(Origin(str(f["name"]), str(f["url"]), int(f["size"]), str(f["sha256"])) for f in values["files"])
        use = PurePosixPath(str(values["use"]))
        if use.is_absolute() or ".." in use.parts:
            return None
        return Installed(str(values["kind"]), str(values["name"]), str(use), str(values["at"]), files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def data_root(text: str) -> Path:
    """The folder of `fetched:NAME`.

    Raises:
        UserError: it has not been fetched; the message is the command that does it.
    """
    name = text.removeprefix(FETCHED)
    record = installed("data", name)
    if record is None:
        raise UserError(f"data set {name!r} is not here: {command('data', name)} (into {home()})")
    return record.path


def command(kind: str, name: str) -> str:
    """The command that fetches an entry."""
    return f"python -m harness.fetch {kind}={name}"
