"""Ticks and labels that stay readable: plain numbers on log axes, names beside their points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def plain_log(axis: Any, limits: tuple[float, float]) -> None:
    """Plain numbers on a log axis, as many as its range has room for."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    low, high = limits
    decades = math.log10(high / low)
    steps = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
    ticks = [
        s * 10.0**e for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1) for s in steps
    ]
    ticks = [t for t in ticks if low <= t <= high]
    if len(ticks) < 3:
        ticks = [t for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def label_points(ax: Any, points: Sequence[tuple[float, float, str, str]], size: float = 8.5) -> None:
    """Write (x, y, text, colour) beside their points, each where it covers neither another label nor another point."""
    ax.figure.canvas.draw()
    renderer = ax.figure.canvas.get_renderer()
    frame = ax.get_window_extent(renderer)
    dots = [ax.transData.transform((x, y)) for x, y, *_ in points]
    occupied: list[Any] = []
    offsets = [
        (9, 3, "left"),
        (9, -11, "left"),
        (-9, 3, "right"),
        (-9, -11, "right"),
        (9, 15, "left"),
        (9, -23, "left"),
        (-9, 15, "right"),
        (-9, -23, "right"),
        (9, 27, "left"),
        (9, -35, "left"),
        (-9, 27, "right"),
        (-9, -35, "right"),
    ]
    for (x, y, text, colour), dot in sorted(zip(points, dots, strict=True), key=lambda p: p[1][1]):
        best, least = None, math.inf
        for dx, dy, side in offsets:
            note = ax.annotate(
                text,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=side,
                fontsize=size,
                color=colour,
            )
            box = note.get_window_extent(renderer)
            cost = sum(box.overlaps(other) for other in occupied) * 4.0
            cost += (
                sum(
                    box.x0 - 5 < ox < box.x1 + 5 and box.y0 - 5 < oy < box.y1 + 5
                    for ox, oy in dots
                    if (ox, oy) != tuple(dot)
                )
                * 2
            )
            cost += 8.0 * (box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1)
            if cost < least:
                if best is not None:
                    best.remove()
                best, least = note, cost
            else:
                note.remove()
            if least == 0:
                break
        if best is not None:
            occupied.append(best.get_window_extent(renderer))
