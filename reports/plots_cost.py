"""Plots of cost: latency over threads, sizes and objects, time and FLOPs by part, the roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from reports import speed
from reports.frames import Run
from reports.plots import label, legend
from reports.style import COLOURS, HATCHES, INK, MUTED, Plot, drawing, label_points, looks, plain_log

SIZES = ("<1%", "1-5%", "5-20%", ">20%")
KINDS = {"encode": "Encode, once per image", "first": "First click", "later": "Later clicks"}
_TOTALS = ("total", "other")


def slope(x: Sequence[float], y: Sequence[float]) -> float:
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
    told = []
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
                ax.plot(mine[axis], mine["median_ms"], color=style.colour, linestyle=style.dash, marker=style.marker,
                        label=f"{label(run, variant)}  {power:+.2f}".replace("-", "−"))  # fmt: skip
                high = mine["high_ms"].where(np.isfinite(mine["high_ms"]), mine["median_ms"])
                ax.vlines(
                    mine[axis],
                    mine["low_ms"].fillna(mine["median_ms"]),
                    high,
                    color=style.colour,
                    linewidth=1,
                )
                told.append(
                    f"{kind} of {label(run, variant)} {mine['median_ms'].iloc[0]:.1f} to {mine['median_ms'].iloc[-1]:.1f} ms"
                )
            ax.set(xscale="log", yscale="log", xlabel="Threads" if axis == "threads" else "Longest side (px)")
            ax.set_title(KINDS[kind])
            ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
            ax.minorticks_off()
            plain_log(ax.yaxis, ax.get_ylim())
            if ax.lines:
                ax.legend(
                    title="variant, fitted slope",
                    title_fontsize=8,
                    fontsize=7.5,
                    alignment="left",
                    loc="best",
                )
        axes[0].set_ylabel("Median time (ms, log scale)")
    held = f"{fixed} px" if other == "resolution" else f"{fixed} thread{'s' if fixed != 1 else ''}"
    return Plot(
        f"latency_{axis}",
        f"Latency over {'threads' if axis == 'threads' else 'image size'}",
        f"Median latency with 95 % intervals at {held}; the number after each name is the slope fitted on both log axes "
        f"({'−1 is perfect scaling, 0 none' if axis == 'threads' else '2 is proportional to the number of pixels'}). "
        f"{cpu(run)}.",
        f"Latency against {axis}: " + "; ".join(told) + ".",
        figure,
    )


def latency_by_size(run: Run) -> Plot | None:
    """Latency of first and later clicks by the object's share of the image."""
    frame = run.latency[run.latency["median_ms"].notna() & run.latency["size_bin"].isin(SIZES)]
    found = speed.condition(run)
    if found is None or frame["size_bin"].nunique() < 2:
        return None
    frame = frame[(frame["threads"] == found[0]) & (frame["resolution"] == found[1])]
    present = [s for s in SIZES if s in set(frame["size_bin"])]
    kinds = [k for k in ("first", "later") if k in set(frame["kind"])]
    if len(present) < 2 or not kinds:
        return None
    look = looks(run.variants)
    told = []
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
                high = mine["high_ms"].where(np.isfinite(mine["high_ms"]), mine["median_ms"])
                ax.vlines(x, mine["low_ms"].fillna(mine["median_ms"]), high, color=style.colour, linewidth=1)
                told.append(
                    f"{kind} click of {label(run, variant)} "
                    + ", ".join(f"{m:.1f}" for m in mine["median_ms"])
                    + " ms"
                )
            ax.set_yscale("log")
            ax.set_xticks(range(len(present)), present)
            ax.set_xlim(-0.4, len(present) - 0.6)
            ax.set_xlabel("Object's share of the image")
            ax.set_title(KINDS[kind])
            ax.minorticks_off()
        plain_log(axes[0].yaxis, axes[0].get_ylim())
        axes[0].set_ylabel("Median time (ms, log scale)")
        legend(axes[-1], len(run.variants) if len(run.variants) > 5 else 1)
    return Plot(
        "latency_size",
        "Latency by object size",
        f"Median latency of a click with 95 % intervals by object size; {speed.describe(run)}. {cpu(run)}.",
        "Latency by object size (" + ", ".join(present) + "): " + "; ".join(told) + ".",
        figure,
    )


