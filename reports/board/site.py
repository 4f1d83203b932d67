"""`python -m reports board`: a static site of a repository. No server, no network; reads without JavaScript."""

from __future__ import annotations

import functools
import json
import math
import shutil
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from harness.errors import UserError
from harness.results.files import replace
from harness.scoring.registry import metric
from harness.text import visible
from reports.board import charts, describe
from reports.board.records import MARKS, METRICS, Line, entry_lines, lines
from reports.repository import store
from reports.repository.as_runs import current
from reports.tables.table import Value

COLUMNS = [(key, metric(key).title) for key in METRICS]
ASSETS = ("board.css", "board.js")


def build(results: str | Path, out: str | Path) -> tuple[Path, tuple[str, ...]]:
    """Write the site and return its first page, and the entries that were left out with the reason.

    Raises:
        UserError: no repository there, or the site cannot be written.
    """
    repository = store.read(results)
    if not repository.stored:
        raise UserError(f"results={results}: no entry holds; the first: {repository.refused[0]}.")
    site = Path(out).expanduser().absolute()
    try:
        for folder in ("sets", "systems", "machines", "rows", "data"):
            (site / folder).mkdir(parents=True, exist_ok=True)
        _Site(site, repository).write()
    except OSError as error:
        raise UserError(f"out={out}: cannot write there: {error.strerror or error}.") from error
    return site / "index.html", repository.refused


@dataclass(frozen=True)
class SetPage:
    """One data set under one protocol."""

    name: str
    protocol: str
    lines: tuple[Line, ...]

    @property
    def file(self) -> str:
        """Its page without the ending."""
        return f"{self.name}.{self.protocol}"

    @property
    def title(self) -> str:
        """Its heading."""
        return f"{self.name}, protocol {self.protocol}"

    @property
    def count(self) -> int:
        """Systems on it."""
        return len({line.stored.entry.system for line in self.lines})


