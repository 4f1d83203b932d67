"""Reading rows back from a parquet file that may come from anybody: a few kilobytes can stand for billions of rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.results import files

MOST_ROWS = 10_000_000
"""Rows of one table: a sweep of 15 variants over 30,000 samples with 20 clicks each has fewer."""
MOST_COLUMNS = 500
MOST_BYTES = 4 << 30
"""Bytes of the file."""


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A table of plain columns.

    Args:
        columns: the wanted ones; None: all.

    Raises:
        OSError, ValueError: no plain file, not parquet, or more rows or columns than a sweep writes.
        Exception: whatever else pyarrow raises.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files.check_plain(path, MOST_BYTES)
    with open(path, "rb") as stream:
        whole = pq.ParquetFile(stream)
        if whole.metadata.num_rows > MOST_ROWS:
            raise ValueError(f"{whole.metadata.num_rows:,} rows; at most {MOST_ROWS:,} are read")
        if whole.metadata.num_columns > MOST_COLUMNS:
            raise ValueError(f"{whole.metadata.num_columns:,} columns; at most {MOST_COLUMNS} are read")
        names = whole.schema_arrow.names
        if len(set(names)) != len(names):
            raise ValueError("two columns of one name")
        # A text that stands in every row is kept once: written out, one of ten megabytes would fill any memory.
        texts = [field.name for field in whole.schema_arrow if pa.types.is_string(field.type)]
        stream.seek(0)
        table = pq.ParquetFile(stream, read_dictionary=texts).read(columns)
    # What pandas' own notes in the file ask for (an index, types of other packages) is left aside.
    frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    kept = {
        name: column.astype(object) for name, column in frame.items() if isinstance(column.dtype, pd.CategoricalDtype)
    }
    return frame.assign(**{str(name): column for name, column in kept.items()})
