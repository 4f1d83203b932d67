"""`python -m reports export`: files for model cards, leaderboards and papers, from a repository of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.errors import UserError, near_miss
from harness.results.files import replace
from reports.board.records import Line, lines
from reports.export import bibtex, latex, model_index, papers_with_code
from reports.repository import naming, store
from reports.repository.as_runs import current


def export(results: str, form: str, out: str, system: str = "all", dataset: str = "all") -> list[Path]:
    """Write the newest entries in one form, or in all, and return the files.

    Args:
        system, dataset: names, or "all".

    Raises:
        UserError: an unknown form, nothing to write, or a folder that cannot be written.
    """
    if form not in (*FORMS, "all"):
        raise UserError(f"form={form!r} is unknown. {near_miss(form, [*FORMS, 'all'])}")
    repository = store.read(results)
    every = lines(current(repository.stored))
    chosen = [x for x in every if system in ("all", x.stored.entry.system)]
    chosen = [x for x in chosen if dataset in ("all", x.stored.entry.data.name)]
    if not chosen:
        names = sorted({x.stored.entry.system for x in every} | {x.stored.entry.data.name for x in every})
        raise UserError(f"system={system} dataset={dataset}: no entry. There are {', '.join(names)}.")
    folder = Path(out).expanduser().absolute()
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FORMS if form == "all" else [form]:
            for file, text in FORMS[name](chosen).items():
                data = text.encode("utf-8", "backslashreplace")
                written.append(replace(folder / file, lambda beside, data=data: beside.write_bytes(data)))  # type: ignore[misc]
    except OSError as error:
        raise UserError(f"out={out}: cannot write there: {error.strerror or error}.") from error
    return written


def _cards(chosen: Sequence[Line]) -> dict[str, str]:
    """A YAML head of a model card for each system."""
    systems = dict.fromkeys(line.stored.entry.system for line in chosen)
    return {
        f"{naming.segment(name)}.model-index.yaml": model_index.text(
            [x for x in chosen if x.stored.entry.system == name]
        )
        for name in systems
    }


FORMS: Mapping[str, Callable[[Sequence[Line]], dict[str, str]]] = {
    "model-index": _cards,
    "pwc": lambda chosen: {"papers_with_code.csv": papers_with_code.text(chosen)},
    "bibtex": lambda chosen: {"systems.bib": bibtex.text(chosen)},
    "latex": lambda chosen: {"results.tex": latex.text(chosen)},
}
