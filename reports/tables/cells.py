"""Cells of tables from rows of data frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.tables.speed import finite
from reports.tables.table import Value


def cell_of(
    line: Mapping[Any, Any] | pd.Series,
    column: str,
    scale: float,
    digits: int,
    source: tuple[object, ...],
    signed: bool = False,
    estimate: bool = True,
) -> Value:
    """A column of a row with its interval (`low`/`high`, or `low_ms`/`high_ms` for `median_ms`), scaled.

    Without an interval the cell says "(too few)", if the number is an `estimate` that should have one.
    """
    scaled: list[float | None] = []
    for name in (
        column,
        "low_ms" if column == "median_ms" else "low",
        "high_ms" if column == "median_ms" else "high",
    ):
        number = finite(line[name])
        scaled.append(None if number is None else number * scale)
    missing = "" if scaled[0] is not None else "not measured"
    few = estimate and (scaled[1] is None or scaled[2] is None)
    return Value(
        scaled[0], scaled[1], scaled[2], digits=digits, signed=signed, source=source, missing=missing, too_few=few
    )


def count(value: int, of: int | None = None) -> Value:
    """A number of things; "44 of 50" where `of` is more."""
    return Value(float(value), digits=0, of=of if of is not None and of > value else None)
