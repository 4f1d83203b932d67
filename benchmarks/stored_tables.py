"""Tables that a benchmark prints, kept as CSV files, from which `python -m reports docs` writes the documents."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = Path(__file__).with_name("rows")


def store(lines: Sequence[str], names: Sequence[str], folder: Path = ROWS) -> list[str]:
    """Write each Markdown table of these lines as `folder/NAME.csv`; returns the lines with marks in the tables' place.

    Raises:
        ValueError: more tables than names.
    """
    kept: list[str] = []
    waiting = [*names]
    for is_table, group in itertools.groupby(lines, key=lambda line: line.startswith("|")):
        if not is_table:
            kept += group
            continue
        if not waiting:
            raise ValueError(f"more tables than the names {', '.join(names)}")
        rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in group]
        path = folder / f"{waiting.pop(0)}.csv"
        path.parent.mkdir(exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([rows[0], *rows[2:]])
        where = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        kept += [f"<!-- rows: csv file={where} -->", "", "<!-- rows: end -->"]
    return kept
