"""Data sets whose masks hold several objects: each instance is a sample, named STEM#VALUE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from harness.datasets.facts import FileFacts
from harness.datasets.masks import Rule, Value, read_values
from harness.datasets.pairs import Entry
from harness.datasets.problems import EmptyMask, Unreadable
from harness.errors import SampleError


def areas_in(path: Path, stored: bool = False) -> list[list[int]]:
    """[value, pixels] of each value above 0 in a mask of (palette) indices, ascending."""
    values = read_values(path, rule=Rule(indices=True, stored=stored))
    if values.ndim == 3:
        raise Unreadable(
            f"{path}: a colour image, but each instance must have its own index; export it as a palette or grey file."
        )
    if values.dtype.kind == "f":
        raise Unreadable(f"{path}: holds fractions, but each instance must have a whole number of its own.")
    counts = zip(*np.unique(values, return_counts=True), strict=True)
    return [[int(value), int(pixels)] for value, pixels in counts if value > 0]


def stored_areas_in(path: Path) -> list[list[int]]:
    """As `areas_in`, of the values as the file holds them."""
    return areas_in(path, stored=True)


def instance_entries(
    pairs: Iterable[Entry],
    find: Callable[[Path], list[list[int]]] = areas_in,
    ignore: Value | None = None,
    kind: str = "instances and areas",
    smallest: int = 0,
) -> Iterator[Entry]:
    """One entry per instance of each pair; a pair that cannot be read, or holds none, stays as one with its
    problem.

    Args:
        pairs: entries of image and mask.
        find: [value, pixels] of the instances in a mask file.
        ignore: value that is no instance.
        kind: name under which `find`'s answers are remembered (see `FileFacts`).
        smallest: instances of fewer pixels are left out.
    """
    with FileFacts() as facts:
        for pair in pairs:
            if pair.problem is not None or pair.mask is None:
                yield pair
                continue
            try:
                values = [v for v, pixels in facts.get(pair.mask, kind, find) if v != ignore and pixels >= smallest]
            except SampleError as error:
                yield Entry(pair.name, pair.image, pair.mask, problem=error)
                continue
            except OSError as error:
                problem: SampleError = Unreadable(f"{pair.mask}: {error.strerror or error}; make it readable.")
                yield Entry(pair.name, pair.image, pair.mask, problem=problem)
                continue
            if not values:
                counts = f" of {smallest} pixels or more" if smallest else ""
                problem = EmptyMask(
                    f"{pair.mask}: no instance{counts} (no value above 0 that counts); take it off the list."
                )
                yield Entry(pair.name, pair.image, pair.mask, problem=problem)
            yield from (Entry(f"{pair.name}#{v}", pair.image, pair.mask, value=v) for v in values)