def time_against(run: Run, dataset: str, column: str) -> Plot | None:
    """Online time of each sample against `object_share` or `boundary_share`, log-log with fitted slopes."""
    if column not in run.clicks:
        return None
    rows = run.clicks[
        (run.clicks["dataset"] == dataset) & (run.clicks["click"] > 1) & run.clicks["online_ms"].notna()
    ]
    rows = rows[rows[column] > 0]
    points = rows.groupby(["variant", "sample"], sort=False)[[column, "online_ms"]].median().reset_index()
    points = points[points["online_ms"] > 0]
    variants = [v for v in run.variants if points.loc[points["variant"] == v, column].nunique() >= 5]
    if not variants:
        return None
    look = looks(run.variants)
    name = {"object_share": "object", "boundary_share": "boundary tokens"}[column]
    told = []
    with drawing(6.4, 4.0) as (figure, (ax,)):
        for variant in variants:
            mine = points[points["variant"] == variant].sort_values(column)
            style, power = look[variant], slope(mine[column], mine["online_ms"])
            shift = np.log(mine["online_ms"]).mean() - power * np.log(mine[column]).mean()
            ax.plot(
                mine[column] * 100,
                mine["online_ms"],
                style.marker,
                color=style.colour,
                alpha=0.45,
                markersize=3.5,
                markeredgewidth=0,
            )
            ends = mine[column].iloc[[0, -1]]
            ax.plot(ends * 100, np.exp(shift) * ends**power, color=style.colour, linestyle=style.dash, marker=style.marker,
                    label=f"{label(run, variant)}  {power:+.2f}".replace("-", "−"))  # fmt: skip
            told.append(f"{label(run, variant)} slope {power:+.2f}")
        ax.set(
            xscale="log",
            yscale="log",
            xlabel=f"Share of the image: {name} (%, log scale)",
            ylabel="Online time per click (ms, log scale)",
        )
        plain_log(ax.xaxis, ax.get_xlim())
        plain_log(ax.yaxis, ax.get_ylim())
        ax.set_title(dataset)
        legend(ax, len(variants))
    return Plot(
        f"time_{column}_{dataset}",
        f"Time against {name} share, {dataset}",
        f"Median online time of each sample's clicks after the first, from the click loop (machine shared, so compare the slopes, "
        f"not the heights), with fitted slopes. {dataset}, {run.samples(dataset)} samples, protocol {run.protocol(dataset)}.",
        f"Scatter of time against {name} share with fitted slopes: " + "; ".join(told) + ".",
        figure,
        dataset,
    )


def stacked(run: Run) -> Plot | None:
    """GMACs and, where measured, time of each part, stacked."""
    work = _by_part(run.flops.rename(columns={"gmacs": "amount"}), run)
    timed = _by_part(run.parts.rename(columns={"median_ms": "amount"}), run)
    panels = [(f, u) for f, u in ((work, "GMACs"), (timed, "ms")) if len(f)]
    if not panels:
        return None
    parts = list(dict.fromkeys([p for frame, _ in panels for p in frame["part"]]))
    kinds = [k for k in KINDS if any(k in set(frame["kind"]) for frame, _ in panels)]
    variants = [v for v in run.variants if any(v in set(frame["variant"]) for frame, _ in panels)]
    told = []
    height = 0.34 * len(variants) + 0.75
    with drawing(
        3.3 * len(kinds) + 1.2, height * len(panels) + 0.6, len(panels), len(kinds), sharey=True
    ) as (figure, axes):
        for row, (frame, unit) in enumerate(panels):
            for column, kind in enumerate(kinds):
                ax = axes[row * len(kinds) + column]
                table = frame[frame["kind"] == kind].pivot_table(
                    index="variant", columns="part", values="amount", aggfunc="sum"
                )
                table = table.reindex(index=variants, columns=parts).fillna(0.0)
                left = np.zeros(len(variants))
                for i, part in enumerate(parts):
                    ax.barh(range(len(variants)), table[part], left=left, height=0.72, color=COLOURS[i % 8], hatch=HATCHES[i % 8],
                            edgecolor="white", linewidth=0.4, label=part)  # fmt: skip
                    left += table[part].to_numpy()
                for y, total in enumerate(left):
                    ax.text(total, y, f" {total:.3g}", va="center", fontsize=7.5)
                ax.set_yticks(range(len(variants)), [label(run, v) for v in variants])
                ax.set_ylim(len(variants) - 0.45, -0.55)
                ax.set_xlim(0, max(left.max() * 1.22, 1e-9))
                ax.grid(axis="y", visible=False)
                ax.locator_params(axis="x", nbins=4)
                if row == 0:
                    ax.set_title(KINDS[kind])
                ax.set_xlabel("GMACs" if unit == "GMACs" else "Time (ms)")
                told += [
                    f"{kind} of {label(run, v)} {t:.3g} {unit}" for v, t in zip(variants, left, strict=True)
                ]
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(parts), 7)
        )
    both = " and time" if len(panels) == 2 else ""
    return Plot(
        "parts",
        f"Arithmetic{both} by part",
        f"Multiply-adds{both} of each part, mean over the workload's images. 1 GMAC = 10⁹ multiply-adds = 2 GFLOPs. "
        + ("Time: second pass with hooks, " + speed.describe(run) + "." if len(panels) == 2 else ""),
        "Stacked bars by part: " + "; ".join(told) + ".",
        figure,
    )


