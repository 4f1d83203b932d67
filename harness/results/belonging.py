"""What of a sweep's folder belongs to the plan that writes there now, where another command wrote before.

Raw rows in cells/ stay whatever runs. Tables made from them go when they hold cells of another plan; the command that
made them makes them again. FLOPs and times cost a measurement, so they are put away under measured/KEY/ and come back
with their variants.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError
from harness.planning.identity import MEASURED
from harness.planning.plan import Plan
from harness.records import BadRecord
from harness.results.csv_tables import read_csv
from harness.results.damaged import parse, read_json
from harness.results.measured import Measured, Measurement, entries
from harness.results.schema import CellHeader
from harness.results.stages import digest, variants_digest
from harness.results.store import Store

FROM_CELLS = ("cells.json", "clicks.parquet", "groups.parquet", "summary.csv", "compare.csv", "sequential.csv")
"""Files that are made from cells/, whatever the command."""
OF_STAGE: Mapping[str, tuple[str, ...]] = {
    "flops": ("flops.csv",),
    "latency": ("latency.csv", "latency_samples.parquet", "latency_parts.csv", "latency_scaling.csv"),
}
"""Measuring stage -> its files."""
_MOST = 6
"""Other cells that the line names."""
_LONGEST = 4 << 20
"""Bytes of a header."""


def make_room(plan: Plan, store: Store) -> None:
    """Take away what belongs to other plans, bring back what belongs to this one, and say which other cells stay.

    Called before config.yaml names the new plan, so that no moment shows rows of one plan under the name of another.
    """
    keys = {cell.key for cell in plan.cells}
    if not _listed(store.out / "cells.json") <= keys:
        store.remove(*FROM_CELLS)
    elif _base(store.out / "compare.csv") not in (None, plan.base):
        store.remove("compare.csv", "sequential.csv")
    _exchange(plan, store)
    others = _others(plan, keys, store.out / "cells")
    if others:
        more = f" and {len(others) - _MOST} more" if len(others) > _MOST else ""
        store.tell(
            f"{store.out} also holds cells of {', '.join(others[:_MOST])}{more} (kept in cells/; their tables come "
            "back with their command, or give this one out=OTHER)."
        )


def _listed(path: Path) -> set[str]:
    """Keys of the cells that the tables were made from; none where the list is missing or damaged."""
    try:
        return {str(entry["cell"]) for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()


def _base(path: Path) -> str | None:
    """The variant that a compare.csv compares with; None where it says none."""
    try:
        frame = read_csv(path)
        return str(frame["base"].iloc[0])
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _others(plan: Plan, keys: set[str], folder: Path) -> list[str]:
    """Names of the cells that are not of this plan, without repetition."""
    variants, datasets = {v.name for v in plan.variants}, {d.name for d in plan.datasets}
    names: dict[str, None] = {}
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem in keys:
            continue
        header = _header(path)
        if header is None:
            continue
        if header.variant not in variants:
            name = header.variant
        elif header.dataset not in datasets:
            name = f"{header.variant} on {header.dataset}"
        else:
            name = f"{header.variant} with other settings, weights, samples or protocol"
        names[name] = None
    return sorted(names)


def _header(path: Path) -> CellHeader | None:
    """What a cell's first line says of it; None where it is damaged or no plain file."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            return CellHeader.read(parse(file.readline(_LONGEST)))
    except (OSError, BadRecord):
        return None


def _exchange(plan: Plan, store: Store) -> None:
    """Put FLOPs and times of other variants away, and bring those of this plan back."""
    measured = Measured(store)
    mine = _place(variants_digest(plan), plan.datasets[0].digest)
    for stage, names in OF_STAGE.items():
        if (store.out / names[0]).exists():
            kept = measured.stages.get(stage)
            if kept is not None:
                place = _place(kept.stamp.variants, kept.stamp.dataset)
            else:  # of an older form, which kept no stamp: the names are all that can be compared
                place = mine if _names_within(store.out / names[0], {v.name for v in plan.variants}) else "older"
            if place == mine:
                continue
            target = store.out / "measured" / place
            target.mkdir(parents=True, exist_ok=True)
            if kept is not None:
                store.write_json(f"measured/{place}/{stage}.json", {stage: kept.record(), "schema": MEASURED})
            _move(names, store.out, target)
            measured.drop(stage)
            store.tell(
                f"{names[0]} is of other variants, weights or samples: put away in measured/{place} until their "
                "command runs here again."
            )
        folder = store.out / "measured" / mine
        before = _put_away(folder / f"{stage}.json", stage, store)
        if before is not None and (folder / names[0]).exists():
            _move(names, folder, store.out)
            measured.keep(stage, before)


def _put_away(path: Path, stage: str, store: Store) -> Measurement | None:
    content = read_json(path, entries, store.tell)
    return entries(content).get(stage) if content else None


def _place(variants: str, dataset: str) -> str:
    """Name of the folder for FLOPs and times of these variants on this data."""
    return digest([variants, dataset])


def _names_within(path: Path, variants: set[str]) -> bool:
    try:
        return set(read_csv(path)["variant"].astype(str)) <= variants
    except (OSError, ValueError, KeyError):
        return True  # damaged: the stage that reads it says so


def _move(names: tuple[str, ...], source: Path, target: Path) -> None:
    """Move a stage's files over those that an earlier move left there."""
    try:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (target / name).unlink()
            if (source / name).exists():
                os.replace(source / name, target / name)
    except OSError as error:
        raise UserError(f"cannot move {names[0]} from {source} to {target}: {error.strerror or error}.") from error
