"""`python -m reports gate base=… head=…`: may this change go in? The decision function's words, as an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli import EXIT_FAILURES, EXIT_UNDECIDED
from harness.errors import UserError
from reports.read.frames import read
from reports.read.runs import Run
from reports.repository import store
from reports.repository.as_runs import as_run, current, newest
from reports.tables.conclusion import Conclusion, conclude


@dataclass(frozen=True)
class Verdict:
    """What may be said of the head against the base.

    Attributes:
        worse, undecided: a line each.
        judged: comparisons of the primary metric that could have shown a difference.
    """

    worse: tuple[str, ...]
    undecided: tuple[str, ...]
    judged: int

    @property
    def exit_code(self) -> int:
        """1: something got worse; 3: that cannot be told of everything; 0: all was judged, nothing got worse."""
        return EXIT_FAILURES if self.worse else EXIT_UNDECIDED if self.undecided or not self.judged else 0


def gate(base: str | Path, head: str | Path) -> Verdict:
    """Compare two runs, or two repositories by their newest entries.

    Raises:
        UserError: a folder is neither, or the two have nothing in common.
    """
    if is_repository(base) != is_repository(head):
        raise UserError(f"gate: base={base} and head={head}: give two runs or two repositories, not one of each.")
    one, two = runs_of(base, "base"), runs_of(head, "head")
    conclusions: list[Conclusion] = []
    if len(one) == len(two) == 1:
        conclusions = [conclude(one[0], two[0])]
    else:
        named = {run.name: run for run in two}
        conclusions = [conclude(run, named[run.name]) for run in one if run.name in named]
        missing = [run.name for run in one if run.name not in named]
        if not conclusions:
            raise UserError(f"gate: base={base} and head={head} have no protocol on a kind of machine in common.")
        lost = tuple(f"not compared: only base has {text}" for text in missing)
        conclusions.append(Conclusion((), lost, 0, ()))
    return Verdict(
        tuple(line for c in conclusions for line in c.worse),
        tuple(line for c in conclusions for line in c.undecided),
        sum(c.judged for c in conclusions),
    )


def is_repository(path: str | Path) -> bool:
    """Whether a folder holds entries."""
    return any(Path(path).expanduser().glob("*/*/*/*/*/entry.json"))


def runs_of(path: str | Path, key: str) -> Sequence[Run]:
    """A run's folder as itself; a repository as one run for each protocol and kind of machine.

    Raises:
        UserError: neither lies there.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"{key}={path}: no such folder; give the out= folder of a sweep, or a repository of results.")
    if not is_repository(folder):
        return [read(folder)]
    repository = store.read(folder)
    if repository.refused:
        raise UserError(f"{key}={path}: {repository.refused[0]}.")
    groups: dict[str, list[store.Stored]] = {}
    for one in newest(current(repository.stored)):
        groups.setdefault(f"{one.entry.protocol} on {one.entry.machine.kind}", []).append(one)
    return [as_run(members, name) for name, members in groups.items()]
