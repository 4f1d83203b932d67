"""Hostile inputs, one file a kind; `benchmarks/attack.py` runs all of them.

A kind is a module here with `attacks(folder) -> Iterator[Attack]`: it writes its inputs under `folder` and says which
command gets which of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Attack:
    """One input for one of the project's commands.

    Attributes:
        name: of the input, for the table's list of what went wrong.
        arguments: of `python -m`, such as ("harness.sweep", "variant=sam_vit_b", …).
        canary: what exists only if code of the input ran.
        kept: files that must hold every line afterwards that they held before.
        harmless: exit code 0 is as good as 2, because the input can be read without harm.
    """

    name: str
    arguments: tuple[str, ...]
    canary: Path
    kept: tuple[Path, ...] = field(default=())
    harmless: bool = False
