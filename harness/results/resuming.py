"""Episodes that were made by other code than today's: said in one line, kept or done again."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import UserError, near_miss
from harness.planning.plan import Cell
from harness.results.cells import CellFile
from harness.results.damaged import Tell
from harness.results.tables import cell_header

CHOICES = ("keep", "redo")


def require_choice(choice: str) -> None:
    """Raise UserError if `code` is neither keep nor redo."""
    if choice not in CHOICES:
        raise UserError(f"code={choice!r}: what to do with episodes of other code. {near_miss(str(choice), CHOICES)}")


def compare_code(cells: Mapping[Cell, CellFile], choice: str, tell: Tell) -> None:
    """Say which cells hold finished episodes of other code; with `redo`, set those files aside and begin them anew."""
    changed = {cell: file for cell, file in cells.items() if file.codes - {cell.code.digest}}
    if not changed:
        return
    unknown = all("" in file.codes for file in changed.values())
    before = (
        "before digests of the code were kept"
        if unknown
        else f"by other code ({_listed({c for f in changed.values() for c in f.codes if c})}, "
        f"now {_listed({cell.code.digest for cell in changed})})"
    )
    count = f"{len(changed)} of {len(cells)} cells hold episodes made {before}"
    if choice == "keep":
        tell(f"{count}: they are kept and gone on with; code=redo makes them again.")
        return
    for cell, file in changed.items():
        file.restart(cell_header(cell))
    tell(f"{count}: they are made again (code=redo); the files of before are cells/*.older.")


def _listed(digests: set[str]) -> str:
    shown = sorted(digests)
    return ", ".join(shown[:2]) + (f" and {len(shown) - 2} more" if len(shown) > 2 else "")
