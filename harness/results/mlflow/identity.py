"""`mlflow.json`: the id by which a folder's runs are found again on every server.

It is on disk before the first request is sent, so that no death can part a folder from its runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from harness import cli
from harness.planning.addresses import without_secrets
from harness.results import files
from harness.results.damaged import read_json

STATE = "mlflow.json"
_LONGEST = 64
"""Characters of an id."""


@dataclass(frozen=True)
class Identity:
    """Of a folder.

    Attributes:
        id: stands in a tag of its runs.
        older: tracking URI without secrets -> run, as versions before wrote it, which knew runs by their ids.
    """

    id: str
    older: dict[str, str] = field(default_factory=dict)

    def older_run(self, uri: str) -> str | None:
        """The run that an earlier version made on a server, or None."""
        return self.older.get(without_secrets(uri))


def of(folder: Path, name: str) -> Identity:
    """Read the id, or make and write one. A damaged file is set aside as `mlflow.json.damaged`.

    A new id is made from the place, the name and the first row of each cell, which holds times of this very run: if
    the file gets lost, the same rows give the same id.
    """
    path = folder / STATE
    record = read_json(path, lambda content: None, cli.note)
    older = {}
    for uri, state in record.items():
        run_id = state.get("parent") if isinstance(state, dict) else state
        if uri != "id" and isinstance(run_id, str):
            older[without_secrets(uri)] = run_id
    known = record.get("id")
    usable = isinstance(known, str) and known.isalnum() and known.isascii() and len(known) <= _LONGEST
    identity = Identity(str(known) if usable else _new(folder, name), older)
    kept = {**without_secrets(record), "id": identity.id}
    if kept != record:
        files.replace(path, lambda beside: beside.write_text(json.dumps(kept, indent=1)))
    return identity


def _new(folder: Path, name: str) -> str:
    first_rows = []
    for cell in sorted((folder / "cells").glob("*.jsonl")):
        with open(cell, "rb") as file:
            file.readline()  # the header says what the cell is, not when it was clicked
            first_rows.append(file.readline())
    if not any(first_rows):
        return uuid.uuid4().hex
    origin = b"\0".join([os.fsencode(folder.absolute()), name.encode("utf-8", "surrogatepass"), *first_rows])
    return hashlib.sha256(origin).hexdigest()[:32]
