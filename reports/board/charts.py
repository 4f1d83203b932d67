"""Drawings of the board as SVG elements: their colours come from the page's style, so that dark mode has its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 16, 46
LOOKS = 8


@dataclass(frozen=True)
class Dot:
    """A system in a plot of quality against cost; limits are its 95 % intervals, or None.

    Attributes:
        label: its number in the list below the plot.
        doubtful: drawn hollow.
    """

    label: str
    name: str
    x: float
    y: float
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class Curve:
    """A line of a plot over clicks: y of click 1, 2, …"""

    name: str
    ys: tuple[float, ...]


def frontier(dots: Sequence[Dot]) -> list[Dot]:
    """The dots that no other dot beats in both (lower is better), by rising x."""
    best: list[Dot] = []
    for dot in sorted(dots, key=lambda d: (d.x, d.y)):
        if not best or dot.y < best[-1].y:
            best.append(dot)
    return best


def pareto(dots: Sequence[Dot], x_title: str, y_title: str, title: str) -> Markup:
    """Quality against cost, both better where lower, the x axis logarithmic; "" where nothing can be drawn."""
    shown = [d for d in dots if d.x > 0 and math.isfinite(d.y)]
    if not shown:
        return Markup("")
    xs = [v for d in shown for v in (d.x, *(d.x_limits or ())) if v > 0]
    ys = [v for d in shown for v in (d.y, *(d.y_limits or ()))]
    low, high = math.log10(min(xs)) - 0.08, math.log10(max(xs)) + 0.08
    bottom, top = min(ys) - 0.05 * (max(ys) - min(ys) or 1), max(ys) + 0.05 * (max(ys) - min(ys) or 1)
    to_x = _scale(low, high, LEFT, WIDTH - RIGHT)
    to_y = _scale(bottom, top, HEIGHT - BOTTOM, TOP)
    parts = _frame(_log_ticks(low, high), _ticks(bottom, top), lambda v: to_x(math.log10(v)), to_y, x_title, y_title)
    best = frontier(shown)
    if len(best) > 1:
        points = " ".join(f"{to_x(math.log10(d.x)):.1f},{to_y(d.y):.1f}" for d in best)
        parts.append(f'<polyline class="frontier" points="{points}"/>')
    used: list[tuple[float, float]] = []
    for dot in shown:
        x, y = to_x(math.log10(dot.x)), to_y(dot.y)
        if dot.y_limits:
            parts.append(_bar(x, to_y(dot.y_limits[0]), x, to_y(dot.y_limits[1])))
        if dot.x_limits and min(dot.x_limits) > 0:
            left, right = (to_x(math.log10(v)) for v in dot.x_limits)
            parts.append(_bar(left, y, right, y))
        hollow = " hollow" if dot.doubtful else ""
        parts.append(
            f'<circle class="dot{hollow}" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(dot.name)}</title></circle>'
        )
        at = _free(x + 9, y - 7, used)
        parts.append(f'<text class="number" x="{at[0]:.1f}" y="{at[1]:.1f}">{escape(dot.label)}</text>')
    words = "; ".join(f"{d.name} {d.y:.2f} at {d.x:.3g}" for d in shown)
    return _svg(
        parts, title, f"{y_title} against {x_title}. {words}. On the frontier: {', '.join(d.name for d in best)}."
    )


def curves(lines: Sequence[Curve], y_title: str, title: str) -> Markup:
    """Lines over clicks; "" where there is none."""
    shown = [line for line in lines if len(line.ys) > 1 and all(map(math.isfinite, line.ys))]
    if not shown:
        return Markup("")
    longest = max(len(line.ys) for line in shown)
    values = [y for line in shown for y in line.ys]
    margin = 0.05 * (max(values) - min(values) or 1)
    bottom, top = min(values) - margin, max(values) + margin
    to_x, to_y = _scale(1, longest, LEFT, WIDTH - RIGHT), _scale(bottom, top, HEIGHT - BOTTOM, TOP)
    whole = [v for v in (1, 5, 10, 15, 20, 30, 50, 100) if v <= longest]
    parts = _frame(whole, _ticks(bottom, top), to_x, to_y, "Clicks", y_title)
    for position, line in enumerate(shown):
        points = " ".join(f"{to_x(i + 1):.1f},{to_y(y):.1f}" for i, y in enumerate(line.ys))
        look = position % LOOKS
        parts.append(
            f'<polyline class="curve look{look}" points="{points}"><title>{escape(line.name)}</title></polyline>'
        )
    words = "; ".join(
        f"{line.name}: {line.ys[0]:.1f} after the first click, {line.ys[-1]:.1f} at the end" for line in shown
    )
    return _svg(parts, title, words)


def _svg(parts: Sequence[str], title: str, description: str) -> Markup:
    label = escape(f"{title}. {description}")
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    return Markup(head + "".join(parts) + "</svg>")


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: first + (value - low) / span * (last - first)


def _frame(
    xs: Sequence[float], ys: Sequence[float], to_x: Callable[[float], float], to_y: Callable[[float], float],
    x_title: str, y_title: str,
) -> list[str]:  # fmt: skip
    """Grid, numbers and titles of both axes."""
    parts = []
    for x in xs:
        parts.append(f'<line class="grid" x1="{to_x(x):.1f}" x2="{to_x(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="tick middle" x="{to_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}">{x:g}</text>')
    for y in ys:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{to_y(y):.1f}" y2="{to_y(y):.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{to_y(y) + 4:.1f}">{y:g}</text>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="axis middle" x="{middle_x}" y="{HEIGHT - 8}">{escape(x_title)}</text>')
    turned = f"translate(15 {middle_y}) rotate(-90)"
    parts.append(f'<text class="axis middle" transform="{turned}">{escape(y_title)}</text>')
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two values."""
    step = 10 ** math.floor(math.log10((high - low) / 5))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten between two exponents; more where these are too few."""
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in digits]
        ticks = [t for t in ticks if low <= math.log10(t) <= high]
        if len(ticks) > 1:
            return ticks
    return [round(10**low, 3), round(10**high, 3)]


def _bar(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="bar" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _free(x: float, y: float, used: list[tuple[float, float]]) -> tuple[float, float]:
    """A place for a number beside its dot, below or above the numbers that are there."""
    for shift in (0, 13, -13, 26, -26, 39, -39, 52, -52):
        if all(abs(x - a) > 16 or abs(y + shift - b) > 11 for a, b in used):
            break
    used.append((x, y + shift))
    return x, y + shift
