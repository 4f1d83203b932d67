"""Data sets whose masks hold several objects: each instance is a sample, named STEM#VALUE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from harness.datasets.facts import FileFacts
from harness.datasets.masks import read_values
from harness.datasets.pairs import Entry
from harness.datasets.problems import EmptyMask, Unreadable
from harness.errors import SampleError


def values_in(path: Path) -> list[int]:
    """Values above 0 in a mask of (palette) indices, ascending."""
    values = read_values(path, indices=True)
    if values.ndim == 3:
        raise Unreadable(
            f"{path}: a colour image, but each instance must have its own index; export it as a palette or grey file."
        )
    return [int(v) for v in np.unique(values) if v > 0]


def instance_entries(
    pairs: Iterable[Entry],
    find: Callable[[Path], list[int]] = values_in,
    ignore: int | None = None,
    kind: str = "instances",
) -> Iterator[Entry]:
    """One entry per instance of each pair; a pair that cannot be read, or holds none, stays as one with its
    problem.

    Args:
        pairs: entries of image and mask.
        find: values of the instances in a mask file.
        ignore: value that is no instance.
        kind: name under which `find`'s answers are remembered (see `FileFacts`).
    """
    with FileFacts() as facts:
        for pair in pairs:
            if pair.problem is not None or pair.mask is None:
                yield pair
                continue
            try:
                values = [v for v in facts.get(pair.mask, kind, find) if v != ignore]
            except SampleError as error:
                yield Entry(pair.name, pair.image, pair.mask, problem=error)
                continue
            if not values:
                problem = EmptyMask(f"{pair.mask}: no instance (no value above 0 that counts); take it off the list.")
                yield Entry(pair.name, pair.image, pair.mask, problem=problem)
            yield from (Entry(f"{pair.name}#{v}", pair.image, pair.mask, value=v) for v in values)
