"""Tables in LaTeX, with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from reports.table import Cell, Column, Table, Value

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
    "−": "$-$",
    "–": "--",
    "†": r"$^\dagger$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\rightarrow$",
    "…": r"\dots{}",
    "<": r"$<$",
    ">": r"$>$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "\u202f": r"\,",
    "\u00a0": "~",
    "µ": r"\textmu{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "“": "``",
    "”": "''",
}


def latex_escape(text: str) -> str:
    """Text that means itself in LaTeX; characters outside Latin-1 that nobody listed become a question mark."""
    out = "".join(_LATEX.get(c, c) for c in text)
    return "".join(c if ord(c) < 256 else "?" for c in out)


def to_latex(table: Table) -> str:
    """A `table*` with booktabs rules; needs `booktabs` and `graphicx`."""
    right = [any(isinstance(r.cells[i], Value) for r in table.rows) for i in range(len(table.columns))]
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\begin{table*}[t]",
        "\\centering",
        f"\\caption{{{latex_escape(table.title)}. {latex_escape(table.caption)}}}",
        f"\\label{{tab:{table.name}}}",
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{''.join('r' if r else 'l' for r in right)}}}",
        "\\toprule",
    ]
    if any(group for group, _ in table.groups):
        lines.append(
            " & ".join(f"\\multicolumn{{{n}}}{{c}}{{{latex_escape(group)}}}" for group, n in table.groups) + " \\\\"
        )
        start = 1
        for group, width in table.groups:
            if group:
                lines.append(f"\\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
    lines.append(" & ".join(latex_escape(c.title) for c in table.columns) + " \\\\")
    lines.append("\\midrule")
    for row in table.rows:
        cells = [_latex_cell(cell, c) for cell, c in zip(row.cells, table.columns, strict=True)]
        lines.append(" & ".join(cells) + " \\\\")
    if not table.rows:
        lines.append(f"\\multicolumn{{{len(table.columns)}}}{{c}}{{nothing to show}} \\\\")
    lines += ["\\bottomrule", "\\end{tabular}}"]
    lines += [f"\\par\\smallskip\\footnotesize {latex_escape(note)}" for note in table.notes]
    return "\n".join([*lines, "\\end{table*}"]) + "\n"


def _latex_cell(cell: Cell, column: Column) -> str:
    if not isinstance(cell, Value):
        return latex_escape(cell)
    if column.beside:
        mark = "" if cell.trusted or cell.published is None else "†"
        parts = (f"{cell.number(cell.published)}{mark}", cell.text, cell.number(cell.difference, signed=True))
        return " \\textbar{} ".join(map(latex_escape, parts))
    if cell.best:
        return f"\\textbf{{{latex_escape(cell.number(cell.measured))}}} {latex_escape(cell.interval)}".strip()
    return latex_escape(cell.text)


def document(tables: Sequence[Table]) -> str:
    """A LaTeX document that holds the tables, to be compiled as it is."""
    head = (
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage[utf8]{inputenc}\n\\usepackage{textcomp}\n"
        "\\usepackage{booktabs,graphicx}\n\\usepackage[a4paper,landscape,margin=15mm]{geometry}\n\\begin{document}\n"
    )
    return head + "\n\\clearpage\n".join(map(to_latex, tables)) + "\\end{document}\n"