@dataclass(frozen=True)
class Drawn:
    """A chart with what belongs below it."""

    svg: Markup
    caption: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Results on equal data of one page."""

    digest: str
    samples: int
    images: int
    note: str
    lines: tuple[Line, ...]
    charts: tuple[Drawn, ...] = field(default=())


class _Site:
    def __init__(self, folder: Path, repository: store.Repository) -> None:
        self.folder, self.repository = folder, repository
        self.kept = current(repository.stored)
        older = [s.entry.path for s in repository.stored if s not in self.kept]
        self.refused = (*repository.refused, *(f"{path}: made under older rules" for path in older))
        self.lines = lines(self.kept)
        self.environment = Environment(
            loader=PackageLoader("reports.board"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.globals.update(address=address, sort=_sort_value, breakable=breakable)

    def write(self) -> None:
        """Every file of the site."""
        sorting = resources.files("reports.pages") / "templates" / "sorting.js"
        templates = resources.files("reports.board") / "templates"
        for name in ASSETS:
            texts = ([sorting] if name == "board.js" else []) + [templates / name]
            self._put(name, "".join(text.read_text(encoding="utf-8") for text in texts))
        sets = self._sets()
        self._index(sets)
        for one in sets:
            self._set(one)
        for system in sorted({line.stored.entry.system for line in self.lines}):
            self._system(system)
        for kind in sorted({line.stored.entry.machine.kind for line in self.lines}):
            self._machine(kind)
        self._data()

    def _page(self, template: str, path: str, title: str, **values: Any) -> None:
        up = "../" * path.count("/")
        common = {"title": title, "up": up, "entries": len(self.kept), "columns": COLUMNS}
        self._put(path, self.environment.get_template(template).render(**common, **values))

    def _put(self, path: str, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        replace(self.folder / path, lambda beside: beside.write_bytes(data))

    def _sets(self) -> list[SetPage]:
        groups: dict[tuple[str, str], list[Line]] = {}
        for line in self.lines:
            groups.setdefault((line.stored.entry.data.name, line.stored.entry.protocol), []).append(line)
        return [SetPage(name, protocol, tuple(several)) for (name, protocol), several in sorted(groups.items())]

    def _index(self, sets: Sequence[SetPage]) -> None:
        ordered = [line for one in sets for line in one.lines]
        entries = [line.stored.entry for line in ordered]
        filters = (
            ("set", "Data set", sorted({e.data.name for e in entries})),
            ("protocol", "Protocol", sorted({e.protocol for e in entries})),
            ("weights", "Weights", sorted({e.weights.status for e in entries})),
            ("machine", "Machine", sorted({e.machine.kind for e in entries})),
        )
        self._page(
            "index.html.j2",
            "index.html",
            "Click segmentation board",
            lines=ordered,
            refused=self.refused,
            filters=filters,
            sets=sets,
            systems=_counted(s.entry.system for s in self.kept),
            machines=_counted(s.entry.machine.kind for s in self.kept),
            marks=[*MARKS.values()],
        )

    def _set(self, page: SetPage) -> None:
        digests = dict.fromkeys(line.stored.entry.data.digest for line in page.lines)
        groups = []
        for digest in digests:
            mine = tuple(line for line in page.lines if line.stored.entry.data.digest == digest)
            data = mine[0].stored.entry.data
            groups.append(Group(digest, data.samples, data.images, data.note, mine, tuple(_pareto(mine, page))))
        rules = describe.protocol(page.lines[0].stored.entry.protocol_record)
        self._page("set.html.j2", f"sets/{page.file}.html", page.title, groups=groups, rules=rules)

    def _system(self, system: str) -> None:
        mine = [line for line in self.lines if line.stored.entry.system == system]
        every = entry_lines([s for s in self.kept if s.entry.system == system])
        curve = _curves(mine)
        self._page(
            "system.html.j2",
            f"systems/{system}.html",
            system,
            card=describe.card(mine[0].stored.entry),
            lines=mine,
            cost_notes=describe.cost_notes(mine),
            curve=curve,
            episodes=[describe.episodes(line.stored) for line in mine],
            entries_of=[describe.EntryText(line, describe.entry(line.stored)) for line in every],
        )

    def _machine(self, kind: str) -> None:
        mine = [line for line in self.lines if line.stored.entry.machine.kind == kind]
        facts = describe.machine(mine[0].stored.entry.machine)
        self._page("machine.html.j2", f"machines/{kind}.html", kind, lines=mine, machine_facts=facts)

    def _data(self) -> None:
        """The tables as CSV and Parquet, and the rows and record of every entry."""
        frame = pd.DataFrame([describe.flat(line) for line in self.lines])
        self._put("data/results.csv", frame.to_csv(index=False, lineterminator="\n"))
        replace(self.folder / "data" / "results.parquet", lambda beside: frame.to_parquet(beside, index=False))
        for one in self.kept:
            copy = functools.partial(shutil.copyfile, one.folder / "rows.parquet")
            replace(self.folder / "rows" / f"{one.entry.id}.parquet", copy)
            self._put(f"rows/{one.entry.id}.json", json.dumps(one.entry.record(), indent=1) + "\n")


def _pareto(mine: Sequence[Line], page: SetPage) -> list[Drawn]:
    """NoC@90 against the time of a click, and against its multiply-adds; only what may be ranked."""
    drawn = []
    ranked = [line for line in mine if line.ranked and line.values["noc90"].measured is not None]
    for kind, title in (("online", "Click, ms (Online SPC)"), ("gmacs", "GMACs a click")):
        chosen = [line for line in ranked if getattr(line.cost, kind).measured]
        dots = []
        for number, line in enumerate(chosen, start=1):
            noc, cost = line.values["noc90"], getattr(line.cost, kind)
            doubtful = kind == "online" and line.cost.contended
            name = line.stored.entry.system
            at = (cost.measured, noc.measured or 0.0)
            dots.append(charts.Dot(str(number), name, *at, _limits(cost), _limits(noc), doubtful))
        heading = f"NoC@90 against cost on {page.name}"
        svg = charts.pareto(dots, title, "NoC@90, clicks", heading)
        caption = "Lower and further left is better; bars are 95 % intervals, the dashed line joins what nothing beats."
        if any(d.doubtful for d in dots):
            caption += " Hollow: times taken beside other work."
        if kind == "online" and chosen:
            conditions = sorted({_condition(line) for line in chosen})
            caption += f" Times: {'; '.join(conditions)}."
        if svg:
            drawn.append(Drawn(svg, caption, tuple(d.name for d in dots)))
    return drawn


def _condition(line: Line) -> str:
    """Threads, size and machine of a time, and whose images were timed."""
    return f"{line.cost.condition}, images of {line.cost.times_on}, on {line.stored.entry.machine.kind}"


def breakable(name: str) -> Markup:
    """A system's name that may be broken before a setting."""
    return Markup("<wbr>+").join(visible(name).split("+"))


def _limits(value: Value) -> tuple[float, float] | None:
    return None if value.low is None or value.high is None else (value.low, value.high)


def _curves(mine: Sequence[Line]) -> Drawn | None:
    curves = []
    for line in mine:
        entry = line.stored.entry
        limit = int(entry.protocol_record.get("clicks") or 20)
        curves.append(charts.Curve(f"{entry.data.name}, {entry.protocol}", describe.mean_iou(line.stored, limit)))
    svg = charts.curves(curves, "Mean IoU, %", "Mean IoU over clicks")
    return Drawn(svg, names=tuple(c.name for c in curves)) if svg else None


def address(name: str) -> str:
    """A name as a part of an address."""
    return urllib.parse.quote(str(name), safe="+=._-")


def _counted(names: Any) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return sorted(counts.items())


def _sort_value(value: Value) -> str:
    return "" if value.measured is None or math.isnan(value.measured) else repr(float(value.measured))


def _shown(value: Any) -> Any:
    """Texts without marks that turn the writing direction."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def sizes(site: Path) -> Mapping[str, int]:
    """Bytes of every file of a site."""
    return {str(p.relative_to(site)): p.stat().st_size for p in sorted(site.rglob("*")) if p.is_file()}
