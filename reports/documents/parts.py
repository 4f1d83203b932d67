"""What can stand between marks in a document."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.scoring import metrics
from harness.scoring.decision import decide
from harness.scoring.registry import metric
from reports.board.records import METRICS
from reports.documents import figures
from reports.documents.source import Source
from reports.repository.as_runs import per_sample
from reports.repository.store import Stored
from reports.tables.table import Value


@dataclass(frozen=True)
class Part:
    """Something that can be made: its settings with their defaults ("": must be given), and the function."""

    settings: Mapping[str, str]
    make: Callable[[Source, Mapping[str, str], bool], str | None]


def _quality(source: Source, settings: Mapping[str, str], check: bool) -> str:
    """A table of quality: a row for each system, data set and protocol; columns that are equal in all rows go."""
    lines = source.chosen(settings)
    if settings["order"] == "set":
        lines = sorted(lines, key=lambda line: (line.stored.entry.data.name, line.stored.entry.protocol))
    rows = []
    for line in lines:
        e = line.stored.entry
        names = [f"`{e.system}`", e.data.name, f"`{e.protocol}`", str(e.data.samples)]
        marks = ", ".join(mark.word for mark in line.marks)
        rows.append([*names, *(_cell(line.values[k]) for k in METRICS), marks])
    head = ["system", "data set", "protocol", "images", *(metric(k).title for k in METRICS), "marks"]
    equal = [i for i in (0, 1, 2, 3) if len(rows) > 1 and len({row[i] for row in rows}) == 1]
    equal_texts = [f"{head[i]} {rows[0][i]}" for i in equal]
    kept = [i for i in range(len(head)) if i not in equal]
    table = _table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])
    return (f"All rows: {', '.join(equal_texts)}.\n\n" if equal_texts else "") + table


def _cost(source: Source, settings: Mapping[str, str], check: bool) -> str:
    """A table of cost beside NoC@90."""
    rows = []
    conditions: dict[str, None] = {}
    for line in source.chosen(settings):
        cost = line.cost
        if cost.condition:
            conditions[f"{cost.condition}, images of {cost.times_on}, {line.stored.entry.machine.kind}"] = None
        values = (line.values["noc90"], cost.online, cost.spc20, cost.encode, cost.gmacs, cost.gmacs_image)
        rows.append([f"`{line.stored.entry.system}`", *map(_cell, values), "contended" if cost.contended else ""])
    head = [
        "system",
        "NoC@90",
        "click ms (Online SPC)",
        "20-SPC ms",
        "encode ms",
        "GMACs a click",
        "GMACs an image",
        "",
    ]
    return _table(head, rows) + f"\n\nTimes: {'; '.join(conditions) or 'none'}."


def _differences(source: Source, settings: Mapping[str, str], check: bool) -> str:
    """A metric of each system minus the base's on the same images, with what the decision function says."""
    lines = source.chosen({**settings, "systems": f"{settings['base']},{settings['systems']}"})
    sets = [*dict.fromkeys((x.stored.entry.data.name, x.stored.entry.protocol) for x in lines)]
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for key in sets:
        mine = [x.stored for x in lines if (x.stored.entry.data.name, x.stored.entry.protocol) == key]
        base = next((s for s in mine if s.entry.system == settings["base"]), None)
        for one in mine:
            if base is not None and one is not base:
                cells.setdefault(one.entry.system, {})[key] = _difference(base, one, settings["metric"])
    rows = [[f"`{system}`", *(by_set.get(key, "") for key in sets)] for system, by_set in cells.items()]
    return _table(["system", *(name for name, _ in sets)], rows)


def _difference(base: Stored, other: Stored, key: str) -> str:
    one, two = per_sample(base)[key].dropna(), per_sample(other)[key].dropna()
    common = one.index.intersection(two.index)
    first, second = one.loc[common].to_numpy(float), two.loc[common].to_numpy(float)
    images = base.rows.groupby("sample")["image"].first().loc[common].to_numpy()
    m = metric(key)
    unseen = m.unseen_difference(metrics.click_limit(base.rows, base.entry.protocol_record))
    difference, low, high, p_value = metrics.paired_comparison(second, first, unseen, images)
    differing = len(set(images[first != second]))
    decision = decide(difference, p_value, len(common), differing, better=m.better, low=low, high=high)
    value = Value(difference * m.scale, low * m.scale, high * m.scale, digits=m.digits, signed=True)
    return f"{_cell(value)}: {decision.text}"


def _hardest(source: Source, settings: Mapping[str, str], check: bool) -> str:
    """The samples of each data set that need the most clicks to 90 %."""
    rows = []
    for line in source.chosen(settings):
        name = line.stored.entry.data.name
        rows += [[f"{name}: {sample}", *rest] for sample, *rest in _worst(line.stored, int(settings["count"]))]
    return _table(["image", "90 % at click", "IoU in % after click 1, 3, 5, 10, 20"], rows)


def _worst(stored: Stored, count: int) -> list[list[str]]:
    limit = metrics.click_limit(stored.rows, stored.entry.protocol_record)
    table = metrics.curves(stored.rows, limit)
    noc, last = metrics.noc(stored.rows, 0.9, limit), table[limit]
    order = sorted(table.index, key=lambda name: (-noc[name], last[name], name))[:count]
    shown = [k for k in (1, 3, 5, 10, 20) if k <= limit]
    return [
        [
            str(name),
            "never" if (table.loc[name] < 0.9).all() else f"{noc[name]:.0f}",
            ", ".join(f"{100 * table.loc[name, k]:.0f}" for k in shown),
        ]
        for name in order
    ]


def _csv(source: Source, settings: Mapping[str, str], check: bool) -> str:
    """A CSV file of the checkout as a table."""
    path = (source.root / settings["file"]).resolve()
    if not path.is_relative_to(source.root.resolve()) or not path.is_file():
        raise UserError(f"file={settings['file']}: no such file in the checkout.")
    with open(path, newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    return _table(head, rows)


def _cell(value: Value) -> str:
    if value.measured is None or math.isnan(value.measured):
        return "–"
    number = value.number(value.measured)
    if value.low is None or value.high is None or math.isnan(value.low):
        return number
    return f"{number} ({value.number(value.low)} to {value.number(value.high)})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; a column that is empty in every row is left out."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = ["| " + " | ".join(head[i] for i in kept) + " |", "|---" * len(kept) + "|"]
    lines += ["| " + " | ".join(row[i].replace("|", "\\|") for i in kept) + " |" for row in rows]
    return "\n".join(lines)


_SET = {"dataset": "all", "protocol": "all", "systems": "*"}
PARTS: Mapping[str, Part] = {
    "quality": Part({**_SET, "order": "system"}, _quality),
    "cost": Part(_SET, _cost),
    "differences": Part({**_SET, "base": "", "metric": "noc90"}, _differences),
    "hardest": Part({**_SET, "count": "5"}, _hardest),
    "figure": Part({**_SET, "plot": "", "file": "", "alt": ""}, figures.figure),
    "csv": Part({"file": ""}, _csv),
}
