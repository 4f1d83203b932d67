"""The folder of a sweep: results on disk first, tables made from them.

Layout under `out`:
    cells/<key>.jsonl   what the cell is, then one line per episode or its error (harness/results/cells.py)
    clicks.parquet, summary.csv, …   made from those lines, replaced atomically
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from harness.errors import UserError
from harness.results import files
from harness.results.cells import CellFile
from harness.results.damaged import Tell
from harness.results.schema import CellHeader


class Store:
    """The folder of one sweep.

    Args:
        out: folder; created if missing.
        tell: called with one line of text about what had to be set aside; by default it goes to standard error.

    Raises:
        UserError: the folder cannot be written, or another sweep writes there now.
    """

    def __init__(self, out: str | os.PathLike[str], tell: Tell | None = None):
        self.tell = tell or (lambda text: print(text, file=sys.stderr))
        self.out = Path(out).expanduser().absolute()
        if any("\udc80" <= character <= "\udcff" for character in str(self.out)):
            raise UserError(
                f"out={self.out}: the folder's name has bytes that are not UTF-8, which Parquet and MLflow cannot "
                "open. Choose another folder with out=DIR."
            )
        try:
            (self.out / "cells").mkdir(parents=True, exist_ok=True)
            self._lock = files.Lock(self.out / ".lock")
        except OSError as error:
            raise UserError(
                f"cannot write to out={self.out}: {error.strerror}. Choose another folder with out=DIR."
            ) from error
        except files.Held as error:
            raise UserError(
                f"another sweep is writing to {self.out}. Wait for it, or choose another out=DIR."
            ) from error
        self._cells: dict[str, CellFile] = {}
        self.added = False
        """Whether this command did something that was missing."""

    def cell(self, key: str, header: CellHeader) -> CellFile:
        """The cell's file, opened once."""
        if key not in self._cells:
            self._cells[key] = CellFile(self.out / "cells" / f"{key}.jsonl", header, self.tell)
        return self._cells[key]

    def write_table(self, name: str, frame: pd.DataFrame) -> Path:
        """Replace `name` (.csv or .parquet) atomically."""
        if name.endswith(".parquet"):
            return self._replace(name, lambda path: frame.to_parquet(path, index=False))
        return self._replace(name, lambda path: frame.to_csv(path, index=False))

    def write_json(self, name: str, value: Any) -> Path:
        """Replace a JSON file atomically."""
        return self._replace(name, lambda path: path.write_text(json.dumps(value, indent=1, default=str) + "\n"))

    def write_yaml(self, name: str, value: Any) -> Path:
        """Replace a YAML file atomically."""
        return self._replace(name, lambda path: path.write_text(yaml.safe_dump(value, sort_keys=False, width=110)))

    def remove(self, *names: str) -> None:
        """Delete files of the folder, those that are there."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self.out / name).unlink()

    def close(self) -> None:
        """Close every cell and let others write here."""
        for cell in self._cells.values():
            cell.close()
        self._cells.clear()
        self._lock.close()

    def _replace(self, name: str, write: Any) -> Path:
        path = self.out / name
        try:
            return files.replace(path, write)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}. Free some space and repeat the command."
            ) from error
