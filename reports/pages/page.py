"""One self-contained HTML page: no network, no file beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from harness.scoring.registry import metric
from harness.text import visible
from reports.episodes import player
from reports.episodes.gallery import Story
from reports.pages.condense import condensed, needs
from reports.pages.verdict import verdict
from reports.plots.style import Plot
from reports.read.runs import Run
from reports.tables import quality, readings
from reports.tables.table import Column, Table, Value

_LEADING = 2
"""Figures before the first table."""
_MACHINE_FIRST = ("cpu_model", "cpus", "cores_usable", "memory_gb", "python", "commit")


def render(
    run: Run,
    page_tables: Sequence[Table],
    drawn: Sequence[Plot],
    episodes: Sequence[Any] = (),
    problems: Sequence[str] = (),
) -> str:
    """The page of one run.

    Args:
        run: the run.
        made: tables in the order of the page.
        drawn: plots in the order of the page.
        episodes: the gallery as `shown` makes it.
        problems: sentences that say what could not be shown and why.
    """
    machine = _flat(run.machine)
    leading = lead(run, drawn)
    first = [pair for key in _MACHINE_FIRST for pair in machine if pair[0] == key]
    return fill(
        "page.html.j2",
        run=run,
        title=str(run.ablation.get("title") or run.name),
        tables=page_tables,
        leading=leading,
        plots=[plot for plot in drawn if plot not in leading],
        episodes=episodes,
        verdict=verdict(run),
        headline=headline(run),
        remarks=remarks(run),
        judged=sum(run.ranked(v) for v in run.variants) > 1,
        notes=[*run.notes, *problems],
        datasets=run.datasets,
        sizes=sorted({r.size_bin for t in page_tables for r in t.rows} - {"", "all"}, key=quality.size_order),
        machine=first,
        machine_more=[pair for pair in machine if pair not in first],
        protocol=_flat(_mapping(run.config.get("protocol")) or {"name": run.protocol()}),
        command=str(run.config.get("command") or f"python -m harness.sweep +ablation={run.name}"),
        report_command=f"python -m reports {run.source or f'run={_short(run.path)}'}",
    )


def fill(template: str, **values: Any) -> str:
    """A template of this package with the style, the script and what every page needs."""
    environment = Environment(
        loader=PackageLoader("reports.pages"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = resources.files("reports.pages") / "templates"
    return environment.get_template(template).render(
        is_number=lambda cell: isinstance(cell, Value),
        sort_key=_sort_key,
        condensed=condensed,
        needs=needs,
        picture=lambda plot: _image(plot.svg().encode(), "svg+xml"),
        style=Markup((folder / "style.css").read_text()),
        script=Markup("".join((folder / name).read_text() for name in ("sorting.js", "page.js", "player.js"))),
        **values,
    )


def _shown(value: Any) -> Any:
    """What a template prints: texts without marks that turn the writing direction; line ends stay."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(visible, value.split("\n")))


def _short(path: Path) -> str:
    """A path as a reader can type it: relative to where the report was made, if it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def lead(run: Run, drawn: Sequence[Plot]) -> list[Plot]:
    """The figures before the first table: of each data set quality against time, else its first plot; two in all.

    A run of one data set has the next plot of it beside.
    """
    of_each = [[plot for plot in drawn if plot.dataset == dataset] for dataset in run.datasets]
    ordered = [sorted(group, key=lambda plot: "_time_" not in plot.name) for group in of_each if group]
    if len(ordered) == 1:
        return ordered[0][:_LEADING]
    return ([group[0] for group in ordered] or list(drawn))[:_LEADING]


def shown(story: Story, strips: Sequence[Plot]) -> dict[str, Any]:
    """A story of the gallery as the template wants it."""
    choice = story.choice
    records = [player.data(episode) for episode in story.episodes]
    for record in records[1:]:
        if record["image"] == records[0]["image"]:
            record["image"] = ""  # one photograph serves all variants of a sample
    return {
        "title": choice.title,
        "reason": choice.reason,
        "dataset": choice.dataset,
        "sample": choice.sample,
        "size_bin": choice.size_bin,
        "episodes": [
            {
                "variant": episode.variant,
                "status": episode.status,
                "note": episode.note,
                "alt": strip.alt,
                "strip": player.strip_image(strip, many=len(records) > 2),
                "data": _script_json(record),
            }
            for episode, strip, record in zip(story.episodes, strips, records, strict=True)
        ],
    }


def _script_json(value: Any) -> Markup:
    """JSON that cannot end its script element."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def headline(run: Run) -> list[dict[str, str]]:
    """The few sentences on top: every difference to the base that the decision function calls better or worse.

    The primary metric comes first; of the others, those that stay after Holm's adjustment.
    """
    differences = [one for one in readings.of(run, quality.compared_keys(run)) if one.decision.shown]
    lines = []
    for one in sorted(differences, key=lambda r: not r.primary):
        m = metric(one.metric)
        limits = (one.low * m.scale, one.high * m.scale)
        value = Value(one.difference * m.scale, *limits, digits=max(m.digits, 1), signed=True)
        unit = "points" if m.unit == "%" else m.unit
        lines.append(
            {
                "dataset": one.dataset,
                "variant": one.variant,
                "status": run.status(one.variant),
                "base": one.base,
                "text": f"{m.title} {value.text} {unit}, p = {one.decision.p_adjusted:.2g}"
                + ("" if one.primary else " (Holm)"),
                "kind": one.decision.outcome.value,
            }
        )
    return lines


def remarks(run: Run) -> list[str]:
    """What the page says beside the headline: what of the primary metric shows nothing, and how much is compared."""
    differences = readings.of(run, quality.compared_keys(run))
    name = metric(run.primary).title
    first = [one.decision for one in differences if one.primary and not one.decision.shown]
    sentences = readings.undecided(name, first)
    if not differences:
        sentences.append("Nothing was compared: this run has no two variants with rows of one data set.")
    return [*sentences, *filter(None, [readings.counted([(one.primary, one.decision) for one in differences])])]


def _image(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _sort_key(cell: object, column: Column) -> str:
    if isinstance(cell, Value):
        number = cell.measured if cell.measured is not None else cell.published
        return "" if number is None else repr(number)
    return str(cell)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, child in value.items():
        name = f"{prefix}{key}"
        if isinstance(child, Mapping):
            out += _flat(child, f"{name}.")
        elif isinstance(child, (list, tuple)):
            out.append((name, ", ".join(map(str, child))))
        else:
            out.append((name, "–" if child is None else str(child)))
    return out
