"""Several episodes of one sample on one embedding: what an annotator's hook `groups(sample)` yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Group:
    """One further episode of a sample, beside the one of `start(sample)`.

    Attributes:
        name: of the group, in the column `group` of groups.parquet.
        annotator: its session, as `start(sample)` returns one.
        clicks: click limit of this episode; None: the protocol's.
    """

    name: str
    annotator: Any
    clicks: int | None = None
