"""LaTeX tables that a paper can take as they are: booktabs rules, numbers aligned by siunitx."""

from __future__ import annotations

from collections.abc import Sequence

from harness.scoring.registry import metric
from reports.board.records import METRICS, Line
from reports.tables.latex import latex_escape
from reports.tables.table import Value

PREAMBLE = "% needs \\usepackage{booktabs,siunitx}\n"


def text(lines: Sequence[Line]) -> str:
    """A table for each data set and protocol; results of untrained weights are left out."""
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        e = line.stored.entry
        if line.ranked:
            groups.setdefault((e.data.name, e.protocol, e.data.digest), []).append(line)
    return PREAMBLE + "\n".join(_table(name, protocol, mine) for (name, protocol, _), mine in groups.items())


def document(lines: Sequence[Line]) -> str:
    """A document that holds the tables, to be compiled as it is."""
    head = "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{textcomp,booktabs,siunitx}\n"
    head += "\\usepackage[a4paper,landscape,margin=12mm]{geometry}\n"
    return f"{head}\\begin{{document}}\n{text(lines)}\\end{{document}}\n"


def _table(name: str, protocol: str, lines: Sequence[Line]) -> str:
    data = lines[0].stored.entry.data
    columns = [k for k in METRICS if any(line.values[k].measured is not None for line in lines)]
    timed = any(line.cost.online.measured is not None for line in lines)
    formats = "".join(f" S[table-format={3 if metric(k).unit != 'clicks' else 2}.{_digits(lines, k)}]" for k in columns)
    formats += " S[table-format=5.1]" * timed
    titles = [f"{{{latex_escape(metric(k).title)}}}" for k in columns] + ["{click, ms}"] * timed
    note = f", {data.note}" if data.note else ""
    caption = f"{name}, protocol {protocol}, {data.samples} samples{note}. 95 % intervals below the numbers."
    if timed:
        conditions = dict.fromkeys(line.cost.condition for line in lines if line.cost.condition)
        caption += f" Times: {'; '.join(conditions)}, {lines[0].stored.entry.machine.kind}."
    rows = []
    for line in lines:
        values = [line.values[k] for k in columns] + [line.cost.online] * timed
        rows.append(f"{latex_escape(line.stored.entry.system)} & {' & '.join(map(_number, values))} \\\\")
        if any(_interval(v) for v in values):
            rows.append(f" & {' & '.join(map(_interval, values))} \\\\")
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering\\small",
            f"\\caption{{{latex_escape(caption)}}}",
            f"\\begin{{tabular}}{{l{formats}}}",
            "\\toprule",
            f"System & {' & '.join(titles)} \\\\",
            "\\midrule",
            *rows,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def _digits(lines: Sequence[Line], key: str) -> int:
    return max(line.values[key].digits for line in lines)


def _number(value: Value) -> str:
    """As siunitx reads it; a brace group stands for text."""
    return "{--}" if value.measured is None else f"{value.measured:.{value.digits}f}"


def _interval(value: Value) -> str:
    if value.measured is None or value.low is None or value.high is None:
        return ""
    return f"{{\\scriptsize {value.low:.{value.digits}f}--{value.high:.{value.digits}f}}}"
