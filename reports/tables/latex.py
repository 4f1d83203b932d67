"""Tables in LaTeX, with booktabs."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from harness.text import visible
from reports.tables.table import Cell, Column, Table, Value

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "<": "$<$",
    ">": "$>$",
    '"': "''",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "†": r"$^\dagger$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "«": r"$\ll$",
    "»": r"$\gg$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "…": r"\dots{}",
    "\u202f": r"\,",
    "\u00a0": "~",
    "\u00ad": "",
    "µ": r"$\mu$",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
}
_LIGATURES = "-,'"
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "λ": "lambda", "μ": "mu", "σ": "sigma", "Δ": "Delta"}
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True))
_WIDE = 150
"""Characters that a line of a landscape page holds; a wider table sets its intervals below the numbers."""
_LINES = 32
"""Lines of one float; a longer table goes on in the next one."""
_LONG = 40
"""Characters of a text that are broken into lines."""
_SHORT_REASON = 12
_FLOATS = 10


def latex_escape(text: str) -> str:
    """Text that means itself in LaTeX; what its standard fonts cannot show becomes its code, such as U+4E2D."""
    # Two hyphens (an option of a command) would become a dash, two quotes another quote.
    text = visible(text.replace("\n", " "))
    pairs = itertools.zip_longest(text, text[1:])
    return "".join(f"{c}{{}}" if c == after and c in _LIGATURES else _character(c) for c, after in pairs)


def _character(c: str) -> str:
    if c in _LATEX:
        return _LATEX[c]
    if c in _GREEK:
        return f"$\\{_GREEK[c]}$"
    if c in _RAISED:
        return f"$^{_RAISED[c]}$"
    if ord(c) < 128:
        return c if c.isprintable() else " "
    if "\u00a0" < c <= "\u00ff" and c not in "ÐðÞþ":
        return c
    plain = "".join(p for p in unicodedata.normalize("NFKD", c) if p.isascii() and p.isprintable())
    return "".join(_LATEX.get(p, p) for p in plain) if plain else f"U+{ord(c):04X}"


@dataclass(frozen=True)
class _Entry:
    """A cell in one line and over several, with the room that it takes."""

    inline: str
    stacked: str
    width: int
    inline_lines: int = 1
    stacked_lines: int = 1


def to_latex(table: Table) -> str:
    """`table*` floats with booktabs rules; needs `booktabs` and `graphicx`.

    A wide table has its intervals below the numbers, and a long one goes on in further floats of the same number.
    Why a number is missing stands below the table, once.
    """
    reasons: dict[str, str] = {}
    written = [[_entry(c, col, reasons) for c, col in zip(row.cells, table.columns, strict=True)] for row in table.rows]
    widths = [max([len(c.title), *(row[i].width for row in written)]) for i, c in enumerate(table.columns)]
    stacked = sum(widths) + 2 * len(widths) > _WIDE
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\providecommand{\\stacked}[1]{\\begin{tabular}[t]{@{}r@{}}#1\\end{tabular}}",
    ]
    blocks = _blocks([max(e.stacked_lines if stacked else e.inline_lines for e in row) for row in written])
    for number, block in enumerate(blocks):
        if number and number % _FLOATS == 0:
            lines.append("\\clearpage")  # LaTeX holds only so many floats back
        lines += _start(table, number)
        for i in block:
            cells = [e.stacked if stacked else e.inline for e in written[i]]
            apart = "\\addlinespace " if i > block[0] and table.rows[i].dataset != table.rows[i - 1].dataset else ""
            lines.append(apart + _row(cells))
        if not table.rows:
            lines.append(f"\\multicolumn{{{len(table.columns)}}}{{c}}{{nothing to show}} \\\\")
        lines += ["\\bottomrule", "\\end{tabular}}"]
        if number == len(blocks) - 1:
            notes = [f"$^{{{letter}}}$\\,{latex_escape(reason)}." for reason, letter in reasons.items()]
            notes += map(latex_escape, table.notes)
            lines += [f"\\par\\smallskip\\footnotesize {note}" for note in notes]
        lines.append("\\end{table*}")
    return "\n".join(lines) + "\n"


def _start(table: Table, number: int) -> list[str]:
    """Everything of a float before its rows."""
    right = [any(isinstance(r.cells[i], Value) for r in table.rows) for i in range(len(table.columns))]
    lines = ["\\begin{table*}[tp]", "\\centering"]
    if number:
        lines += ["\\addtocounter{table}{-1}", f"\\caption{{{latex_escape(table.title)}, continued.}}"]
    else:
        lines.append(f"\\caption{{{latex_escape(table.title)}. {latex_escape(table.caption)}}}")
        lines.append(f"\\label{{tab:{table.name}}}")
    lines += [
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{''.join('r' if r else 'l' for r in right)}}}",
        "\\toprule",
    ]
    if any(group for group, _ in table.groups):
        groups = [f"\\multicolumn{{{n}}}{{c}}{{{latex_escape(group)}}}" for group, n in table.groups]
        lines.append(" & ".join(groups) + " \\\\")
        first = 1
        for group, width in table.groups:
            if group:
                lines.append(f"\\cmidrule(lr){{{first}-{first + width - 1}}}")
            first += width
    return [*lines, _row([latex_escape(c.title) for c in table.columns]), "\\midrule"]


def _row(cells: Sequence[str]) -> str:
    """A line of a table; after the line before, LaTeX would take a leading bracket or star for an option."""
    return ("{}" if cells and cells[0].startswith(("[", "*")) else "") + " & ".join(cells) + " \\\\"


def _blocks(heights: Sequence[int]) -> list[range]:
    """Rows of each float."""
    blocks, start, filled = [], 0, 0
    for i, height in enumerate(heights):
        if filled + height > _LINES and i > start:
            blocks.append(range(start, i))
            start, filled = i, 0
        filled += height
    return [*blocks, range(start, len(heights))]


def _entry(cell: Cell, column: Column, reasons: dict[str, str]) -> _Entry:
    if not isinstance(cell, Value):
        text = latex_escape(cell)
        if len(cell) <= _LONG:
            return _Entry(text, text, len(cell))
        # Paths and addresses have no blanks to break at.
        text = re.sub(r"(/|@|\.|\\_|-)(?=\w)", r"\1\\allowbreak{}", text)
        text = f"\\parbox[t]{{18em}}{{\\raggedright {text}}}"
        lines = math.ceil(1.2 * len(cell) / _LONG)
        return _Entry(text, text, _LONG, lines, lines)
    if cell.measured is None:
        ours, plain = _missing(cell.missing, reasons)
    else:
        number = latex_escape(cell.number(cell.measured))
        ours, plain = (f"\\textbf{{{number}}}" if cell.best else number), cell.number(cell.measured)
    interval = latex_escape(cell.interval) if cell.measured is not None else ""
    inline, small = f"{ours} {interval}".strip(), f"{{\\scriptsize {interval}}}"
    width = len(plain) + len(cell.interval) + 1
    if not column.beside:
        if not interval:
            return _Entry(ours, ours, len(plain))
        return _Entry(inline, f"\\stacked{{{ours}\\\\ {small}}}", width, 1, 2)
    mark = "" if cell.trusted or cell.published is None else "†"
    published = latex_escape(f"{cell.number(cell.published)}{mark}")
    difference = latex_escape(cell.number(cell.difference, signed=True))
    return _Entry(
        " \\textbar{} ".join((published, inline, difference)),
        "\\stacked{" + "\\\\ ".join((published, f"{ours} {small}" if interval else ours, difference)) + "}",
        width + 18,
        1,
        3,
    )


def _missing(reason: str, reasons: dict[str, str]) -> tuple[str, str]:
    """What stands for a number that is missing: a short reason, or a dash with a letter that is explained below."""
    if len(reason) <= _SHORT_REASON:
        return latex_escape(reason or "–"), reason or "–"
    letter = reasons.setdefault(reason, _letter(len(reasons)))
    return f"--$^{{{letter}}}$", "–" + letter


def _letter(number: int) -> str:
    return ("" if number < 26 else _letter(number // 26 - 1)) + chr(ord("a") + number % 26)


def document(tables: Sequence[Table]) -> str:
    """A LaTeX document that holds the tables, to be compiled as it is."""
    head = (
        "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{textcomp}\n"
        # Outline fonts in either case: T1 without Latin Modern would fall back on bitmaps.
        "\\IfFileExists{lmodern.sty}{\\usepackage[T1]{fontenc}\\usepackage{lmodern}}{}\n"
        "\\usepackage{booktabs,graphicx}\n\\usepackage[a4paper,landscape,margin=15mm]{geometry}\n"
        "\\renewcommand{\\topfraction}{1}\\renewcommand{\\floatpagefraction}{0.9}\n"
        "\\makeatletter\\setlength{\\@fptop}{0pt}\\makeatother\n\\begin{document}\n"
    )
    return head + "\n\\clearpage\n".join(map(to_latex, tables)) + "\\end{document}\n"
