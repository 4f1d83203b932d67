"""Rows of the command that config.yaml names: the folder may hold those of an earlier one with other variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


class Mine:
    """Leaves out rows of variants and data sets that config.yaml does not have.

    Args:
        config: of the folder; where it lists no variants or no data sets (an older form), all rows of them stay.
        notes: gets a line for each table that lost rows.
    """

    def __init__(self, config: Mapping[str, Any], notes: list[str]):
        self._notes = notes
        variants, datasets = _names(config.get("variants")), _names(config.get("datasets"))
        self._allowed = {"variant": variants, "base": variants, "dataset": datasets}

    def of(self, frame: pd.DataFrame, file: str) -> pd.DataFrame:
        """The rows of this command; a table without one of the columns is not asked for it."""
        strangers: dict[str, None] = {}
        keep = pd.Series(True, index=frame.index)
        for column, allowed in self._allowed.items():
            if allowed is None or column not in frame or not len(frame):
                continue
            names = frame[column].fillna("").astype(str)
            here = names.isin(allowed | {""})
            strangers |= dict.fromkeys(names[~here])
            keep &= here
        if not strangers:
            return frame
        self._notes.append(
            f"{file}: rows of {', '.join(sorted(strangers))} come from another command in this folder and are left out."
        )
        return frame[keep].reset_index(drop=True)


def _names(value: Any) -> set[str] | None:
    return {str(name) for name in value} if isinstance(value, Mapping) and value else None
