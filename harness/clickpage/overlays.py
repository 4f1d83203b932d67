"""What a model's parts did at a click, drawn over the image: the optional hook `overlays()` of a session.

A session may have `overlays()`, which returns name -> a box (left, top, right, bottom), or cells: an (h, w) array of
whole numbers, -1 where there is none, with the side of a cell. All in pixels of the image (docs/extending.md). A
segmenter with a `keep_trace` attribute is told to keep what its sessions need for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_MOST_CELLS = 1 << 16


@dataclass(frozen=True)
class Box:
    """Corners in pixels of the image."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Cells:
    """Runs of equal cells, each (row, first column, length, value); `side` in pixels of the image."""

    name: str
    side: float
    runs: tuple[tuple[int, int, int, int], ...]


def of(session: Any) -> tuple[Box | Cells, ...]:
    """What a session shows of its last click; nothing where it has no such hook.

    Raises:
        ValueError: the hook returns something else than docs/extending.md says.
    """
    hook = getattr(session, "overlays", None)
    if not callable(hook):
        return ()
    shown = hook()
    if not isinstance(shown, Mapping):
        raise ValueError(f"overlays() returned {type(shown).__name__}; it returns name -> box or (cells, side)")
    return tuple(_overlay(str(name), value) for name, value in shown.items())


def _overlay(name: str, value: Any) -> Box | Cells:
    try:
        if len(value) == 4:
            left, top, right, bottom = (float(v) for v in value)
            return Box(name, left, top, right, bottom)
        cells, side = np.asarray(value[0]), float(value[1])
        if len(value) == 2 and cells.ndim == 2 and cells.dtype.kind in "iub" and cells.size <= _MOST_CELLS and side > 0:
            return Cells(name, side, _runs(cells.astype(np.int64)))
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"overlay {name!r}: {error}") from error
    raise ValueError(f"overlay {name!r}: neither four numbers nor an (h, w) array of whole numbers with a side")


def _runs(cells: np.ndarray) -> tuple[tuple[int, int, int, int], ...]:
    runs = []
    for row, line in enumerate(cells):
        starts = np.concatenate([[0], np.flatnonzero(np.diff(line)) + 1, [line.size]])
        for first, last in zip(starts[:-1], starts[1:], strict=True):
            if line[first] >= 0:
                runs.append((row, int(first), int(last - first), int(line[first])))
    return tuple(runs)
