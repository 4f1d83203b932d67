"""Figures of the documents: a picture file says which rows it was drawn from."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from harness.errors import UserError
from reports.documents.source import Source
from reports.read.runs import Run
from reports.repository.as_runs import as_run
from reports.repository.store import Stored


def figure(source: Source, settings: Mapping[str, str], check: bool) -> str | None:
    """A link to a figure, drawn again only where its rows are others than those that its file names.

    A picture's bytes change with the library that draws it; the ids of the entries do not. None: it has to be drawn.
    """
    stored = [line.stored for line in source.chosen(settings)]
    path = source.root / settings["file"]
    digest = sha256(" ".join(sorted(s.entry.id for s in stored)).encode()).hexdigest()[:16]
    if stamp(path) != digest:
        if check:
            return None
        _draw(settings["plot"], stored, path, digest)
    return f"![{settings['alt']}]({settings['file']})"


def stamp(path: Path) -> str:
    """Digest of the rows behind a figure, as its file says; "" where it says nothing."""
    from PIL import Image

    if not path.is_file():
        return ""
    with Image.open(path) as picture:
        return str(picture.info.get("rows", ""))


def _short_names(run: Run) -> Run:
    """The same with "dha=full" for "inter2former_lite+dha=full", where all are of one system, for legends."""
    if len({name.partition("+")[0] for name in run.variants}) > 1:
        return run
    names = {name: name.partition("+")[2] or name for name in run.variants}
    frames = {
        part: getattr(run, part).assign(variant=getattr(run, part)["variant"].replace(names))
        for part in ("clicks", "summary", "latency", "flops")
    }
    variants = {names.get(name, name): settings for name, settings in run.variant_configs.items()}
    return replace(run, **frames, config={**run.config, "variants": variants})


def _draw(kind: str, stored: Sequence[Stored], path: Path, digest: str) -> None:
    from PIL import Image, PngImagePlugin

    from reports.plots import cost, quality

    run = _short_names(as_run(stored))
    plots = {
        "iou": lambda: quality.iou_curves(run, run.datasets[0]),
        "threads": lambda: cost.latency_over(run, "threads"),
    }
    if kind not in plots:
        raise UserError(f"plot={kind}: {' or '.join(plots)}.")
    plot = plots[kind]()
    if plot is None:
        raise UserError("nothing can be drawn: these entries were not timed.")
    facts = PngImagePlugin.PngInfo()
    facts.add_text("rows", digest)
    with Image.open(io.BytesIO(plot.rendered("png"))) as picture:
        picture.save(path, pnginfo=facts)
