"""One self-contained HTML page: no network, no file beside it."""

from __future__ import annotations

import base64
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from reports import player
from reports.frames import Run
from reports.gallery import Story
from reports.metric_names import metric
from reports.style import Plot
from reports.table import Column, Table, Value


def render(
    run: Run,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    episodes: Sequence[Any] = (),
    problems: Sequence[str] = (),
) -> str:
    """The page of one run.

    Args:
        run: the run.
        tables: tables in the order of the page.
        plots: plots in the order of the page.
        episodes: the gallery as `shown` makes it.
        problems: sentences that say what could not be shown and why.
    """
    environment = Environment(
        loader=PackageLoader("reports"), autoescape=select_autoescape(default=True), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["slug"] = lambda text: "".join(c if c.isalnum() else "-" for c in str(text)).lower()
    folder = resources.files("reports") / "templates"
    template = environment.get_template("page.html.j2")
    return template.render(
        run=run,
        tables=tables,
        plots=[(p, _image(p.svg().encode(), "svg+xml")) for p in plots],
        episodes=episodes,
        headline=headline(run),
        notes=[*run.notes, *problems],
        datasets=run.datasets,
        sizes=sorted({r.size_bin for t in tables for r in t.rows} - {""}, key=_size_order),
        machine=_flat(run.machine),
        protocol=_flat(run.config.get("protocol") or {"name": run.protocol()}),
        command=str(run.config.get("command") or "python -m harness.sweep +ablation=" + run.name),
        report_command=f"python -m reports run={run.path.name}",
        is_number=lambda cell: isinstance(cell, Value),
        sort_key=_sort_key,
        style=Markup((folder / "style.css").read_text()),
        script=Markup((folder / "page.js").read_text() + (folder / "player.js").read_text()),
        python=platform.python_version(),
    )


def shown(story: Story, strips: Sequence[Plot]) -> dict[str, Any]:
    """A story of the gallery as the template wants it."""
    choice = story.choice
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
                "strip": player.strip_image(strip),
                "data": _script_json(player.data(episode)),
            }
            for episode, strip in zip(story.episodes, strips, strict=True)
        ],
    }


def _script_json(value: Any) -> Markup:
    """JSON that cannot end its script element."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def headline(run: Run) -> list[dict[str, str]]:
    """The few sentences on top: what each variant changes against the base, and how sure that is."""
    lines = []
    for dataset in run.datasets:
        whole = run.compare[(run.compare["dataset"] == dataset) & run.compare["size_bin"].isin(("", "all"))]
        for key in ("noc90", "miou5"):
            m = metric(key)
            for _, line in whole[whole["metric"] == key].iterrows():
                low, high = float(line["low"]) * m.scale, float(line["high"]) * m.scale
                if not (low > 0 or high < 0):
                    continue
                good = (high < 0) == (m.better == "low")
                lines.append(
                    {
                        "dataset": dataset,
                        "variant": str(line["variant"]),
                        "status": run.status(str(line["variant"])),
                        "text": f"{float(line['difference']) * m.scale:+.2f} {m.title} [{low:+.2f}, {high:+.2f}] against {line['base']}".replace(
                            "-", "−"
                        ),
                        "kind": "better" if good else "worse",
                    }  # fmt: skip
                )
    return lines


def _image(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _sort_key(cell: object, column: Column) -> str:
    if isinstance(cell, Value):
        number = cell.measured if cell.measured is not None else cell.published
        return "" if number is None else repr(number)
    return str(cell)


def _size_order(size: str) -> float:
    digits = "".join(c if c.isdigit() or c == "." else " " for c in size).split()
    return (
        -1.0
        if size.startswith("<") or not digits
        else float(digits[0]) + (1000 if size.startswith(">") else 0)
    )


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
