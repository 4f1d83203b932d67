"""What the page shows of a table: columns that are equal in all rows in one line above it, and what is missing below.

The files beside the page (Markdown, LaTeX, CSV) keep every column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.tables.columns import VERDICT
from reports.tables.table import Cell, Column, Table, Value

_LONGEST = 48
"""Characters of a cell that may stand in the line above a table."""
_ROWS_NAMED = 4
NEEDS = "not measured: needs "


@dataclass(frozen=True)
class Condensed:
    """A table as the page shows it.

    Attributes:
        table: without the columns that are equal in all rows.
        equal: heading and text of each of those.
        missing: a sentence that says what the cells with a dash need, or "".
    """

    table: Table
    equal: tuple[tuple[str, str], ...] = ()
    missing: str = ""


def condensed(table: Table) -> Condensed:
    """The table as the page shows it; its first column and its verdicts always stay."""
    columns = list(zip(*(row.cells for row in table.rows), strict=True))
    moved = [i for i, cells in enumerate(columns) if i and _may_move(table.columns[i], cells)]
    kept = [i for i in range(len(table.columns)) if i not in moved]
    narrow = replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        rows=tuple(replace(row, cells=tuple(row.cells[i] for i in kept)) for row in table.rows),
    )
    return Condensed(narrow, tuple((_heading(table.columns[i]), _text(columns[i][0])) for i in moved), _missing(table))


def needs(cell: Cell) -> tuple[str, ...]:
    """What a cell would need to be measured: "not measured: needs A, B" → A, B."""
    if not isinstance(cell, Value) or cell.measured is not None or not cell.missing.startswith(NEEDS):
        return ()
    return tuple(re.split(r", (?![^(]*\))", cell.missing.removeprefix(NEEDS)))  # not within brackets


def _may_move(column: Column, cells: Sequence[Cell]) -> bool:
    """Whether a column says the same in all rows and is no result: words, a count, or nothing measured at all."""
    first = cells[0]
    if column.key == VERDICT.key or any(_text(cell) != _text(first) for cell in cells):
        return False
    if not isinstance(first, Value):
        return 0 < len(first) <= _LONGEST and all(isinstance(cell, str) for cell in cells)
    if any(not isinstance(cell, Value) or cell.published is not None or needs(cell) for cell in cells):
        return False
    count = first.digits == 0 and not (column.better or column.beside or first.signed or first.interval)
    return first.measured is None or (count and len(cells) > 1)


def _heading(column: Column) -> str:
    return f"{column.group} {column.title}".strip()


def _text(cell: Cell) -> str:
    text = cell.text if isinstance(cell, Value) else cell
    return "none" if text == "–" else text


def _missing(table: Table) -> str:
    """One sentence: each thing that is needed, with the rows that need it."""
    rows: dict[str, list[int]] = {}
    for number, row in enumerate(table.rows):
        for thing in dict.fromkeys(thing for cell in row.cells for thing in needs(cell)):
            rows.setdefault(thing, []).append(number)
    if not rows:
        return ""
    things = "; ".join(f"{thing} ({_named(table, numbers)})" for thing, numbers in rows.items())
    return f"A dash (–) in place of our number: not measured here. It needs {things}."


def _named(table: Table, numbers: Sequence[int]) -> str:
    if len(numbers) == len(table.rows):
        return "all rows" if len(numbers) > 1 else "this row"
    names = list(dict.fromkeys(_text(table.rows[i].cells[0]) for i in numbers))
    return ", ".join(names) if len(names) <= _ROWS_NAMED else f"{len(numbers)} rows"
