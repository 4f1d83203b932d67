"""Plots of quality: IoU against clicks, NoC against time, differences per sample, histograms of NoC."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.scoring.intervals import mean_intervals
from harness.scoring.registry import metric
from reports.plots.labels import label_points, plain_log
from reports.plots.style import COLOURS, INK, MUTED, Plot, drawing, looks
from reports.read.runs import Run
from reports.read.words import label, slug, title, where
from reports.tables import speed

_PANELS = 12


def curve(rows: pd.DataFrame, column: str = "iou") -> pd.DataFrame:
    """Samples x clicks; an episode that stopped early keeps its last value for the clicks after."""
    table = rows.pivot_table(index="sample", columns="click", values=column, sort=True)
    return table.dropna(how="all").ffill(axis=1)


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % band of the mean of (samples, clicks) IoUs in %, of whole samples; NaN where there are too few of them."""
    low, high = mean_intervals(values.T, 0.0, 100.0).T
    return low, high


def iou_curves(run: Run, dataset: str) -> Plot:
    """Mean IoU after each click, with bands."""
    look = looks(run.variants)
    rows = run.clicks[run.clicks["dataset"] == dataset]
    wide = len(run.variants) > 8
    with drawing(8.6 if wide else 6.4, 4.0) as (figure, (ax,)):
        first = min(1, int(rows["click"].min())) if len(rows) else 1  # 0: episodes that begin from a mask
        lowest, last = 100.0, 1
        ends: list[str] = []
        for variant in run.variants:
            mine = curve(rows[rows["variant"] == variant])
            if mine.empty:
                continue
            values = mine.to_numpy() * 100
            clicks = mine.columns.to_numpy()
            mean, (low, high) = values.mean(0), band(values)
            style = look[variant]
            ax.plot(
                clicks,
                mean,
                color=style.colour,
                linestyle=style.dash,
                marker=style.marker,
                markersize=4,
                label=label(run, variant),
            )
            if not wide:
                ax.fill_between(clicks, low, high, color=style.colour, alpha=0.13, linewidth=0)
            lowest, last = min(lowest, float(np.nanmin([low.min(), mean.min()]))), max(last, int(clicks[-1]))
            ends.append(f"{label(run, variant)} from {mean[0]:.0f} to {mean[-1]:.0f} %")
        for target in (90, 95):
            ax.axhline(target, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        bottom = max(0, math.floor(lowest / 10) * 10)
        ax.set(xlabel="Clicks", ylabel="Mean IoU (%)", xlim=(first - 0.5, last + 0.5), ylim=(bottom, 101))
        ax.set_xticks([1, *range(5, last + 1, 5)] if last > 6 else range(1, last + 1))
        ax.set_title(title(run, dataset))
        legend(ax, len(run.variants))
    bands = "" if wide else " with 95 % bands over samples"
    return Plot(
        f"iou_{slug(dataset)}",
        f"IoU against clicks, {dataset}",
        f"Mean IoU after each click{bands}. {where(run, dataset)}. Dashed lines: 90 and 95 %.",
        f"Line chart of mean IoU over {last} clicks on {dataset}: {'; '.join(ends)}.",
        figure,
        dataset,
    )


def online(run: Run, variant: str) -> tuple[float, str] | None:
    """Online ms of a click after the first: latency measured alone, else the click loop's own times."""
    measured = speed.milliseconds(run, variant, "later")
    if measured is not None:
        return measured, f"latency measured alone, {speed.describe(run)}"
    rows = run.clicks[(run.clicks["variant"] == variant) & (run.clicks["click"] > 1)]["online_ms"].dropna()
    return (float(rows.median()), "median of the click loop, machine shared") if len(rows) else None


def noc_against_time(run: Run, dataset: str, key: str = "noc90") -> Plot | None:
    """NoC against online time, with the Pareto front; None where nothing was timed or the protocol has no such NoC."""
    look = looks(run.variants)
    whole = run.summary[(run.summary["dataset"] == dataset) & (run.summary["metric"] == key)]
    whole = whole[whole["size_bin"].isin(("", "all"))]
    points = []
    for variant in run.variants:
        line, time = whole[whole["variant"] == variant], online(run, variant)
        if len(line) and time is not None:
            points.append((variant, time[0], *line.iloc[0][["value", "low", "high"]].astype(float), time[1]))
    if not points:
        return None
    name = metric(key).title
    front = pareto([(t, v) for n, t, v, *_ in points if run.ranked(n)])
    with drawing(6.4, 4.0) as (figure, (ax,)):
        if len(front) > 1:
            ax.step(
                *zip(*front, strict=True),
                where="post",
                color=MUTED,
                linewidth=1.1,
                linestyle=(0, (4, 2)),
                zorder=1,
            )
        for variant, time, value, low, high, _ in points:
            style = look[variant]
            if not math.isnan(low):
                ax.vlines(time, low, high, color=style.colour, linewidth=1.2, alpha=0.7)
            face = style.colour if run.ranked(variant) else "white"
            ax.plot(
                time,
                value,
                style.marker,
                color=style.colour,
                markersize=8,
                markerfacecolor=face,
                markeredgewidth=1.6,
            )
        ax.set_xscale("log")
        times = [t for _, t, *_ in points]
        ax.set_xlim(min(times) / 1.35, max(times) * 1.6)
        plain_log(ax.xaxis, ax.get_xlim())
        names = [(t, v, label(run, n), look[n].colour) for n, t, v, *_ in points]
        if len(front) > 1:
            (x0, y0), (x1, _) = front[0], front[1]
            names.append((math.sqrt(x0 * x1), y0, "Pareto front", MUTED))
        label_points(ax, names)
        ax.set(xlabel="Online time per click (ms, log scale)", ylabel=f"{name} (clicks)")
        ax.set_title(title(run, dataset))
    sentences = "; ".join(f"{label(run, v)} {n:.2f} clicks at {t:.1f} ms" for v, t, n, *_ in points)
    return Plot(
        f"{key}_time_{slug(dataset)}",
        f"{name} against time, {dataset}",
        f"{name} with its 95 % interval against the time of later clicks ({points[0][5]}); lower left is better. "
        f"Hollow: untrained weights, outside the front. {where(run, dataset)}.",
        f"Scatter of {name} against online time: {sentences}.",
        figure,
        dataset,
    )


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in both coordinates, by the first coordinate; smaller is better in both."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front


def differences(run: Run, dataset: str, click: int = 5) -> Plot | None:
    """IoU after `click` clicks, each variant minus the base, sample by sample; None without two variants."""
    rows = run.clicks[run.clicks["dataset"] == dataset]
    tables = {v: curve(rows[rows["variant"] == v]) for v in run.variants}
    tables = {v: t for v, t in tables.items() if not t.empty}
    others = [v for v in tables if v != run.base][:_PANELS]
    if run.base not in tables or not others:
        return None
    click = min(click, int(rows["click"].max()))
    base = tables[run.base].reindex(columns=range(1, click + 1)).ffill(axis=1)[click]
    columns = min(3, len(others))
    height = math.ceil(len(others) / columns)
    sentences = []
    with drawing(max(3.2 * columns, 4.2), 2.3 * height + 0.8, height, columns, sharey=True) as (figure, axes):
        for ax, variant in zip(axes, others, strict=False):
            mine = tables[variant].reindex(columns=range(1, click + 1)).ffill(axis=1)[click]
            change = ((mine - base).dropna() * 100).sort_values().to_numpy()
            colours = np.where(change > 0, COLOURS[0], COLOURS[1])
            ax.bar(
                np.arange(len(change)),
                change,
                width=0.85 if len(change) < 80 else 1.0,
                color=colours,
                linewidth=0,
            )
            ax.axhline(0, color=INK, linewidth=0.8)
            better, worse = int((change > 0).sum()), int((change < 0).sum())
            ax.set_title(label(run, variant), pad=16, fontsize=9)
            ax.text(
                0,
                1.02,
                f"{better} better, {worse} worse, mean {change.mean():+.1f}".replace("-", "−"),
                transform=ax.transAxes,
                fontsize=8,
                color=MUTED,
            )
            ax.set_xticks([])
            ax.grid(axis="x", visible=False)
            sentences.append(
                f"{label(run, variant)}: {better} samples better, {worse} worse, mean {change.mean():+.1f} points"
            )
        for ax in axes[len(others) :]:
            ax.set_visible(False)
        low, high = axes[0].get_ylim()
        axes[0].set_ylim(min(low, -1.0), max(high, 1.0))  # differences of rounding must look like none
        _heading(figure, run, dataset)
        figure.supylabel(f"IoU after click {click},\nminus {run.base} (points)", fontsize=9 if height > 1 else 8)
        figure.supxlabel("Samples, sorted", fontsize=9)
    more = f" The first {_PANELS} variants." if len(tables) - 1 > _PANELS else ""
    return Plot(
        f"paired_{slug(dataset)}",
        f"What changes for each sample, {dataset}",
        f"IoU after click {click} of each variant minus {run.base} on the same sample; a bar a sample, sorted. "
        f"Blue: better than {run.base}; orange: worse. {where(run, dataset)}.{more}",
        f"Bar charts of the change per sample against {run.base}. " + "; ".join(sentences) + ".",
        figure,
        dataset,
    )


def noc_histograms(run: Run, dataset: str, target: int = 90) -> Plot | None:
    """How many samples need how many clicks, and how many never get there."""
    rows = run.clicks[run.clicks["dataset"] == dataset]
    tables = {v: curve(rows[rows["variant"] == v]) for v in run.variants}
    chosen = [v for v in tables if not tables[v].empty][:_PANELS]
    if not chosen:
        return None
    limit = int(rows["click"].max())
    columns = min(3, len(chosen))
    height = math.ceil(len(chosen) / columns)
    look = looks(run.variants)
    sentences = []
    with drawing(max(3.2 * columns, 4.2), 1.9 * height + 0.8, height, columns, sharey=True, sharex=True) as (
        figure,
        axes,
    ):
        for ax, variant in zip(axes, chosen, strict=False):
            reached = tables[variant].to_numpy() >= target / 100
            first = np.where(reached.any(1), reached.argmax(1) + 1, 0)
            counts = [int((first == k).sum()) for k in range(1, limit + 1)]
            never = int((first == 0).sum())
            ax.bar(range(1, limit + 1), counts, width=0.9, color=look[variant].colour)
            gap = max(2, limit // 6)
            ax.bar(
                limit + gap,
                never,
                width=max(1.0, limit / 14),
                color="white",
                edgecolor=look[variant].colour,
                hatch="////",
                linewidth=1,
            )
            if never:
                ax.text(limit + gap, never, f"{never}", ha="center", va="bottom", fontsize=8)
            ax.set_title(label(run, variant), fontsize=9)
            ticks = [1, *range(5, limit + 1, 5)] if limit > 6 else list(range(1, limit + 1))
            ax.set_xticks([*ticks, limit + gap], [*map(str, ticks), "never"])
            ax.grid(axis="x", visible=False)
            ax.margins(y=0.12)
            sentences.append(f"{label(run, variant)}: {never} of {len(first)} never, {counts[0]} after one click")
        for ax in axes[len(chosen) :]:
            ax.set_visible(False)
        for ax in axes[max(0, len(chosen) - columns) : len(chosen)]:
            ax.tick_params(labelbottom=True)  # also above a panel that is not there
        _heading(figure, run, dataset)
        figure.supxlabel(f"Clicks to {target} % IoU", fontsize=9)
        figure.supylabel("Samples", fontsize=9)
    return Plot(
        f"noc{target}_histogram_{slug(dataset)}",
        f"How many clicks to {target} %, {dataset}",
        f"Samples by the clicks that they need to {target} % IoU. Hatched: not reached within {limit} clicks, "
        f"where NoC counts {limit}. {where(run, dataset)}.",
        f"Histograms of clicks to {target} % IoU. " + "; ".join(sentences) + ".",
        figure,
        dataset,
    )


def _heading(figure: Figure, run: Run, dataset: str) -> None:
    """What a picture of several panels is of, above them."""
    figure.suptitle(title(run, dataset), x=0.008, ha="left", fontsize=10, fontweight="bold")


def legend(ax: Axes, count: int) -> None:
    """Inside the plot for a few lines, on white so that no line strikes a name through; beside it for many."""
    if count <= 8:
        ax.legend(loc="best", handlelength=2.6, frameon=True, facecolor="white", edgecolor="none", framealpha=0.92)
    else:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), handlelength=2.6)
