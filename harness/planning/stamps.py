"""Digests of what a variant's settings name on disk, so that other content under an old name makes a new cell."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.fetching.weights import is_name, path_of

MOST_FILES = 1_000
"""Files of a weights folder; a whole tree given by mistake is refused before anything of it is read."""
MOST_BYTES = 64 << 30
"""Bytes of a weight file or folder."""
_NO_WEIGHTS = {".py", ".pyc", ".md"}
_FIX = "give the weight file, or the folder that holds it and little else"


def weights_stamp(config: dict[str, Any]) -> str:
    """Digest of the weights that a variant names, so that new weights make a new cell.

    A name that is no path ("default") means packaged weights: the `weights/` folder beside the class counts, or, for
    classes that have none, that of `inter2former`, which holds the decoders on its encoder.

    Raises:
        UserError: a whole tree, a FIFO or device, or no permission; nothing has been read then.
    """
    weights = config.get("weights")
    if not isinstance(weights, str):
        return ""
    if is_name(weights):
        return content(path_of(weights))
    try:
        path = Path(weights).expanduser()
        present = path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # no permission, a name that is too long, an unknown ~user
        raise UserError(f"weights {weights!r}: {getattr(error, 'strerror', None) or error}; {_FIX}.") from error
    if not present:
        for name in (str(config.get("_target_", "")).partition(".")[0], "inter2former"):
            package = importlib.util.find_spec(name) if name else None
            folder = Path((package.submodule_search_locations or [""])[0]) / "weights" if package else path
            if folder.is_dir():
                return content(folder)
    return content(path)


def content(path: Path) -> str:
    """Digest of a weight file or folder; read once per process while sizes and times stay, since every variant and data
    set asks for it.

    Raises:
        UserError: more files or bytes than weights have, or what is no plain file.
    """
    try:
        return _content(path, tuple((file, size, file.stat().st_mtime_ns) for file, size in _sizes(path)))
    except OSError as error:
        raise UserError(f"weights {path}: {error.strerror or error}; {_FIX}.") from error


@functools.lru_cache(maxsize=64)
def _content(path: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, size, _ in files:
        digest.update(file.name.encode(errors="surrogateescape"))
        with open(file, "rb") as handle:
            left = size
            while left > 0 and (block := handle.read(min(1 << 22, left))):
                digest.update(block)
                left -= len(block)
    return digest.hexdigest()[:16]


def _sizes(path: Path) -> list[tuple[Path, int]]:
    """The files that count and their sizes, sorted; nothing of them is read."""
    if not path.exists():
        return []
    if not path.is_dir():
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"weights {path}: a FIFO, socket or device, not a file; {_FIX}.")
        sizes = [(path, path.stat().st_size)]
    else:
        sizes = []
        for count, file in enumerate(_walk(path)):
            if count >= MOST_FILES:
                raise UserError(f"weights {path}: a folder tree with more than {MOST_FILES:,} files; {_FIX}.")
            if file.is_file() and file.suffix not in _NO_WEIGHTS:
                sizes.append((file, file.stat().st_size))
        sizes.sort()
    total = sum(size for _, size in sizes)
    if total > MOST_BYTES:
        raise UserError(
            f"weights {path}: {total / 2**30:,.0f} GiB; at most {MOST_BYTES / 2**30:.0f} count as weights; {_FIX}."
        )
    return sizes


def _walk(folder: Path) -> Iterator[Path]:
    """All files and folders under a folder, one by one; links to folders are not followed."""
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                yield Path(entry.path)
