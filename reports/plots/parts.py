"""Plots of parts: time and FLOPs stacked, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from reports.plots.cost import KINDS, cpu
from reports.plots.labels import label_points, plain_log
from reports.plots.style import COLOURS, HATCHES, INK, MUTED, Plot, drawing, looks
from reports.read.runs import Run
from reports.read.words import label, lettering
from reports.tables import speed


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
    sentences = []
    height = 0.34 * len(variants) + 0.75
    with drawing(3.3 * len(kinds) + 1.2, height * len(panels) + 0.6, len(panels), len(kinds), sharey=True) as (
        figure,
        axes,
    ):
        for row, (frame, unit) in enumerate(panels):
            for column, kind in enumerate(kinds):
                ax = axes[row * len(kinds) + column]
                table = frame[frame["kind"] == kind].pivot_table(
                    index="variant", columns="part", values="amount", aggfunc="sum"
                )
                table = table.reindex(index=variants, columns=parts).fillna(0.0)
                left = np.zeros(len(variants))
                for i, part in enumerate(parts):
                    ax.barh(
                        range(len(variants)),
                        table[part],
                        left=left,
                        height=0.72,
                        color=COLOURS[i % 8],
                        hatch=HATCHES[i % 8],
                        edgecolor="white",
                        linewidth=0.4,
                        label=lettering(part),
                    )
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
                sentences += [f"{kind} of {label(run, v)} {t:.3g} {unit}" for v, t in zip(variants, left, strict=True)]
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(parts), 7))
    both = " and time" if len(panels) == 2 else ""
    return Plot(
        "parts",
        f"Arithmetic{both} by part",
        f"Multiply-adds{both} of each part, mean over the workload's images. 1 GMAC = 10⁹ multiply-adds = 2 GFLOPs. "
        + ("Time: second pass with hooks, " + speed.describe(run) + "." if len(panels) == 2 else ""),
        "Stacked bars by part: " + "; ".join(sentences) + ".",
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
    condition = speed.condition(run)
    peaks = _peaks(run, condition[0]) if condition else None
    if condition is None or peaks is None or "mbytes" not in run.flops:
        return None
    totals = run.flops[(run.flops["part"] == "total") & run.flops["size_bin"].isin(("all", ""))]
    if "resolution" in totals:
        totals = totals[totals["resolution"] == condition[1]]
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
        if len(points) <= 6:
            label_points(ax, [(x, y, f"{lettering(v)}, {k}", look[v].colour) for x, y, v, k in points], size=7)
        else:
            for variant in dict.fromkeys(p[2] for p in points):
                ax.plot([], [], color=look[variant].colour, linewidth=4, label=lettering(variant))
            for kind in dict.fromkeys(p[3] for p in points):
                ax.plot([], [], marks[kind], color=MUTED, markersize=7, label=KINDS[kind])
            figure.legend(loc="outside lower center", ncols=3, fontsize=7.5)
        ax.set_title(f"Roofline · {lettering(speed.describe(run))}")
    sentences = "; ".join(f"{v} {k} {y:.1f} GFLOP/s at {x:.1f} FLOPs per byte" for x, y, v, k in points)
    return Plot(
        "roofline",
        "Roofline",
        f"How close each step comes to the machine's measured matrix-product peak and copy bandwidth (line); "
        f"squares: encode, triangles: first click, dots: later clicks. {cpu(run)}, {speed.describe(run)}.",
        f"Roofline with peaks {flops:.0f} GFLOP/s and {bandwidth:.0f} GB/s: {sentences}.",
        figure,
    )


def _peaks(run: Run, threads: object) -> tuple[float, float] | None:
    peaks = run.machine.get("peaks")
    one = peaks.get(str(threads)) if isinstance(peaks, Mapping) else None
    if not isinstance(one, Mapping) or "fp32_gflops" not in one or "copy_gb_per_s" not in one:
        return None
    values = float(one["fp32_gflops"]), float(one["copy_gb_per_s"])
    return values if all(math.isfinite(v) and v > 0 for v in values) else None
