"""A table as data, and its Markdown, LaTeX, CSV and plain cells."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.text import visible


@dataclass(frozen=True)
class Value:
    """A number in a table.

    Attributes:
        measured: ours, in the unit that is shown; None where nothing was measured.
        low, high: its 95 % interval, or None.
        published: the number that was published, or None.
        missing: why there is nothing measured ("needs …").
        digits: decimals shown.
        trusted: False where the published number is known from a secondary note only.
        best: whether it is the best of its column among results that may be ranked.
        signed: show the sign, for differences.
        too_few: whether there were too few samples (or rounds) for an interval, which then stands in its place.
        source: where the number can be found again: (file, key, key, …).
        of: out of how many, where a count is less than that ("44 of 50").
    """

    measured: float | None = None
    low: float | None = None
    high: float | None = None
    published: float | None = None
    missing: str = ""
    digits: int = 2
    trusted: bool = True
    best: bool = False
    signed: bool = False
    source: tuple[Any, ...] = ()
    too_few: bool = False
    of: int | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published, of the numbers as they are shown, so that a reader can check it by eye."""
        if self.measured is None or self.published is None:
            return None
        return round(self.measured, self.digits) - round(self.published, self.digits)

    def number(self, value: float | None, signed: bool | None = None) -> str:
        """One of its numbers as text; an en dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        text = (
            f"{value:+,.{self.digits}f}" if (self.signed if signed is None else signed) else f"{value:,.{self.digits}f}"
        )
        return text.replace("-", "−").replace(",", " ")

    @property
    def interval(self) -> str:
        """`[low, high]`, "(too few)" where there were too few samples for it, `of 50`, or nothing."""
        if self.of is not None:
            return f"of {self.of}"
        if self.low is None or self.high is None or math.isnan(self.low) or math.isnan(self.high):
            return "(too few)" if self.too_few and self.measured is not None else ""
        return f"[{self.number(self.low)}, {self.number(self.high)}]"

    @property
    def text(self) -> str:
        """Measured number with its interval, or why there is none."""
        if self.measured is None:
            return self.missing or "–"
        return f"{self.number(self.measured)} {self.interval}".strip()


Cell = str | Value


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: name in the CSV.
        title: heading.
        group: heading above several columns.
        better: "low" or "high" where a smaller or larger number is better.
        beside: published | measured | difference in every cell.
        help: sentence that explains the heading.
    """

    key: str
    title: str
    group: str = ""
    better: str = ""
    beside: bool = False
    help: str = ""


@dataclass(frozen=True)
class Row:
    """Cells in the order of the columns, and what the page filters by."""

    cells: tuple[Cell, ...]
    dataset: str = ""
    size_bin: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption and footnotes."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def measured(self) -> bool:
        """Whether anything in it was measured here."""
        return any(isinstance(c, Value) and c.measured is not None for row in self.rows for c in row.cells)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Runs of equal group headings with their widths."""
        runs: list[tuple[str, int]] = []
        for column in self.columns:
            if runs and runs[-1][0] == column.group:
                runs[-1] = (column.group, runs[-1][1] + 1)
            else:
                runs.append((column.group, 1))
        return runs


def to_csv(table: Table) -> str:
    """Every number unrounded in a column of its own; text cells as they are."""
    heading: list[str] = []
    numeric = [any(isinstance(r.cells[i], Value) for r in table.rows) for i in range(len(table.columns))]
    for column, number in zip(table.columns, numeric, strict=True):
        if column.beside:
            heading += [
                f"{column.key} {part}" for part in ("published", "measured", "low", "high", "difference", "missing")
            ]
        elif number:
            heading += [column.key, f"{column.key} low", f"{column.key} high"]
        else:
            heading.append(column.key)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heading)
    for row in table.rows:
        line: list[Any] = []
        for cell, column, number in zip(row.cells, table.columns, numeric, strict=True):
            value = cell if isinstance(cell, Value) else Value(missing=str(cell))
            if column.beside:
                line += [
                    *map(_plain, (value.published, value.measured, value.low, value.high, value.difference)),
                    value.missing,
                ]
            elif number:
                line += map(_plain, (value.measured, value.low, value.high))
            else:
                line.append(cell)
        writer.writerow(line)
    return out.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(round(float(value), 10))


def to_markdown(table: Table) -> str:
    """A pipe table; a cell with a published number reads `published \\| measured \\| difference`."""
    lines = [f"### {markdown_escape(table.title)}", "", markdown_escape(table.caption), ""]
    if not table.rows:
        return "\n".join([*lines, "*Nothing to show.*", *_note_lines(table.notes)]) + "\n"
    titles = [markdown_escape(f"{c.group} {c.title}".strip()) for c in table.columns]
    body = [[_markdown_cell(cell, c) for cell, c in zip(row.cells, table.columns, strict=True)] for row in table.rows]
    widths = [max(len(line[i]) for line in [titles, *body]) for i in range(len(titles))]
    right = [any(isinstance(r.cells[i], Value) for r in table.rows) for i in range(len(titles))]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip([max(w, 3) for w in widths], right, strict=True)]
    padded = [
        [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True)]
        for line in [titles, *body]
    ]
    lines += ["| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]]]
    return "\n".join([*lines, *_note_lines(table.notes)]) + "\n"


def _note_lines(notes: Sequence[str]) -> list[str]:
    return ["", *[f"- {markdown_escape(note)}" for note in notes]] if notes else []


def markdown_escape(text: str) -> str:
    r"""Text that means itself in Markdown (CommonMark, and GitHub's tables, formulas and strike-through).

    >>> markdown_escape("dpe_off <b>[x](y)|$a$")
    'dpe_off &lt;b&gt;\\[x\\](y)\\|\\$a\\$'
    """
    # An underscore inside a word emphasises nothing and stays readable.
    escaped = re.sub(r"[\\`*\[\]|$~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", visible(text))
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^(\d+(?=[.)])|(?=[#+\-=]))", r"\1\\", escaped)


def _markdown_cell(cell: Cell, column: Column) -> str:
    if not isinstance(cell, Value):
        return markdown_escape(cell)
    if column.beside:
        mark = "" if cell.trusted or cell.published is None else "†"
        difference = cell.number(cell.difference, signed=True)
        return f"{cell.number(cell.published)}{mark} \\| {_markdown_text(cell)} \\| {difference}"
    return f"**{cell.number(cell.measured)}** {cell.interval}".strip() if cell.best else _markdown_text(cell)


def _markdown_text(cell: Value) -> str:
    return cell.text if cell.measured is not None else markdown_escape(cell.text)
