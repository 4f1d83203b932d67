"""Digests of files that nobody published one for: recorded at first use, required from then on.

The file is meant to be committed: with it, everybody who runs the same commands gets the same bytes or an error.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import filelock
import yaml

from harness.errors import UserError
from harness.fetching import places

NAME = "is-bench.lock.yaml"
_HEAD = """\
# Digests of fetched files, recorded at first use (python -m harness.fetch). Commit this file: whoever fetches with it
# gets
# the same bytes or an error. To accept another file on purpose, remove its entry and fetch again.
"""
_MOST = 1 << 22


@dataclass(frozen=True)
class Locked:
    """One file as it was at first use.

    Attributes:
        sha256: 64 hexadecimal digits.
        size: bytes.
        url: the address that gave it.
        at: day of the first use.
    """

    sha256: str
    size: int
    url: str
    at: str


def default() -> Path:
    """`is-bench.lock.yaml` of the current folder where it is there, else of the data folder."""
    here = Path(NAME)
    return here.absolute() if here.is_file() else places.home() / NAME


class LockFile:
    """The recorded digests, by `data/grabcut/GrabCut.zip`.

    Args:
        path: of the file; it need not be there.

    Raises:
        UserError: the file is not of this form; the message names the entry.
    """

    def __init__(self, path: Path):
        self.path = path

    def get(self, key: str) -> Locked | None:
        """What is recorded of a file."""
        return self._read().get(key)

    def record(self, key: str, locked: Locked) -> None:
        """Add an entry, unless there is one; other commands may write at the same time.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{self.path}.lock"):
                entries = self._read()
                if key in entries:
                    return
                entries[key] = locked
                text = _HEAD + yaml.safe_dump(
                    {k: vars(entries[k]) for k in sorted(entries)}, sort_keys=False, width=200
                )
                temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, self.path)
        except (OSError, NotImplementedError) as error:
            raise UserError(f"{self.path}: cannot be written ({error}); give another file: lock=FILE.") from error

    def _read(self) -> dict[str, Locked]:
        try:
            if self.path.stat().st_size > _MOST:
                raise UserError(f"{self.path}: more than {_MOST >> 20} MB are no lock file; give another: lock=FILE.")
            values = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{self.path}: {' '.join(str(error).split())[:200]}; mend or remove it.") from error
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise UserError(f"{self.path}: no mapping of files to their digests; mend or remove it.")
        return {str(key): self._entry(str(key), value) for key, value in values.items()}

    def _entry(self, key: str, value: object) -> Locked:
        try:
            assert isinstance(value, dict)
            locked = Locked(
                str(value["sha256"]), int(value["size"]), str(value.get("url", "")), str(value.get("at", ""))
            )
            assert re.fullmatch(r"[0-9a-f]{64}", locked.sha256) and locked.size >= 0
        except (AssertionError, KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.path}: {key}: needs sha256 (64 hexadecimal digits) and size; mend or remove it."
            ) from error
        return locked
