"""Whether a folder may take a sweep: `out=` is new, empty or the folder of a sweep."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import UserError

_MARKS = ("clicks.parquet", "cells.json", "machine.json", "measured.json", "failures.csv", "latency.csv", "flops.csv")
"""Files that tell the folder of a sweep; config.yaml is none, many programs have one."""


def require_place(out: str | os.PathLike[str]) -> None:
    """Check that `out` is new, empty or the folder of a sweep; hidden files in it don't count.

    Raises:
        UserError: it holds something else.
    """
    folder = Path(out).expanduser().absolute()
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:  # none there, or not to be read: whoever writes there says so
        return
    if not names or any(name in _MARKS for name in names) or _holds_cells(folder / "cells"):
        return
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    raise UserError(f"out={out}: the folder holds other files ({shown}) and no sweep. Give an empty or a new folder.")


def _holds_cells(folder: Path) -> bool:
    """Whether a folder cells/ is a sweep's: one that has begun has no file in it yet."""
    if not folder.is_dir():
        return False
    names = [path.name for path in folder.iterdir()]
    return not names or any(name.endswith(".jsonl") for name in names)
