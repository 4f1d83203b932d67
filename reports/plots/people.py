"""Plots of several episodes per sample: curves by group with bands, and where people and robots click."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.scoring.groups import GROUPS
from reports.plots.quality import band, curve
from reports.plots.style import COLOURS, INK, MUTED, Plot, drawing
from reports.read.runs import Run
from reports.read.words import label, slug, title, where

_CELLS = 24
"""Cells of a heat map along each side."""
_MOST = 6
"""Variants that get a panel."""
BASE = "base"


def names_of(groups: pd.DataFrame) -> dict[str, str]:
    """Groups that are drawn, in order, with their names in legends; `base` is the episode of clicks.parquet."""
    known = set(groups["group"])
    if known & set(GROUPS):
        return {BASE: "robot", **{g: _of_ten(g) for g in GROUPS}, **({"user": "people"} if _people(groups) else {})}
    if {"worst", "best"} & known:
        return {BASE: "robot", "worst": "worst of k", "best": "best of k"}
    if "zero" in known:
        return {BASE: "from the start mask", "zero": "from zero"}
    return {BASE: "first user", "user": "other users"} if _people(groups) else {}


def _of_ten(group: str) -> str:
    ends = {"g1": " (least likely)", "g10": " (most likely)"}
    return group.upper() + ends.get(group, "")


def _people(groups: pd.DataFrame) -> bool:
    return bool(groups["group"].str.startswith("user:").any())


def rows_of(run: Run, dataset: str, variant: str, group: str) -> pd.DataFrame:
    """Clicks of one group on one data set; of `user` those of all users, each user's episode a sample of its own."""
    frame = run.clicks if group == BASE else run.groups
    rows = frame[(frame["dataset"] == dataset) & (frame["variant"] == variant)]
    if group == BASE:
        return rows
    if group != "user":
        return rows[rows["group"] == group]
    rows = rows[rows["group"].str.startswith("user:")]
    return rows.assign(sample=rows["sample"].astype(str) + "\n" + rows["group"])


def group_curves(run: Run, dataset: str) -> Plot | None:
    """Mean IoU after each click by group, a panel per variant; None without groups."""
    here = run.groups[run.groups["dataset"] == dataset]
    names = {g: n for g, n in names_of(here).items() if g != "user" or here["click"].max() > 1}
    variants = [v for v in run.variants if v in set(here["variant"])][:_MOST]
    if not variants or len(names) < 2:
        return None
    ends: list[str] = []
    with drawing(4.6 * min(2, len(variants)), 3.4 * -(-len(variants) // 2) + 0.4, -(-len(variants) // 2),
                 min(2, len(variants)), sharey=True) as (figure, axes):  # fmt: skip
        for ax in axes[len(variants) :]:
            ax.set_visible(False)
        for ax, variant in zip(axes, variants, strict=False):
            sentences = []
            for number, (group, name) in enumerate(names.items()):
                table = curve(rows_of(run, dataset, variant, group))
                if table.empty:
                    continue
                values, clicks = table.to_numpy() * 100, table.columns.to_numpy()
                mean = values.mean(axis=0)
                strong = group in (BASE, "g1", "g10", "worst", "best", "zero", "user")
                colour = INK if group == BASE else _colour(group, number)
                ax.plot(
                    clicks, mean, color=colour, linewidth=2.0 if strong else 0.9, alpha=1.0 if strong else 0.7,
                    linestyle="--" if group == BASE else "-", label=name,
                )  # fmt: skip
                if strong and len(clicks) > 1:
                    low, high = band(values)
                    ax.fill_between(clicks, low, high, color=colour, alpha=0.12, linewidth=0)
                if strong:
                    sentences.append(f"{name} {mean[0]:.0f} to {mean[-1]:.0f} %")
            ax.axhline(90, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
            last = int(run.clicks.loc[run.clicks["dataset"] == dataset, "click"].max())
            ax.set(xlabel="Clicks", ylabel="Mean IoU (%)", ylim=(None, 101))
            ax.set_xticks([1, *range(5, last + 1, 5)] if last > 6 else range(1, last + 1))
            ax.set_title(label(run, variant))
            ends.append(f"{label(run, variant)}: {', '.join(sentences)}")
        handles, shown = axes[0].get_legend_handles_labels()
        figure.legend(handles, shown, loc="outside lower center", ncols=min(6, len(shown)), fontsize=7.5)
        figure.suptitle(title(run, dataset), fontsize=10)
    return Plot(
        f"groups_{slug(dataset)}",
        f"IoU against clicks by group of clicks, {dataset}",
        "Mean IoU after each click, by who clicks; bands are 95 % intervals over samples (too few: below 6 images). "
        f"{where(run, dataset)}.",
        f"Line charts of mean IoU by group on {dataset}. {'; '.join(ends)}.",
        figure,
        dataset,
    )


def click_map(run: Run, dataset: str) -> Plot | None:
    """Where first clicks fall in the image, by group; None without groups."""
    here = run.groups[run.groups["dataset"] == dataset]
    names = {g: n for g, n in names_of(here).items() if g in (BASE, "g1", "g5", "g10", "user", "worst", "best")}
    variants = [v for v in run.variants if v in set(here["variant"])]
    if not variants or len(names) < 2:
        return None
    panels = {}
    for group, name in names.items():
        rows = rows_of(run, dataset, variants[0], group)
        rows = rows[(rows["click"] == 1) & (rows["y"] >= 0) & (rows["height"] > 0)]
        panels[name] = ((rows["y"] + 0.5) / rows["height"], (rows["x"] + 0.5) / rows["width"])
    with drawing(2.5 * len(panels), 2.7, 1, len(panels)) as (figure, axes):
        for ax, (name, (y, x)) in zip(axes, panels.items(), strict=True):
            counts, _, _ = np.histogram2d(y, x, bins=_CELLS, range=((0, 1), (0, 1)))
            ax.imshow(counts, cmap="magma", extent=(0, 1, 1, 0), aspect="equal")
            ax.set_title(f"{name}: {len(y)}", fontsize=8)
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
        figure.suptitle(title(run, dataset), fontsize=10)
    spread = "; ".join(
        f"{name}: {len(y)} clicks, centre ({_mean(x):.2f}, {_mean(y):.2f})" for name, (y, x) in panels.items()
    )
    return Plot(
        f"click_map_{slug(dataset)}",
        f"Where first clicks fall, {dataset}",
        f"First clicks by who clicks, as a share of the image's width and height; bright: many. {where(run, dataset)}.",
        f"Heat maps of first clicks on {dataset}, centre as shares of width and height. {spread}.",
        figure,
        dataset,
    )


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _colour(group: str, number: int) -> str:
    fixed = {"worst": COLOURS[1], "best": COLOURS[2], "zero": COLOURS[0], "user": COLOURS[3]}
    if group in GROUPS:  # from orange (unlikely) to blue (likely)
        share = GROUPS.index(group) / (len(GROUPS) - 1)
        first, last = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (COLOURS[1], COLOURS[0]))
        red, green, blue = (int(v) for v in np.rint(first + share * (last - first)))
        return f"#{red:02x}{green:02x}{blue:02x}"
    return fixed.get(group, COLOURS[number % len(COLOURS)])
