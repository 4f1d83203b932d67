"""Plots of cost: latency over threads, sizes and objects, time and FLOPs by part, the roofline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.scoring.sizes import SIZE_BINS
from reports.plots.labels import plain_log
from reports.plots.style import Plot, drawing, looks
from reports.read.runs import Run
from reports.read.words import label, slug, where
from reports.tables import speed

KINDS = {"encode": "Encode, once per image", "first": "First click", "later": "Later clicks"}
_TOTALS = ("total", "other")


def slope(x: pd.Series, y: pd.Series) -> float:
    """Exponent of y ~ x^slope: least squares on logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def latency_over(run: Run, axis: str) -> Plot | None:
    """Latency against `threads` or `resolution` on log axes with fitted slopes; None with fewer than two values."""
    frame = run.latency[run.latency["median_ms"].notna() & run.latency["kind"].isin(("encode", "later"))]
    frame = frame[frame["size_bin"].isin(("all", ""))]
    other = "resolution" if axis == "threads" else "threads"
    if frame[axis].nunique() < 2:
        return None
    fixed = frame[other].max() if other == "resolution" else frame[other].min()
    frame = frame[frame[other] == fixed]
    look = looks(run.variants)
    sentences = []
    ticks = sorted(frame[axis].unique())
    if len(ticks) < 2:
        return None
    with drawing(8.6, 3.9, 1, 2) as (figure, axes):
        for ax, kind in zip(axes, ("encode", "later"), strict=True):
            for variant in run.variants:
                mine = frame[(frame["variant"] == variant) & (frame["kind"] == kind)].sort_values(axis)
                if len(mine) < 2:
                    continue
                style, power = look[variant], slope(mine[axis], mine["median_ms"])
                ax.plot(
                    mine[axis],
                    mine["median_ms"],
                    color=style.colour,
                    linestyle=style.dash,
                    marker=style.marker,
                    label=f"{label(run, variant)}  {power:+.2f}".replace("-", "−"),
                )
                _intervals(ax, mine[axis], mine, style.colour)
                sentences.append(
                    f"{kind} of {label(run, variant)} from {mine['median_ms'].iloc[0]:.1f} ms"
                    f" to {mine['median_ms'].iloc[-1]:.1f} ms"
                )
            ax.set(xscale="log", yscale="log", xlabel="Threads" if axis == "threads" else "Longest side (px)")
            ax.set_title(KINDS[kind])
            ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
            ax.minorticks_off()
            plain_log(ax.yaxis, ax.get_ylim())
            _below(ax, "variant, fitted slope")
        axes[0].set_ylabel("Median time (ms, log scale)")
    held = f"{fixed} px" if other == "resolution" else f"{fixed} thread{'s' if fixed != 1 else ''}"
    return Plot(
        f"latency_{axis}",
        f"Latency over {'threads' if axis == 'threads' else 'image size'}",
        f"Median latency with 95 % intervals at {held}; after each name the slope fitted on both log axes "
        f"({'−1 is perfect scaling, 0 none' if axis == 'threads' else '2 is proportional to the number of pixels'}). "
        f"{cpu(run)}.",
        f"Latency against {axis}: " + "; ".join(sentences) + ".",
        figure,
    )


def _intervals(ax: Axes, x: Any, frame: pd.DataFrame, colour: str) -> None:
    """95 % intervals as vertical lines; too few rounds give an infinite one, which is none."""
    known = (np.isfinite(frame["high_ms"]) & (frame["low_ms"] > 0)).to_numpy(dtype=bool)
    at = np.asarray(x)[known]
    ax.vlines(at, frame["low_ms"].to_numpy()[known], frame["high_ms"].to_numpy()[known], color=colour, linewidth=1)


def _below(ax: Axes, title: str | None = None) -> None:
    """A legend under the axes, where it can cover nothing."""
    if ax.lines:
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.17),
            title=title,
            title_fontsize=8,
            fontsize=7.5,
            ncols=1 + (len(ax.lines) > 4),
        )


