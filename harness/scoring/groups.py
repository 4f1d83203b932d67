"""Metrics of several episodes of one sample, from the rows of groups.parquet (docs/protocols.md, "Clicks of people").

One value per sample first, then means with intervals over samples, like every other metric. The functions on arrays
take (samples, 10) values of RClicks' groups, from the least likely clicks (column 0) to the most likely (column 9).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.scoring import curves as shape

NONE = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in {
    "sample": str, "group": str, "click": int, "iou": float,
}.items()})  # fmt: skip
"""Rows of a protocol without further episodes."""
GROUPS = tuple(f"g{number}" for number in range(1, 11))
_SMALL = 1e-9
"""In the denominator of User@1's relative spread, as in RClicks' notebook."""


def std(clicks: np.ndarray) -> np.ndarray:
    """STD: population standard deviation over the groups, (samples,)."""
    return clicks.std(axis=1)


def delta_groups(clicks: np.ndarray) -> np.ndarray:
    """dGR = (NoC_G1 - NoC_G10) / NoC_G10, (samples,)."""
    return (clicks[:, 0] - clicks[:, -1]) / clicks[:, -1]


def delta_halves(clicks: np.ndarray) -> np.ndarray:
    """dHH = (mean of G1..G5 - mean of G6..G10) / mean of G6..G10, (samples,)."""
    less, more = clicks[:, :5].mean(axis=1), clicks[:, 5:].mean(axis=1)
    return (less - more) / more


def delta_base(clicks: np.ndarray, base: np.ndarray) -> np.ndarray:
    """dSB = (mean over the groups - robot) / robot, (samples,); base: (samples,) NoC of the robot."""
    return (clicks.mean(axis=1) - base) / base


def relative_spread(areas: np.ndarray) -> np.ndarray:
    """NSR = standard deviation over the groups / their mean, (samples,); 0 where all groups are equal."""
    spread, mean = areas.std(axis=1), areas.mean(axis=1)
    return np.divide(spread, mean, out=np.zeros_like(spread), where=spread > 0)


@dataclass(frozen=True)
class Grouped:
    """The valid samples of one variant on one data set with their further episodes.

    Attributes:
        rows: clicks of the episodes in clicks.parquet.
        groups: clicks of all others, with the column `group`.
        samples: names of the valid samples, in the order of the values that are returned.
        limit: clicks that were allowed.
    """

    rows: pd.DataFrame
    groups: pd.DataFrame
    samples: pd.Index
    limit: int

    def curves(self, group: str) -> np.ndarray:
        """(samples, limit) IoU of one group; NaN where a sample has no such episode."""
        mine = self.groups[self.groups["group"] == group]
        return shape.curves(mine, self.limit).reindex(self.samples).to_numpy(dtype=float)

    def noc(self, group: str, target: float) -> np.ndarray:
        """(samples,) NoC of one group; NaN where a sample has no such episode."""
        return _noc(self.curves(group), target)

    def base_noc(self, target: float) -> np.ndarray:
        """(samples,) NoC of the episodes in clicks.parquet."""
        return _noc(shape.curves(self.rows, self.limit).reindex(self.samples).to_numpy(dtype=float), target)

    def rclicks(self, target: float) -> np.ndarray:
        """(samples, 10) NoC of RClicks' groups."""
        return np.stack([self.noc(group, target) for group in GROUPS], axis=1)

    def rclicks_areas(self) -> np.ndarray:
        """(samples, 10) areas under the IoU over the clicks of RClicks' groups (trapezoids, divided by limit - 1)."""
        return np.stack([shape.area(self.curves(group)) for group in GROUPS], axis=1)

    def of_users(self) -> pd.DataFrame:
        """Rows of people's episodes, by user in `group`; under `recorded` those of clicks.parquet are one of them."""
        people = self.groups[self.groups["group"].str.startswith("user:")]
        if (self.groups["group"].isin(GROUPS)).any():
            return people
        return pd.concat([self.rows.assign(group="user"), people], ignore_index=True)

    def first_clicks(self, how: str) -> pd.Series:
        """One value per sample, `how` over its users, of the IoU after their first click; NaN without a user."""
        first = self.of_users()
        by_sample = first[first["click"] == 1].groupby("sample")["iou"]
        values = by_sample.mean() if how == "mean" else by_sample.std(ddof=0)
        if how == "relative":
            values = values / (by_sample.mean() + _SMALL)
        return values.reindex(self.samples)

    def users_noc(self, target: float, how: str) -> np.ndarray:
        """Mean or population standard deviation of NoC over the users of each sample, (samples,)."""
        people = self.of_users()
        per_user = {
            user: pd.Series(_noc(table.to_numpy(dtype=float), target), table.index)
            for user, table in ((u, shape.curves(rows, self.limit)) for u, rows in people.groupby("group"))
        }
        table = pd.DataFrame(per_user).reindex(self.samples)
        return (table.mean(axis=1) if how == "mean" else table.std(axis=1, ddof=0)).to_numpy(dtype=float)

    def start_iou(self) -> np.ndarray:
        """(samples,) IoU of the masks that the episodes began from."""
        zero = self.rows[self.rows["click"] == 0].set_index("sample")["iou"]
        return zero.reindex(self.samples).to_numpy(dtype=float)


def _noc(table: np.ndarray, target: float) -> np.ndarray:
    clicks = shape.clicks_to(table, target)
    return np.where(np.isnan(table).all(axis=1), np.nan, clicks)


VALUES: Mapping[str, Callable[[Grouped, float], Any]] = {
    "rclicks_noc": lambda of, target: of.rclicks(target).mean(axis=1),
    "rclicks_std": lambda of, target: std(of.rclicks(target)),
    "rclicks_dgr": lambda of, target: delta_groups(of.rclicks(target)),
    "rclicks_dhh": lambda of, target: delta_halves(of.rclicks(target)),
    "rclicks_dsb": lambda of, target: delta_base(of.rclicks(target), of.base_noc(target)),
    "rclicks_nsr_noc": lambda of, target: relative_spread(of.rclicks(target)),
    "rclicks_nsr": lambda of, _: relative_spread(of.rclicks_areas()),
    "user1": lambda of, _: of.first_clicks("mean"),
    "user1_std": lambda of, _: of.first_clicks("std"),
    "user1_nsr": lambda of, _: of.first_clicks("relative"),
    "user_noc": lambda of, target: of.users_noc(target, "mean"),
    "user_std": lambda of, target: of.users_noc(target, "std"),
    "worst_noc": lambda of, target: of.noc("worst", target),
    "best_noc": lambda of, target: of.noc("best", target),
    "zero_noc": lambda of, target: of.noc("zero", target),
    "start_iou": lambda of, _: of.start_iou(),
}
"""Family of `harness.scoring.registry.GROUP_FAMILIES` -> one value per sample at an IoU target (or 0)."""
