"""Reading tables back: what a name looks like decides nothing.

A data set called `007`, a variant called `1e5` or a sample called `NA` are text in every table. Readers that guess
types turn them into 7, 100000.0 and nothing at all, and rows of one table no longer meet those of another.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.results import files

MOST_BYTES = 256 << 20
"""Bytes of a table; the largest of a sweep has a few megabytes."""
MOST_COLUMNS = 500
TEXT = frozenset(
    {
        "against", "base", "cell", "code", "contended", "dataset", "dataset_note", "error", "fixed", "image", "kind",
        "law", "machine", "metric", "name", "note", "part", "primary", "protocol", "sample", "size_bin", "stage",
        "values", "variant", "weights_digest", "weights_status", "workload",
    }
)  # fmt: skip
"""Columns of any table that hold text, whatever stands in them; an empty cell is the empty text."""


def read_csv(path: Path) -> pd.DataFrame:
    """A table as it was written: columns of `TEXT` as text, all others as numbers, booleans or else text.

    An empty or missing file gives an empty frame. In a column of numbers an empty cell is NaN.

    Raises:
        OSError, ValueError: the file cannot be read, is no plain one, too large, or no table.
    """
    if not path.exists():
        return pd.DataFrame()
    files.check_plain(path, MOST_BYTES)
    with open(path, "rb") as file:
        columns = 1 + file.readline(1 << 20).count(b",")
    if columns > MOST_COLUMNS:
        raise ValueError(f"{columns:,} columns; at most {MOST_COLUMNS} are read")
    try:
        frame = pd.read_csv(path, dtype=object, keep_default_na=False, na_filter=False, encoding="utf-8")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    return pd.DataFrame({name: frame[name] if name in TEXT else _typed(frame[name]) for name in frame})


def _typed(column: pd.Series) -> pd.Series:
    if len(column) and column.isin(["True", "False"]).all():
        return column == "True"
    texts = column.tolist()
    try:
        # Python's own float() reads back the very number that was written; pandas' faster one may miss the last bit.
        if texts and "" not in texts and all(text.lstrip("+-").isdigit() for text in texts):
            return pd.Series([int(text) for text in texts], column.index, name=column.name)
        numbers = [float(text or "nan") for text in texts]
    except ValueError:
        return column
    return pd.Series(numbers, column.index, float, name=column.name)
