"""Every record and column of a sweep's folder: header of a cell, origin of its episodes, rows of clicks.parquet.

The episode itself is `harness.clicking.records.Episode`; version numbers are in `harness.planning.identity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.clicking.records import Episode
from harness.planning.identity import READABLE_SCHEMAS, SCHEMA
from harness.records import read_as, require_schema


@dataclass(frozen=True)
class CellHeader:
    """First line of a cell's file: everything that its rows depend on.

    Attributes:
        cell: key of the cell, as in its file name.
        variant, variant_config: name in the tables, resolved configuration.
        dataset, dataset_config, dataset_digest, dataset_note: likewise, of the data set.
        protocol, protocol_record, protocol_version: label in the tables, settings, and version of the rules.
        metrics_version: of the metrics.
        deviations: settings of the variant that the protocol would have otherwise.
        commit: of the checkout that began the cell.
        schema: form of the file.
    """

    cell: str
    variant: str
    dataset: str
    protocol: str
    variant_config: dict[str, Any] = field(default_factory=dict)
    dataset_config: dict[str, Any] = field(default_factory=dict)
    dataset_digest: str = ""
    dataset_note: str = ""
    protocol_record: dict[str, Any] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    commit: str = ""
    protocol_version: int = 1
    metrics_version: int = 1
    schema: int = SCHEMA

    def record(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {**asdict(self), "deviations": list(self.deviations)}

    @classmethod
    def read(cls, value: Any) -> CellHeader:
        """The header of `record`'s form.

        Raises:
            UnknownSchema: its number is not one of READABLE_SCHEMAS.
            BadRecord: it is no header.
        """
        if isinstance(value, Mapping) and "variant" in value:
            require_schema(value, READABLE_SCHEMAS, missing=1)
        return read_as(cls, value)

    def differs(self, other: CellHeader) -> str:
        """The first field in which two headers are of different cells, or ""."""
        names = ("cell", "variant", "dataset", "dataset_digest", "protocol")
        return next((name for name in names if getattr(self, name) != getattr(other, name)), "")


@dataclass(frozen=True)
class Origin:
    """What the episodes after this line were made under.

    Attributes:
        code: digest of the code that decides their numbers ("" where not recorded).
        dirty: whether some of that code was not committed.
        commit: of the checkout.
        machine: id of an entry of machine.json.
        at: time of the run, UTC.
        load_average: of one minute at its begin; -1 where not known.
        weights_status, weights_digest, parameters: of the segmenter.
    """

    code: str = ""
    dirty: bool = False
    commit: str = ""
    machine: str = ""
    at: str = ""
    load_average: float = -1.0
    weights_status: str = "unknown"
    weights_digest: str = ""
    parameters: int = 0

    def record(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def legacy(cls, episode: dict[str, Any], commit: str) -> Origin:
        """Takes the weights' fields out of an episode's line of schema 1, where each line held them."""
        kept: dict[str, Any] = {
            name: episode.pop(name) for name in ("weights_status", "weights_digest", "parameters") if name in episode
        }
        return read_as(cls, {**kept, "commit": commit})


CLICK_COLUMNS = [
    "variant", "dataset", "sample", "click", "y", "x", "positive", "iou", "biou", "encode_ms", "online_ms",
    "simulate_ms",
    "object_share", "size_bin", "height", "width", "error", "protocol", "weights_status", "dataset_note", "cell",
    "weights_digest", "parameters", "code", "machine", "record_version", "protocol_version",
    "metrics_version", "image",
]  # fmt: skip
"""Columns of clicks.parquet, one row per sample and click. `code` ends in + where some of it was not committed."""

GROUP_COLUMNS = [
    "variant", "dataset", "sample", "group", "click", "y", "x", "positive", "iou", "biou", "online_ms", "simulate_ms",
    "size_bin", "height", "width", "protocol", "cell", "protocol_version", "metrics_version", "image",
]  # fmt: skip
"""Columns of groups.parquet: the further episodes of each sample, one row per sample, group and click. The file is
there only where the protocol has such episodes."""

FAILURE_COLUMNS = ["stage", "variant", "dataset", "sample", "error"]
"""Columns of failures.csv."""


def group_rows(header: CellHeader, episodes: Iterable[tuple[Episode, Origin]]) -> list[dict[str, Any]]:
    """Rows of groups.parquet."""
    of_cell = ("variant", "dataset", "protocol", "cell", "protocol_version", "metrics_version")
    shared = {name: getattr(header, name) for name in of_cell}
    rows = []
    for episode, _ in episodes:
        of_episode = {name: getattr(episode, name) for name in ("sample", "height", "width", "size_bin")}
        of_episode["image"] = episode.image or episode.sample
        for group in episode.groups:
            rows += [{**shared, **of_episode, "group": group.group, **vars(click)} for click in group.clicks]
    return rows


def click_rows(header: CellHeader, episodes: Iterable[tuple[Episode, Origin]]) -> list[dict[str, Any]]:
    """Rows of clicks.parquet: the cell's columns, the episode's columns, then each click's."""
    shared = {name: getattr(header, name) for name in ("variant", "dataset", "dataset_note", "protocol", "cell")}
    rows = []
    for episode, origin in episodes:
        of_episode = {
            "sample": episode.sample,
            "image": episode.image or episode.sample,
            "height": episode.height,
            "width": episode.width,
            "object_share": episode.object_share,
            "size_bin": episode.size_bin,
            "encode_ms": episode.encode_ms,
            "error": episode.error,
            "weights_status": origin.weights_status,
            "weights_digest": origin.weights_digest,
            "parameters": origin.parameters,
            "code": origin.code + "+" * origin.dirty,
            "machine": origin.machine,
            "record_version": header.schema,
            "protocol_version": header.protocol_version,
            "metrics_version": header.metrics_version,
        }
        rows += [{**shared, **of_episode, **vars(click)} for click in episode.clicks]
    return rows
