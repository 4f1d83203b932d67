"""Where the rows of the documents come from, and which of them a part asks for."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from reports.board import records
from reports.board.records import Line
from reports.repository import store
from reports.repository.as_runs import current


@dataclass(frozen=True, eq=False)
class Source:
    """The root of a checkout and its repository of results."""

    root: Path
    results: Path

    @functools.cached_property
    def lines(self) -> list[Line]:
        """Newest entries as lines of the board."""
        reading = store.read(self.results, thorough=False)
        if reading.refused:
            raise UserError(f"{self.results}: {reading.refused[0]}")
        return records.lines(current(reading.stored))

    def chosen(self, settings: Mapping[str, str]) -> list[Line]:
        """Lines of a data set, protocol and systems (names or patterns, in this order).

        Raises:
            UserError: there are none.
        """
        kept = [
            line
            for line in self.lines
            if settings.get("dataset", "all") in ("all", line.stored.entry.data.name)
            and settings.get("protocol", "all") in ("all", line.stored.entry.protocol)
        ]
        patterns = settings.get("systems", "*").split(",")
        ordered = [line for p in patterns for line in kept if fnmatch.fnmatchcase(line.stored.entry.system, p)]
        if not ordered:
            raise UserError("no stored rows are of this.")
        return [*dict.fromkeys(ordered)]