def _by_part(frame: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Rows of parts (not the total) over all sizes at the largest resolution and fewest threads."""
    frame = frame[frame["amount"].notna() & frame["kind"].isin(KINDS) & frame["size_bin"].isin(("all", ""))]
    named = frame[~frame["part"].isin(("total",))]
    for column, pick in (("resolution", "max"), ("threads", "min")):
        if column in named and len(named):
            named = named[named[column] == getattr(named[column], pick)()]
    return named[named["amount"] > 0]


def roofline(run: Run) -> Plot | None:
    """Achieved GFLOP/s against arithmetic intensity under the measured roofs; None without FLOPs, bytes or peaks."""
    found = speed.condition(run)
    peaks = _peaks(run, found[0]) if found else None
    if found is None or peaks is None or "mbytes" not in run.flops:
        return None
    totals = run.flops[(run.flops["part"] == "total") & run.flops["size_bin"].isin(("all", ""))]
    if "resolution" in totals:
        totals = totals[totals["resolution"] == found[1]]
    look = looks(run.variants)
    marks = {"encode": "s", "first": "^", "later": "o"}
    points = []
    for _, line in totals.iterrows():
        variant, kind = str(line["variant"]), str(line["kind"])
        ms = speed.milliseconds(run, variant, kind)
        if ms and line["gflops"] > 0 and line["mbytes"] > 0 and kind in marks:
            points.append((line["gflops"] / line["mbytes"] * 1e3, line["gflops"] / ms * 1e3, variant, kind))
    if not points:
        return None
    flops, bandwidth = peaks
    with drawing(6.4, 4.2) as (figure, (ax,)):
        ridge = flops / bandwidth
        low = min(ridge / 8, *(p[0] / 2 for p in points))
        high = max(ridge * 8, *(p[0] * 2 for p in points))
        ax.plot([low, ridge, high], [low * bandwidth, flops, flops], color=INK, linewidth=1.6)
        ax.text(high, flops * 1.06, f"{flops:.0f} GFLOP/s", ha="right", va="bottom", fontsize=8, color=MUTED)
        ax.text(
            low * 1.1,
            low * 1.1 * bandwidth * 2.4,
            f"{bandwidth:.0f} GB/s",
            ha="left",
            va="bottom",
            fontsize=8,
            color=MUTED,
        )
        for x, y, variant, kind in points:
            ax.plot(x, y, marks[kind], color=look[variant].colour, markersize=7)
        ax.set(
            xscale="log",
            yscale="log",
            xlim=(low, high),
            xlabel="FLOPs per byte moved (log scale)",
            ylabel="Achieved GFLOP/s (log scale)",
        )
        ax.set_ylim(min(p[1] for p in points) / 3, flops * 2.2)
        plain_log(ax.xaxis, ax.get_xlim())
        plain_log(ax.yaxis, ax.get_ylim())
        label_points(ax, [(x, y, f"{v}, {k}", look[v].colour) for x, y, v, k in points][:18], size=7)
        ax.set_title(f"Roofline · {speed.describe(run)}")
    told = "; ".join(f"{v} {k} {y:.1f} GFLOP/s at {x:.1f} FLOPs per byte" for x, y, v, k in points)
    return Plot(
        "roofline",
        "Roofline",
        f"How close each step comes to what the machine can do: measured matrix-product peak and copy bandwidth (line), and what "
        f"was achieved (squares: encode, triangles: first click, dots: later clicks). {cpu(run)}, {speed.describe(run)}.",
        f"Roofline with peaks {flops:.0f} GFLOP/s and {bandwidth:.0f} GB/s: {told}.",
        figure,
    )


def _peaks(run: Run, threads: object) -> tuple[float, float] | None:
    peaks = run.machine.get("peaks")
    one = peaks.get(str(threads)) if isinstance(peaks, Mapping) else None
    if not isinstance(one, Mapping) or "fp32_gflops" not in one or "copy_gb_per_s" not in one:
        return None
    values = float(one["fp32_gflops"]), float(one["copy_gb_per_s"])
    return values if all(math.isfinite(v) and v > 0 for v in values) else None


def cpu(run: Run) -> str:
    """The CPU, for captions."""
    return str(run.machine.get("cpu_model") or run.machine.get("cpu") or "CPU not recorded")
