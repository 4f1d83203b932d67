"""measured.json: what each measuring stage of a sweep's folder was measured under, and whether that still holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.planning.identity import MEASURED
from harness.records import BadRecord, read_as, require_schema
from harness.results.damaged import read_json
from harness.results.store import Store

NAME = "measured.json"


@dataclass(frozen=True)
class Stamp:
    """Everything that a stage's numbers depend on; times depend on the last three as well.

    Attributes:
        variants, measure, samples, protocol: digests of the variants with their weights, of the settings that the stage
            reads, of the names of the workload's samples, and of the protocol.
        base: variant that ratios refer to.
        dataset: digest of the data set.
        node: name of the machine.
        torch: its version.
        code: digest of the code of the variants and of the stage.
        timing_version: what a row of times means.
        threads: that were asked for.
        cpus: that may be used.
    """

    variants: str
    base: str | None
    measure: str
    samples: str
    protocol: str
    dataset: str
    node: str
    torch: str
    code: str
    timing_version: int | None = None
    threads: tuple[int, ...] | None = None
    cpus: tuple[int, ...] | None = None

    def changes(self, before: Stamp) -> list[str]:
        """In words, sorted by name: in what this one differs from that of an earlier run."""
        names = sorted(f.name for f in fields(self) if getattr(self, f.name) != getattr(before, f.name))
        return [_WORDS[name] for name in names]

    def record(self) -> dict[str, Any]:
        """JSON-ready form; without what the stage does not depend on."""
        whole = asdict(self)
        return {name: value for name, value in whole.items() if value is not None or name == "base"}


_WORDS = {
    "measure": "the measure settings",
    "threads": "the number of threads",
    "cpus": "the usable CPUs",
    "torch": "the torch version",
    "code": "the code",
    "node": "the machine",
    "base": "the base variant",
    "variants": "the variants or their weights",
    "dataset": "the data set",
    "samples": "the samples",
    "protocol": "the protocol",
    "timing_version": "what a row of times means",
}


@dataclass(frozen=True)
class Measurement:
    """How a stage's table came about.

    Attributes:
        stamp: what its numbers depend on.
        complete: whether nothing failed.
        file: digest of the table's file.
        machine: id of an entry of machine.json.
        at: begin of the measurement, UTC.
        load_average: of one minute at its begin; -1 where not known.
    """

    stamp: Stamp
    complete: bool
    file: str
    machine: str
    at: str = ""
    load_average: float = -1.0

    def record(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "stamp": self.stamp.record()}


class Measured:
    """The measurements of one folder.

    Args:
        store: of the sweep; a damaged measured.json is set aside.

    Attributes:
        stages: name of a stage -> its measurement.
        old: stages of the first form, which held one digest and cannot be compared.
    """

    def __init__(self, store: Store):
        self._store = store
        content = read_json(store.out / NAME, entries, store.tell)
        self.stages = entries(content) if content else {}
        self.old = {name for name in content if name != "schema"} - set(self.stages)

    def keep(self, name: str, measurement: Measurement) -> None:
        """Note a stage and put the file on disk."""
        self.stages[name] = measurement
        self._write()

    def drop(self, name: str) -> None:
        """Forget a stage and put the file on disk."""
        self.old.discard(name)
        if self.stages.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        records = {stage: one.record() for stage, one in self.stages.items()}
        self._store.write_json(NAME, {**records, "schema": MEASURED})


def entries(value: Mapping[str, Any]) -> dict[str, Measurement]:
    """The measurements of a file's content; those of the first form, one text each, are left out."""
    schema = require_schema(value, (1, MEASURED), missing=1)
    measurements: dict[str, Measurement] = {}
    for name, entry in value.items():
        if name == "schema" or (schema == 1 and isinstance(entry, str)):
            continue
        try:
            measurements[name] = read_as(Measurement, entry)
        except BadRecord as error:
            raise BadRecord(f"{name!r} is no stamp of a measurement ({error})") from error
    return measurements


def content_digest(path: Path) -> str:
    """Short digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
