"""The table of a study: each variant by each person, and by all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from harness.scoring.intervals import mean_interval
from harness.scoring.metrics import curves
from reports.read.study import Studied
from reports.tables.table import Column, Row, Table, Value

TARGETS = (0.85, 0.90)
EVERYONE = "(all)"
_COLUMNS = (
    Column("variant", "Variant"),
    Column("user", "User"),
    Column("samples", "Samples", help="that were clicked at least once"),
    Column("clicks", "Clicks a sample", better="low"),
    Column("iou", "IoU at the end, %", better="high"),
    *(Column(f"noc{100 * t:.0f}", f"NoC@{100 * t:.0f}", better="low") for t in TARGETS),
    *(Column(f"nof{100 * t:.0f}", f"NoF@{100 * t:.0f}", better="low") for t in TARGETS),
    Column("seconds", "Seconds a sample", better="low", help="from the image to the last click, undone ones included"),
    Column("between", "Seconds a click", help="median time from what was done before to a click"),
    Column("undone", "Undone a sample"),
    Column("online", "Click ms", better="low", help="median time of the model's answer"),
    Column("encode", "Encode ms", better="low", help="median over images; variants with one encoder share it"),
)


def table(studied: Studied) -> Table:
    """One row per variant and user, and one per variant for everybody."""
    limit = studied.limit or int(studied.answers["click"].max())
    users = list(dict.fromkeys(studied.answers["user"]))
    rows = []
    for variant in dict.fromkeys(studied.answers["variant"]):
        mine = studied.answers[studied.answers["variant"] == variant]
        for user in [*users, EVERYONE] if len(users) > 1 else users:
            chosen = mine if user == EVERYONE else mine[mine["user"] == user]
            done = studied.actions if user == EVERYONE else studied.actions[studied.actions["user"] == user]
            if len(chosen):
                rows.append(Row((variant, user, *_cells(chosen, done, limit))))
    notes = [
        f"NoC counts {limit} where the target is not reached; people stop when they are content, so NoC and NoF of "
        "people and of annotators that go on clicking are not the same thing.",
        "Variants side by side get the same clicks: those of a person who saw all of their answers.",
    ]
    if studied.answers["iou"].isna().all():
        notes = ["The object is not known here, so there is no IoU."]
    if studied.unanswered:
        lack = "1 click lacks" if studied.unanswered == 1 else f"{studied.unanswered} clicks lack"
        notes.append(f"{lack} the answer of some variant; open the page again to make it.")
    caption = "Means over samples with 95 % intervals, over images where several objects or people share one."
    return Table("study", studied.title, caption, _COLUMNS, tuple(rows), tuple(notes))


def _cells(rows: pd.DataFrame, done: pd.DataFrame, limit: int) -> list[Value]:
    """Numbers of one variant by one person, or by all."""
    # What one person did on one sample is an episode; those on one image are one draw.
    episodes: list[Any] = list(zip(rows["user"], rows["sample"], strict=True))
    rows = rows.assign(sample=episodes)
    image = rows.groupby("sample")["image"].first()
    last = rows.groupby("sample")["click"].max().astype(float)
    clicked = done[done["action"] == "click"]
    keys = pd.MultiIndex.from_tuples(list(last.index), names=["user", "sample"])
    seconds = done.groupby(["user", "sample"])["seconds"].sum(min_count=1).reindex(keys).to_numpy()
    undone = clicked.groupby(["user", "sample"]).size().reindex(keys).to_numpy() - last.to_numpy()
    images = image.to_numpy()
    cells = [Value(float(len(last)), digits=0), _mean(last.to_numpy(), images, 1, limit)]
    table = curves(rows, max(limit, int(last.max())))
    cells.append(_mean(100 * table.iloc[:, -1].to_numpy(), images, 0, 100, digits=1))
    known = ~table.isna().any(axis=1).to_numpy()
    reached = [table.to_numpy() >= target for target in TARGETS]
    for hit in reached:
        first = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, limit).astype(float)
        cells.append(_mean(np.where(known, first, np.nan), images, 1, limit))
    cells += [_count(int((~hit.any(axis=1) & known).sum()), int(known.sum())) for hit in reached]
    cells.append(_mean(seconds, images, 0, math.inf, digits=1))
    cells.append(_median(clicked["seconds"], 1))
    cells.append(_mean(undone, images, 0, math.inf))
    cells.append(_median(rows["online_ms"], 1))
    cells.append(_median(rows.groupby("image")["encode_ms"].first(), 0))
    return cells


def _mean(values: np.ndarray, images: np.ndarray, least: float, most: float, digits: int = 2) -> Value:
    known = values[~np.isnan(values)]
    if not len(known):
        return Value(missing="–")
    low, high = (math.nan, math.nan) if math.isinf(most) else mean_interval(values, least, most, images)
    return Value(float(known.mean()), low, high, digits=digits, too_few=not math.isinf(most))


def _median(values: pd.Series, digits: int) -> Value:
    known = values.dropna()
    return Value(float(known.median()), digits=digits) if len(known) else Value(missing="–")


def _count(value: int, of: int) -> Value:
    return Value(float(value), digits=0, of=of) if of else Value(missing="–")
