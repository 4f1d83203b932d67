"""Plots of quality: IoU against clicks, NoC against time, paired differences, histograms of NoC."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from reports.frames import Run
from reports.style import INK, MUTED, Plot, drawing, looks

_RESAMPLES = 1000


def label(run: Run, variant: str) -> str:
    """Name in a legend; random weights are always named as such."""
    return f"{variant} (untrained)" if run.status(variant) == "untrained" else variant


def where(run: Run, dataset: str) -> str:
    """Data set with its note, samples and protocol, for captions."""
    note = run.note(dataset)
    return f"{dataset}{f' ({note})' if note else ''}, {run.samples(dataset)} samples, protocol {run.protocol(dataset)}"


def curve(rows: pd.DataFrame, column: str = "iou") -> pd.DataFrame:
    """Samples x clicks; an episode that stopped early keeps its last value for the clicks after."""
    return rows.pivot_table(index="sample", columns="click", values=column, sort=True).ffill(axis=1)


def band(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile bootstrap band of the mean of (samples, clicks), resampling whole samples."""
    if len(values) < 2:
        return values.mean(0), values.mean(0)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=_RESAMPLES) / len(
        values
    )
    low, high = np.percentile(weights @ values, [2.5, 97.5], axis=0)
    return low, high


def iou_curves(run: Run, dataset: str) -> Plot:
    """Mean IoU after each click, with bands."""
    look = looks(run.variants)
    rows = run.clicks[run.clicks["dataset"] == dataset]
    with drawing(6.4, 4.0) as (figure, (ax,)):
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
            ax.fill_between(clicks, low, high, color=style.colour, alpha=0.14, linewidth=0)
            lowest, last = min(lowest, low.min()), max(last, int(clicks[-1]))
            ends.append(f"{label(run, variant)} from {mean[0]:.0f} to {mean[-1]:.0f} %")
        for target in (90, 95):
            ax.axhline(target, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        ax.set(
            xlabel="Clicks",
            ylabel="Mean IoU (%)",
            xlim=(0.5, last + 0.5),
            ylim=(max(0, math.floor(lowest / 10) * 10), 101),
        )
        ax.set_xticks([1, *range(5, last + 1, 5)] if last > 6 else range(1, last + 1))
        ax.set_title(dataset)
        _legend(ax, run.variants)
    return Plot(
        f"iou_{slug(dataset)}",
        f"IoU against clicks, {dataset}",
        f"Mean IoU after each click with 95 % bootstrap bands over samples. {where(run, dataset)}. Dashed: 90 and 95 %.",
        f"Line chart of mean IoU over {last} clicks on {dataset}: {'; '.join(ends)}.",
        figure,
        dataset,
    )


def online(run: Run, variant: str) -> tuple[float, str] | None:
    """Online ms of a click after the first: measured latency (one thread, largest size), or the loop's own times."""
    mine = run.latency[
        (run.latency["variant"] == variant)
        & (run.latency["kind"] == "later")
        & run.latency["median_ms"].notna()
    ]
    if len(mine):
        whole = mine[mine["size_bin"] == "all"] if (mine["size_bin"] == "all").any() else mine
        chosen = whole[whole["threads"] == whole["threads"].min()]
        chosen = chosen[chosen["resolution"] == chosen["resolution"].max()]
        threads, resolution = chosen["threads"].iloc[0], chosen["resolution"].iloc[0]
        return float(
            chosen["median_ms"].median()
        ), f"measured alone, {threads} thread{'s' if threads != 1 else ''}, {resolution} px"
    rows = run.clicks[(run.clicks["variant"] == variant) & (run.clicks["click"] > 1)]["online_ms"].dropna()
    return (float(rows.median()), "median of the click loop, machine shared") if len(rows) else None


def noc_against_time(run: Run, dataset: str, key: str = "noc90") -> Plot | None:
    """NoC against online time, with the Pareto front; None where nothing was timed."""
    look = looks(run.variants)
    whole = run.summary[
        (run.summary["dataset"] == dataset)
        & (run.summary["metric"] == key)
        & run.summary["size_bin"].isin(("", "all"))
    ]
    points = []
    for variant in run.variants:
        line, time = whole[whole["variant"] == variant], online(run, variant)
        if len(line) and time is not None:
            points.append((variant, time[0], *line.iloc[0][["value", "low", "high"]].astype(float), time[1]))
    if not points:
        return None
    target = key.removeprefix("noc")
    front = pareto([(t, v) for _, t, v, *_ in points])
    with drawing(6.4, 4.0) as (figure, (ax,)):
        if len(front) > 1:
            ax.step(
                *zip(*front, strict=True),
                where="post",
                color=MUTED,
                linewidth=1.1,
                linestyle=(0, (4, 2)),
                zorder=1,
                label="Pareto front",
            )
        for variant, time, value, low, high, _ in points:
            style = look[variant]
            error = None if math.isnan(low) else [[max(0, value - low)], [max(0, high - value)]]
            hollow = run.status(variant) == "untrained"
            ax.errorbar(
                time, value, yerror_or_none(error), color=style.colour, marker=style.marker, markersize=8, capsize=3, elinewidth=1.2,
                linestyle="none", markerfacecolor="white" if hollow else style.colour, markeredgewidth=1.6, label=label(run, variant),
            )  # fmt: skip
        ax.set_xscale("log")
        _plain_log(ax.xaxis, [t for _, t, *_ in points])
        ax.set(xlabel="Online time per click (ms, log scale)", ylabel=f"NoC@{target} (clicks)")
        ax.set_title(dataset)
        _legend(ax, [*run.variants, "front"])
    return Plot(
        f"{key}_time_{slug(dataset)}",
        f"NoC@{target} against time, {dataset}",
        f"Clicks to {target} % IoU (95 % interval) against time per click after the first ({points[0][5]}); lower left is better. "
        f"Hollow: untrained weights. {where(run, dataset)}.",
        f"Scatter of NoC@{target} against online time: "
        + "; ".join(f"{label(run, v)} {n:.2f} clicks at {t:.1f} ms" for v, t, n, *_ in points)
        + ".",
        figure,
        dataset,
    )


def yerror_or_none(error: list[list[float]] | None) -> list[list[float]] | None:
    """Asymmetric error bars, or none where there is no interval."""
    return error


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in both coordinates, by the first coordinate; smaller is better in both."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front


def slug(text: str) -> str:
    """A file name of a data set's or variant's name."""
    return "".join(c if c.isalnum() else "-" for c in text).strip("-").lower() or "run"


def _legend(ax: object, names: list[str]) -> None:
    columns = 2 if len(names) > 6 else 1
    if len(names) <= 8:
        ax.legend(loc="best", ncols=columns, handlelength=2.6)  # type: ignore[attr-defined]
    else:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), ncols=1, handlelength=2.6)  # type: ignore[attr-defined]


def _plain_log(axis: object, values: list[float]) -> None:
    """Plain numbers on a log axis, with enough of them where the data span less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    spread = math.log10(max(values) / min(values)) if min(values) > 0 else 1
    subs = (1, 1.5, 2, 3, 5, 7) if spread < 0.8 else (1, 2, 5) if spread < 2 else (1,)
    axis.set_major_locator(LogLocator(subs=subs))  # type: ignore[attr-defined]
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))  # type: ignore[attr-defined]
    axis.set_minor_formatter(NullFormatter())  # type: ignore[attr-defined]


__all__ = [
    "INK",
    "band",
    "curve",
    "iou_curves",
    "label",
    "noc_against_time",
    "online",
    "pareto",
    "slug",
    "where",
]
