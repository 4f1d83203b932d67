"""Files of the former report in the same folder: those that the new one does not write are removed."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path, PurePosixPath

from harness.results.files import replace

NAME = ".files.json"
"""In the folder of a report: what its last build wrote. Nothing else there is ever removed."""
_LARGEST = 1 << 20


def clear(folder: Path, written: Set[str]) -> None:
    """Remove what a former build wrote and this one did not, and note what this one wrote.

    Args:
        written: paths from the folder, with /.

    Raises:
        OSError: a file cannot be removed or the list not written.
    """
    for name in sorted(_listed(folder / NAME) - written):
        path = folder / name
        if not path.parent.resolve().is_relative_to(folder.resolve()):  # a folder that is a link now
            continue
        if path.is_file() or path.is_symlink():
            path.unlink()
        if path.parent != folder and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    replace(folder / NAME, lambda beside: beside.write_text(json.dumps(sorted(written), indent=1) + "\n"))


def _listed(path: Path) -> set[str]:
    """Paths inside the folder that the list names; none where it is missing or no list of ours."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return set()
        names = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    if not isinstance(names, list):
        return set()
    return {name for name in names if isinstance(name, str) and _inside(name)}


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "\0" not in name and 1 <= len(parts) <= 2 and not name.startswith("/") and ".." not in parts
