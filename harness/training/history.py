"""What happened, step by step: one JSON line per entry in `history.jsonl`."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any


class History:
    """The curves of a run. Appended as it goes; a resumed run drops what lies after its checkpoint.

    Args:
        folder: of the run; None keeps nothing (all processes but the first).
    """

    def __init__(self, folder: Path | None):
        self.path = None if folder is None else folder / "history.jsonl"
        self._file: Any = None

    def add(self, step: int, **values: float) -> None:
        """Add values of a step (from 1); those that are not finite are left out."""
        if not values or self.path is None:
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a")  # noqa: SIM115  # stays open for the whole run
        kept = {name: float(f"{value:.6g}") for name, value in values.items() if math.isfinite(value)}
        self._file.write(json.dumps({"step": step, **kept}) + "\n")
        self._file.flush()

    def read(self) -> list[dict[str, float]]:
        """All entries; a last line cut short by a kill is dropped."""
        entries = []
        if self.path is not None and self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    entries.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        return entries

    def cut(self, step: int) -> None:
        """Drop entries after a step."""
        kept = [entry for entry in self.read() if entry["step"] <= step]
        self._replace("".join(json.dumps(entry) + "\n" for entry in kept))

    def clear(self) -> None:
        """Drop everything."""
        self._replace("")

    def _replace(self, text: str) -> None:
        self._file = None
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(text)
        os.replace(temporary, self.path)
