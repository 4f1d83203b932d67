"""Plots of scaling: the fits of latency_scaling.csv with their intervals, and where two attentions cost the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.latency.scaling import crossover
from reports.plots.cost import KINDS, cpu
from reports.plots.labels import plain_log
from reports.plots.style import INK, MUTED, Plot, drawing, looks
from reports.read.runs import Run
from reports.read.words import label, lettering
from reports.tables.cost import held, in_words

TOTAL, OTHER = "total", "other"
LEAST_SPAN = 0.1
"""Range of measured boundary shares below which a line through them says nothing about other shares."""


@dataclass(frozen=True)
class Panel:
    """The fits against one quantity under one condition.

    Attributes:
        against: as in the file.
        held: the condition in words.
        rows: of latency_scaling.csv.
        steps: (kind, part) from top to bottom.
    """

    against: str
    held: str
    rows: pd.DataFrame
    steps: list[tuple[str, str]]


AXES = {
    "tokens": ("Exponent over the number of tokens (1: linear, 2: quadratic)", (1.0, 2.0)),
    "threads": ("Exponent over the number of threads (−1: perfect speed-up, 0: none)", (-1.0, 0.0)),
    "boundary share": ("Milliseconds that a click takes longer with all tokens on the boundary than with none", (0.0,)),
}


def panel(run: Run, against: str) -> Panel | None:
    """The fits against a quantity with the fewest threads and the largest image; None where there are none."""
    rows = run.scaling[(run.scaling["against"] == against) & run.scaling["value"].notna()]
    rows = rows[rows["variant"].isin(run.variants) & rows["kind"].isin(KINDS) & (rows["part"] != OTHER)]
    # Attention of a first click is full for all; its parts stand in the table.
    rows = rows[(rows["part"] == TOTAL) | (rows["kind"] != "first")]
    if against == "boundary share":
        rows = rows[rows["values"].map(_span) >= LEAST_SPAN]
    if len(rows) == 0:
        return None
    chosen = min(set(rows["fixed"]), key=lambda f: (held(f).get("threads", 0), -held(f).get("resolution", 0)))
    rows = rows[rows["fixed"] == chosen]
    present = list(dict.fromkeys(zip(rows["kind"], rows["part"], strict=True)))
    order = list(KINDS)
    steps = sorted(present, key=lambda step: (step[1] != TOTAL, order.index(step[0])))
    return Panel(against, in_words(chosen), rows, steps)


def exponents(run: Run) -> Plot | None:
    """Every fitted exponent (and cost of the boundary) of the headline condition as a dot with its interval."""
    panels = [p for p in (panel(run, against) for against in AXES) if p is not None]
    if not panels:
        return None
    variants = [v for v in run.variants if any(v in set(p.rows["variant"]) for p in panels)]
    look = looks(run.variants)
    step = 0.16 if len(variants) <= 8 else 0.11
    heights = [len(p.steps) * (step * len(variants) + 0.14) for p in panels]
    sentences: list[str] = []
    with drawing(
        8.6, sum(heights) + 0.85 * len(panels) + 0.7, len(panels), 1, gridspec_kw={"height_ratios": heights}
    ) as (figure, axes):
        for ax, one in zip(axes, panels, strict=True):
            label_of_axis, marks = AXES[one.against]
            for mark in marks:
                ax.axvline(mark, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
            for row, (kind, part) in enumerate(one.steps):
                mine = one.rows[(one.rows["kind"] == kind) & (one.rows["part"] == part)]
                for line in mine.to_dict("records"):
                    variant = str(line["variant"])
                    offset = (variants.index(variant) - (len(variants) - 1) / 2) * 0.8 / len(variants)
                    _dot(ax, row + offset, line, look[variant].colour, look[variant].marker)
                    unit = " ms" if one.against == "boundary share" else ""
                    sentences.append(
                        f"{_step(kind, part)} of {label(run, variant)} over {one.against} {line['value']:+.2f}{unit}"
                    )
            ax.set_yticks(range(len(one.steps)), [_step(kind, part) for kind, part in one.steps])
            ax.set_ylim(len(one.steps) - 0.5, -0.5)
            for between in range(1, len(one.steps)):
                ax.axhline(between - 0.5, color=MUTED, linewidth=0.4)
            ax.grid(axis="y", visible=False)
            ax.set_xlabel(label_of_axis)
            ax.set_title(f"Over {lettering(one.against)} · {lettering(one.held)}")
            ax.margins(x=0.06)
        handles = [axes[0].plot([], [], look[v].marker, color=look[v].colour, label=label(run, v))[0] for v in variants]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(variants), 5), fontsize=7.5)
    lines = " Cost of the boundary only where the measured shares span a tenth of the image or more."
    return Plot(
        "scaling",
        "How time grows",
        "Fitted growth of median times with 95 % intervals from resampled rounds (none with fewer than five rounds "
        "or for parts, which are timed in the second pass with hooks): time is proportional to the number of tokens, "
        "or threads, to the power shown."
        + (lines if any(p.against == "boundary share" for p in panels) else "")
        + f" Parts: later clicks, and encode. {cpu(run)}.",
        "Fitted growth: " + "; ".join(sentences) + ".",
        figure,
    )


def _dot(ax: Axes, y: float, line: dict[object, object], colour: str, marker: str) -> None:
    value, low, high = (float(line[key]) for key in ("value", "low", "high"))  # type: ignore[arg-type]
    if math.isfinite(low) and math.isfinite(high):
        ax.hlines(y, low, high, color=colour, linewidth=1.4)
    ax.plot([value], [y], marker, color=colour, markersize=4.5)


def _step(kind: str, part: str) -> str:
    return KINDS[kind] if part == TOTAL else f"{lettering(part)}, {'encode' if kind == 'encode' else 'later clicks'}"


def _span(values: object) -> float:
    low, _, high = str(values).partition("..")
    try:
        return float(high) - float(low)
    except ValueError:
        return 0.0


def attention(run: Run) -> Plot | None:
    """Time of the attention of a later click against image size: measured, fitted, and where two fits cross."""
    frame = run.parts[(run.parts["part"] == "attention") & (run.parts["kind"] == "later")]
    frame = frame[frame["size_bin"].isin(("all", "")) & (frame["median_ms"] > 0)]
    if len(frame) == 0:
        return None
    frame = frame[frame["threads"] == frame["threads"].min()]
    variants = [v for v in run.variants if frame.loc[frame["variant"] == v, "resolution"].nunique() >= 2]
    if not variants:
        return None
    threads = frame["threads"].iloc[0]
    look = looks(run.variants)
    series = {v: frame[frame["variant"] == v].sort_values("resolution") for v in variants}
    base = str(run.base) if run.base in series else variants[0]
    sentences, crossings = [], _crossings(base, series)
    with drawing(6.4, 4.6) as (figure, (ax,)):
        for variant, mine in series.items():
            x, y = mine["resolution"].to_numpy(float), mine["median_ms"].to_numpy(float)
            power, shift = np.polyfit(np.log(x**2), np.log(y), 1)
            style, name = look[variant], f"{label(run, variant)}  " + f"{power:.2f}".replace("-", "−")
            ax.plot(x, np.exp(shift) * x ** (2 * power), color=style.colour, linestyle=style.dash, zorder=2)
            ax.plot(x, y, style.marker, color=style.colour, zorder=3)
            ax.plot([], [], color=style.colour, linestyle=style.dash, marker=style.marker, label=name)
            sentences.append(f"{label(run, variant)} exponent {power:.2f}, {y[0]:.2f} ms to {y[-1]:.2f} ms")
        for _, at, ms in crossings:
            ax.plot(at, ms, "o", color=INK, markerfacecolor="none", markersize=12, markeredgewidth=1.2, zorder=4)
        ax.set(xscale="log", yscale="log", xlabel="Longest side (px, log scale)", ylabel="Time of attention (ms, log)")
        ticks = sorted(frame["resolution"].unique())
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        plain_log(ax.yaxis, ax.get_ylim())
        ax.set_title(f"Attention of a later click · {threads:g} thread{'s' if threads != 1 else ''}")
        figure.legend(
            loc="outside lower center",
            title="variant, exponent over tokens",
            title_fontsize=8,
            fontsize=7.5,
            ncols=min(len(variants), 3),
        )
    cross = "; ".join(f"{other} at {at:.0f} px" for other, at, _ in crossings)
    sentence = (
        f" Rings: as dear as {base} by the fits, {cross}." if cross else f" No fit meets that of {base} in between."
    )
    return Plot(
        "scaling_attention",
        "Attention over image size",
        "Median time of all attention layers of a later click, second pass with hooks, and the fitted power of the "
        f"number of tokens (1: linear, 2: quadratic).{sentence if len(variants) > 1 else ''} {cpu(run)}.",
        "Time of attention over image size: " + "; ".join(sentences) + "." + (sentence if len(variants) > 1 else ""),
        figure,
    )


def _crossings(base: str, series: dict[str, pd.DataFrame]) -> list[tuple[str, float, float]]:
    """Where (px, ms) the fit of the base meets each other one, within the sizes of both."""
    crossings = []
    for other, theirs in series.items():
        mine = series[base]
        shared = sorted(set(mine["resolution"]) & set(theirs["resolution"]))
        if other == base or len(shared) < 2:
            continue
        first, second = (_at(frame, shared) for frame in (mine, theirs))
        at = crossover(shared, first, second)
        if not shared[0] <= at <= shared[-1]:
            continue
        power, shift = np.polyfit(np.log(shared), np.log(first), 1)
        crossings.append((other, at, float(np.exp(shift) * at**power)))
    return crossings


def _at(frame: pd.DataFrame, sizes: Sequence[float]) -> list[float]:
    return [float(v) for v in frame.set_index("resolution")["median_ms"].loc[list(sizes)]]