def latency_by_size(run: Run) -> Plot | None:
    """Latency of first and later clicks by the object's share of the image."""
    frame = run.latency[run.latency["median_ms"].notna() & run.latency["size_bin"].isin(SIZE_BINS)]
    condition = speed.condition(run)
    if condition is None or frame["size_bin"].nunique() < 2:
        return None
    frame = frame[(frame["threads"] == condition[0]) & (frame["resolution"] == condition[1])]
    present = [s for s in SIZE_BINS if s in set(frame["size_bin"])]
    kinds = [k for k in ("first", "later") if k in set(frame["kind"])]
    if len(present) < 2 or not kinds:
        return None
    look = looks(run.variants)
    sentences = []
    with drawing(4.3 * len(kinds), 3.7, 1, len(kinds), sharey=True) as (figure, axes):
        for ax, kind in zip(axes, kinds, strict=True):
            for variant in run.variants:
                mine = (
                    frame[(frame["variant"] == variant) & (frame["kind"] == kind)]
                    .set_index("size_bin")
                    .reindex(present)
                )
                if mine["median_ms"].notna().sum() < 2:
                    continue
                style = look[variant]
                x = np.arange(len(present))
                ax.plot(
                    x,
                    mine["median_ms"],
                    color=style.colour,
                    linestyle=style.dash,
                    marker=style.marker,
                    label=label(run, variant),
                )
                _intervals(ax, x, mine, style.colour)
                sentences.append(
                    f"{kind} click of {label(run, variant)} " + ", ".join(f"{m:.1f}" for m in mine["median_ms"]) + " ms"
                )
            ax.set_yscale("log")
            ax.set_xticks(range(len(present)), present)
            ax.set_xlim(-0.4, len(present) - 0.6)
            ax.set_xlabel("Object's share of the image")
            ax.set_title(KINDS[kind])
            ax.minorticks_off()
        plain_log(axes[0].yaxis, axes[0].get_ylim())
        axes[0].set_ylabel("Median time (ms, log scale)")
        for ax in axes:
            _below(ax)
    return Plot(
        "latency_size",
        "Latency by object size",
        f"Median latency of a click with 95 % intervals by object size; {speed.describe(run)}. {cpu(run)}.",
        "Latency by object size (" + ", ".join(present) + "): " + "; ".join(sentences) + ".",
        figure,
    )


def time_against_object(run: Run, dataset: str) -> Plot | None:
    """Online time of each sample against its object's share of the image, with fitted slopes."""
    rows = run.clicks[(run.clicks["dataset"] == dataset) & (run.clicks["click"] > 1) & run.clicks["online_ms"].notna()]
    rows = rows[rows["object_share"] > 0]
    points = rows.groupby(["variant", "sample"], sort=False)[["object_share", "online_ms"]].median().reset_index()
    points = points.rename(columns={"object_share": "share", "online_ms": "ms"})
    return _scatter(
        run,
        points,
        f"time_object_share_{slug(dataset)}",
        f"Time against object size, {dataset}",
        "Object's share of the image (%, log scale)",
        "Median online time of each sample's later clicks, from the click loop (machine shared: compare slopes, "
        f"not heights), with fitted slopes. {where(run, dataset)}.",
        dataset,
    )


def time_against_boundary(run: Run) -> Plot | None:
    """Time of every click against the share of boundary tokens, which get full attention and experts."""
    condition = speed.condition(run)
    frame = run.timings
    if condition is None or len(frame) == 0:
        return None
    frame = frame[
        (frame["threads"] == condition[0]) & (frame["resolution"] == condition[1]) & (frame["boundary_share"] > 0)
    ]
    keys = ["variant", "image", "click"]
    points = frame.groupby(keys, sort=False)[["boundary_share", "ms"]].median().reset_index()
    return _scatter(
        run,
        points.rename(columns={"boundary_share": "share"}),
        "time_boundary_share",
        "Time against boundary tokens",
        "Boundary tokens' share of the image (%, log scale)",
        f"Median time of each click of the workload against the share of tokens that get full attention, with fitted "
        f"slopes; {speed.describe(run)}. {cpu(run)}.",
        "",
    )


def _scatter(
    run: Run, points: pd.DataFrame, name: str, title: str, xlabel: str, caption: str, dataset: str
) -> Plot | None:
    """`ms` against `share` on log axes; variants with fewer than five different shares are left out."""
    points = points[points["ms"] > 0]
    variants = [v for v in run.variants if points.loc[points["variant"] == v, "share"].nunique() >= 5]
    if not variants:
        return None
    look = looks(run.variants)
    sentences = []
    with drawing(6.4, 4.4) as (figure, (ax,)):
        for variant in variants:
            mine = points[points["variant"] == variant].sort_values("share")
            style, power = look[variant], slope(mine["share"], mine["ms"])
            shift = np.log(mine["ms"]).mean() - power * np.log(mine["share"]).mean()
            ax.scatter(
                mine["share"] * 100, mine["ms"], s=12, marker=style.marker, color=style.colour, alpha=0.45, linewidth=0
            )
            ends = mine["share"].iloc[[0, -1]]
            name_and_slope = f"{label(run, variant)}  {power:+.2f}".replace("-", "−")
            ax.plot(
                ends * 100,
                np.exp(shift) * ends**power,
                color=style.colour,
                linestyle=style.dash,
                marker=style.marker,
                label=name_and_slope,
            )
            sentences.append(f"{label(run, variant)} slope {power:+.2f}")
        ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="Time of a click (ms, log scale)")
        plain_log(ax.xaxis, ax.get_xlim())
        plain_log(ax.yaxis, ax.get_ylim())
        _below(ax, "variant, fitted slope")
    return Plot(
        name,
        title,
        caption,
        f"Scatter of the time of a click, with fitted slopes: {'; '.join(sentences)}.",
        figure,
        dataset,
    )


def cpu(run: Run) -> str:
    """The CPU, for captions."""
    return str(run.machine.get("cpu_model") or run.machine.get("cpu") or "CPU not recorded")
