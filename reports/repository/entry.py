"""What a repository knows of one entry: a system on a data set under a protocol on a machine.

An entry is a folder `<system>/<dataset>/<protocol>/<machine>/<id>/` that holds

    entry.json      this record (its JSON schema is `entry.schema.json`, beside this file)
    rows.parquet    one row per sample and click, as measured
    summary.csv     every metric with its interval, made from the rows
    flops.csv, latency.csv    of this system, where they were measured
    verified.json   what a maintainer's rerun gave, where there was one

Nothing in an entry is ever built or executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from harness.clicking.records import read_as

FORM = 1
"""Form of an entry's folder."""

ROW_COLUMNS = (
    "sample", "image", "click", "y", "x", "positive", "iou", "biou", "encode_ms", "online_ms", "simulate_ms",
    "object_share", "size_bin", "height", "width",
)  # fmt: skip
"""Columns of rows.parquet. What is equal in all rows stands in entry.json instead."""

TRAINED = ("released", "trained here")
"""States of weights that say that somebody trained them."""
SMALL_SET = 30
"""Samples below which an entry is marked as small."""


@dataclass(frozen=True)
class MachineFacts:
    """What is kept of machine.json; neither a host's name nor a path.

    Attributes:
        kind: name of all machines of this hardware, the folder's name.
        id: of this machine with its packages and commit, as rows have it.
    """

    kind: str
    id: str = ""
    cpu_model: str = ""
    architecture: str = ""
    cores_usable: int = 0
    memory_gb: float = 0.0
    virtual: bool | None = None
    instruction_sets: tuple[str, ...] = ()
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightsFacts:
    """State of the weights (released, trained here, untrained, no weights), their digest and number."""

    status: str
    digest: str = ""
    parameters: int = 0


@dataclass(frozen=True)
class DataFacts:
    """The data set: its name, content digest, settings without paths, and how many samples and images it has."""

    name: str
    digest: str
    samples: int
    images: int
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CodeFacts:
    """The code: commit, digest of what decides the rows, and whether some of that was not committed."""

    commit: str = ""
    digest: str = ""
    dirty: bool = False


@dataclass(frozen=True)
class Entry:
    """One entry's record.

    Attributes:
        id: first 12 hex digits of the digest of the rows and of everything that they depend on.
        system: name of the system, from the variant's settings; equal settings have equal names.
        variant: what the sweep called it.
        settings: of the variant, without paths.
        protocol: name and, where they differ from the named protocol's, settings: the folder's name.
        protocol_record: the rules.
        deviations: settings that the protocol would have otherwise.
        primary: the metric that was named beforehand.
        at: when the last row was made, UTC.
        rows: digest of the rows' values.
        files: name of every other file -> its SHA-256.
        card: what was known of the system when it was submitted: paper, licences, training sets, …; may be empty.
    """

    id: str
    system: str
    variant: str
    settings: dict[str, Any]
    data: DataFacts
    protocol: str
    protocol_record: dict[str, Any]
    weights: WeightsFacts
    code: CodeFacts
    machine: MachineFacts
    rows: str
    files: dict[str, str]
    card: dict[str, Any] = field(default_factory=dict)
    at: str = ""
    primary: str = "noc90"
    deviations: tuple[str, ...] = ()
    protocol_version: int = 1
    metrics_version: int = 1
    statistics_version: int = 1
    form: int = FORM

    @property
    def path(self) -> str:
        """Where it lies in a repository."""
        return "/".join((self.system, self.data.name, self.protocol, self.machine.kind, self.id))

    @property
    def small(self) -> bool:
        """Whether it has so few samples that it must be said."""
        return self.data.samples < SMALL_SET

    def record(self) -> dict[str, Any]:
        """JSON-ready form."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def read(cls, value: Any) -> Entry:
        """The entry of `record`'s form.

        Raises:
            BadRecord: a field is missing, unknown or of another kind.
        """
        return read_as(cls, value)


@dataclass(frozen=True)
class Verification:
    """What a maintainer's rerun of an entry gave.

    Attributes:
        outcome: "equal" (every row) or "no difference shown" (the decision function's words for the primary metric).
        differing: samples whose primary metric differs.
        commit, machine: of the rerun.
        rows: digest of the rerun's rows.
        at: when it ran, UTC.
    """

    outcome: str
    differing: int
    samples: int
    commit: str
    machine: str
    rows: str
    at: str = ""


def row_digest(rows: pd.DataFrame) -> str:
    """SHA-256 of the rows' values (not of a file's bytes, which depend on the library that wrote it)."""
    digest = hashlib.sha256()
    for name in ROW_COLUMNS:
        digest.update(name.encode())
        for value in rows[name].tolist():
            digest.update(f"{value!r}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def identify(facts: Iterable[object]) -> str:
    """The id of an entry: a digest of these facts."""
    text = json.dumps([*facts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they may be published: a path is its last part, a data set's root is left out."""
    return {str(k): _plain(v) for k, v in settings.items() if k not in ("root", "shard")}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_paths(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, str) and ("/" in value or "\\" in value) and "://" not in value:
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return value
