"""What decides that two results are the same: version numbers of rules and records, and records without surprises."""

from __future__ import annotations

import json
import re
from typing import Any

from harness.errors import UserError

KEY = 1
"""Form of a cell's key. Another one gives every cell another file name, so that nothing of before is found again."""

SCHEMA = 2
"""Form of the lines of a cell's file. 2: what the episodes came from stands in lines of their own, once per run."""
READABLE_SCHEMAS = (1, 2)
"""Forms of a cell's file that this version reads; any other is set aside and said."""

SPOOL, MEASURED, MACHINE = 1, 2, 2
"""Forms of a job's file, of measured.json and of machine.json."""

PROTOCOL, METRICS = 1, 1
"""Versions of the rules of the click loop and of the metrics. They stand in every row of clicks.parquet and
summary.csv; rows of another protocol version get other cells and another protocol name in every table."""

STATISTICS = 2
"""Intervals, tests and adjusted p of summary.csv and compare.csv. 1: BCa intervals, no adjustment."""

TIMING = 2
"""What a row of latency.csv is. 1: clicks 2 and 3 stood for 2 to 20, one image was encoded."""

PRECISIONS = {"fp32": "fp32", "float32": "fp32", "bf16": "bf16", "bfloat16": "bf16", "int8": "int8"}
"""Names of precisions that users write, torch's among them -> the one name that settings, cells and tables have."""

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


def protocol_label(name: str) -> str:
    """Name of a protocol in the tables; from version 2 of its rules on, with the version."""
    return name if PROTOCOL == 1 else f"{name} (rules {PROTOCOL})"


def require_stable(value: Any, what: str, fix: str) -> None:
    """Refuse a record that would be another one at the next start, and with it the key of every cell.

    Args:
        value: what the object says of itself.
        what: the object, for the message, for example "protocol.annotator MyAnnotator".
        fix: what to write instead.

    Raises:
        UserError: the value names a memory address, or is not made of plain text, numbers, lists and mappings.
    """
    try:
        text = json.dumps(value, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: its record is not plain JSON ({error}). {fix}") from error
    if _ADDRESS.search(text):
        raise UserError(
            f"{what}: its record holds a memory address ({_ADDRESS.search(text)[0]}), which is another one at "  # type: ignore[index]
            f"every start, so that nothing would ever be resumed. {fix}"
        )
