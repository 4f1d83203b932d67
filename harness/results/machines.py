"""machine.json: the machine of this run at the top, those of earlier runs in the list `earlier`, newest first.

Every cell and measurement names its machine by `id`, so that no number is shown under a machine, commit or package
version that it was not made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.machine import describe
from harness.planning.identity import MACHINE
from harness.records import BadRecord, require_schema
from harness.results.damaged import read_json
from harness.results.store import Store

NAME = "machine.json"


class Machines:
    """The descriptions of one folder.

    Args:
        store: of the sweep.

    Attributes:
        current: the machine of this run, with peaks where they are known.
    """

    def __init__(self, store: Store):
        self._store = store
        before = read_json(store.out / NAME, _check, store.tell)
        self._entries: dict[str, dict[str, Any]] = {}
        for entry in [before, *before.get("earlier", [])]:
            if entry:
                plain = {key: value for key, value in entry.items() if key not in ("earlier", "schema")}
                # Written before descriptions had an id: what it would be.
                self._entries.setdefault(str(plain.setdefault("id", describe.identity(plain))), plain)
        looked_up = describe.describe(peaks=False)
        self.current = {**self._entries.pop(looked_up["id"], {}), **looked_up}

    @property
    def id(self) -> str:
        """Id of this run's machine."""
        return str(self.current["id"])

    def known_peaks(self, quick: bool) -> bool:
        """Take over the peaks that an earlier run measured on the same hardware, at least as carefully."""
        for entry in (self.current, *self._entries.values()):
            careful = entry.get("quick") in (False, quick)
            if entry.get("peaks") and careful and describe.same_hardware(entry, self.current):
                self.current |= {"peaks": entry["peaks"], "quick": entry["quick"]}
                return True
        return False

    def measure_peaks(self, quick: bool) -> None:
        """Measure the peaks of this machine."""
        self.current |= {"peaks": describe.measured_peaks(quick), "quick": quick}

    def add(self, description: Mapping[str, Any]) -> str:
        """Another machine of this run (a job's node); gives its id."""
        name = str(description["id"])
        if name != self.id:
            self._entries.setdefault(name, dict(description))
        return name

    def write(self) -> None:
        """Put machine.json on disk."""
        self._store.write_json(NAME, {"schema": MACHINE, **self.current, "earlier": [*self._entries.values()]})


def _check(value: Mapping[str, Any]) -> None:
    require_schema(value, (1, MACHINE), missing=1)
    entries = (
        [value, *value["earlier"]] if isinstance(value.get("earlier", []), list) and "earlier" in value else [value]
    )
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("cpu_model"), str):
            raise BadRecord("no description of a machine (no 'cpu_model')")
        if not isinstance(entry.get("peaks", {}), Mapping):
            raise BadRecord("'peaks' is no mapping")
    if not isinstance(value.get("earlier", []), list):
        raise BadRecord("'earlier' is no list")
