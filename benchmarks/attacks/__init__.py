"""Hostile inputs, one file a kind; `benchmarks/attack.py` runs all of them.

A kind is a module here, its name without `_` at the start, with `attacks(folder) -> Iterator[Attack]`: it writes its
inputs under `folder` and says which command gets which of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Attack:
    """One command on hostile input.

    Attributes:
        name: of the input, for the table's list of what went wrong.
        arguments: of `python -m`, such as ("harness.sweep", "variant=sam_vit_b", …).
        canary: what exists only if code of the input ran.
        kept: files whose lines must all be there afterwards, in the file or in one beside it (`NAME.damaged`).
        harmless: exit code 0 is as good as 2, because the input can be read without harm.
        failed_rows: exit code 1 is as good as 2: something failed and `failures.csv` says what.
        missing: asked after the command ended; says which results are missing or wrong, or "".
        unsaid: likewise; says which failure `failures.csv` does not name, or names in vain, or "".
        inputs: how many hostile inputs the command gets at once; each counts as tried.
        repeats: how often the command may be given again after it ended by a signal or with `dies`.
        dies: exit codes of a first run that count as its death, beside signals.
        environment: variables to set, None: to unset.
        again: the input is tried elsewhere already, in another place or system; only `full=true` runs this one.
        warm: the command may run in a fork that has imported everything (see `benchmarks/_warm.py`).
        interrupt_after_s: SIGINT so many seconds after the start; exit code 130 is then clear.
    """

    name: str
    arguments: tuple[str, ...]
    canary: Path
    kept: tuple[Path, ...] = field(default=())
    harmless: bool = False
    failed_rows: bool = False
    missing: Callable[[], str] | None = None
    unsaid: Callable[[], str] | None = None
    inputs: int = 1
    repeats: int = 0
    dies: tuple[int, ...] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    interrupt_after_s: float | None = None
    again: bool = False
    warm: bool = False
