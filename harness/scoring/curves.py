"""From rows of clicks to curves: IoU after each click, and what is read from one curve."""

from __future__ import annotations

import numpy as np
import pandas as pd


def curves(rows: pd.DataFrame, limit: int, column: str = "iou") -> pd.DataFrame:
    """(samples, limit) table of `column` after click 1..limit, filled forward where an episode stopped early.

    An episode that began from a mask and had nothing to click keeps that mask's value (click 0).
    """
    table = rows.pivot(index="sample", columns="click", values=column)
    return table.reindex(columns=range(limit + 1)).ffill(axis=1).reindex(columns=range(1, limit + 1))


def clicks_to(table: np.ndarray, target: float) -> np.ndarray:
    """NoC of each row of a (samples, limit) table: the first click with IoU >= target, limit where there is none."""
    reached = table >= target
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, table.shape[1]).astype(float)


def area(table: np.ndarray) -> np.ndarray:
    """Area under each row over clicks 1..limit (trapezoids), divided by limit - 1, so that a perfect curve gives 1."""
    if table.shape[1] == 1:
        return table[:, 0]
    inner = table.sum(axis=1) - (table[:, 0] + table[:, -1]) / 2
    return inner / (table.shape[1] - 1)
