"""Pictures of episodes: a strip of clicks for paper and for readers without JavaScript."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from harness.text import visible
from reports.episodes.replay import Episode, Step, Trace
from reports.plots.style import Plot, drawing

OUTLINE = "#FFFFFF"
POSITIVE, NEGATIVE = "#009E73", "#D55E00"
MISSED, EXTRA = "#D55E00", "#56B4E9"
DPE, DLU, BOUNDARY = "#0072B2", "#CC79A7", "#E69F00"
EXPERTS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
CLICKS = (1, 3, 5, 10)
_SIDE = 720
_SPECKS = 150
_LETTERS_PER_INCH = 10.5
"""Of the heading's bold letters."""


def strip(episode: Episode, name: str, heading: str) -> Plot:
    """Masks after clicks 1, 3, 5, 10 and the errors at the end; with a trace, a second row of what the parts did."""
    shown = [k for k in CLICKS if k <= len(episode.steps)] or [len(episode.steps)]
    height, width = episode.sample.mask.shape
    traced = any(s.trace is not None for s in episode.steps)
    columns = len(shown) + 1
    cell = 2.6
    ratio = min(max(height / width, 0.45), 1.5)
    rows = 2 if traced else 1
    # An episode that ended early has few panels: heading and key are broken into lines that fit.
    lines = textwrap.wrap(visible(heading), round(cell * columns * _LETTERS_PER_INCH))
    keys = min(len(_key()), max(2, round(cell * columns / 1.7)))
    more = 0.17 * (len(lines) + math.ceil(len(_key()) / keys) - 2)
    with drawing(cell * columns, (cell * ratio + 0.32) * rows + 0.72 + more, rows, columns) as (figure, axes):
        background = smaller(episode.sample.image)
        scale = background.shape[1] / width
        for ax, k in zip(axes, shown, strict=False):
            _mask_panel(
                ax,
                background,
                scale,
                episode.steps[:k],
                f"click {k} · IoU {episode.steps[k - 1].iou * 100:.1f} %",
            )
        last = len(episode.steps)
        _error_panel(
            axes[columns - 1],
            background,
            episode,
            f"errors after click {last} · {episode.steps[-1].iou * 100:.1f} %",
        )
        if traced:
            for ax, k in zip(axes[columns:], shown, strict=False):
                _trace_panel(ax, background, scale, episode.steps[k - 1].trace, f"parts at click {k}")
            _key_panel(axes[-1], [episode.steps[k - 1].trace for k in shown])
        figure.suptitle("\n".join(lines), x=0.008, ha="left", fontsize=10, fontweight="bold")
        figure.legend(
            handles=_key(),
            loc="outside lower left",
            ncols=keys,
            fontsize=8,
            handletextpad=0.4,
            columnspacing=1.4,
        )
    shown_ious = ", ".join(f"{episode.steps[k - 1].iou * 100:.0f} % after {k}" for k in shown)
    return Plot(
        name,
        heading,
        f"{episode.variant} ({episode.status}), {episode.dataset}, {episode.sample.name}. {episode.note}".strip(),
        f"Photograph with the clicks and mask outlines of {episode.variant}; IoU {shown_ious}; "
        f"then {episode.steps[-1].iou * 100:.0f} % at the end with missed and extra pixels coloured.",
        figure,
        episode.dataset,
    )


def smaller(image: np.ndarray, side: int = _SIDE) -> np.ndarray:
    """The image with its longest side at most `side` pixels."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def outlines(mask: np.ndarray, scale: float) -> list[np.ndarray]:
    """Closed outlines (n, 2) of x, y in pixels of the scaled picture."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    scaled = [(c[:, 0, :] + 0.5) * scale - 0.5 for c in contours if len(c) > 2]
    return [np.vstack([c, c[:1]]) for c in scaled]


def _frame(ax: Axes, background: np.ndarray, title: str, fade: float = 0.0) -> None:
    shown = background if not fade else (background * (1 - fade) + 255 * fade).astype(np.uint8)
    ax.imshow(shown, interpolation="bilinear")
    ax.set_title(title, fontsize=8.5, fontweight="normal", pad=3)
    ax.set(xticks=[], yticks=[], xlim=(-0.5, shown.shape[1] - 0.5), ylim=(shown.shape[0] - 0.5, -0.5))
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _mask_panel(ax: Axes, background: np.ndarray, scale: float, steps: tuple[Step, ...], title: str) -> None:
    _frame(ax, background, title)
    tint = np.zeros((*background.shape[:2], 4))
    mask = cv2.resize(steps[-1].mask.astype(np.uint8), background.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    lines = outlines(steps[-1].mask, scale)
    # A mask of specks (random weights) drawn as outlines would hide the photograph: it is only tinted.
    speckled = len(lines) > _SPECKS
    tint[mask > 0] = (1, 1, 1, 0.6 if speckled else 0.22)
    ax.imshow(tint, interpolation="nearest")
    for colour, width, opacity in () if speckled else (("black", 2.2, 0.55), (OUTLINE, 1.1, 1.0)):
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, alpha=opacity))
    for number, step in enumerate(steps, 1):
        if step.click is not None:
            _click(ax, step.click.x * scale, step.click.y * scale, number, step.click.positive)


def _click(ax: Axes, x: float, y: float, number: int, positive: bool) -> None:
    ax.plot(
        x,
        y,
        "o" if positive else "s",
        color=POSITIVE if positive else NEGATIVE,
        markersize=9.5 if positive else 9,
        markeredgecolor="white",
        markeredgewidth=0.9,
    )
    text = ax.text(x, y, str(number), color="white", fontsize=6.2, fontweight="bold", ha="center", va="center_baseline")
    text.set_path_effects([effects.withStroke(linewidth=0.7, foreground="black", alpha=0.5)])


def _error_panel(ax: Axes, background: np.ndarray, episode: Episode, title: str) -> None:
    grey = np.repeat(cv2.cvtColor(background, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    _frame(ax, grey, title, fade=0.35)
    mask, truth = episode.steps[-1].mask, episode.sample.mask
    for wrong, colour in (((truth == 1) & ~mask, MISSED), ((truth == 0) & mask, EXTRA)):
        layer = np.zeros((*background.shape[:2], 4))
        share = cv2.resize(wrong.astype(np.float32), background.shape[1::-1], interpolation=cv2.INTER_AREA)
        rgb = tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        layer[..., :3] = rgb
        # An error of one pixel must still be seen in a picture that is smaller than the photograph.
        layer[..., 3] = np.where(share > 0, np.maximum(share, 0.6), 0) * 0.95
        ax.imshow(layer, interpolation="nearest")
    for line in outlines(truth == 1, background.shape[1] / truth.shape[1]):
        ax.plot(line[:, 0], line[:, 1], color="black", linewidth=0.7)


def _trace_panel(ax: Axes, background: np.ndarray, scale: float, trace: Trace | None, title: str) -> None:
    _frame(ax, background, title, fade=0.45)
    if trace is None:
        return
    side = trace.token * scale
    grid = trace.experts if trace.experts is not None else trace.boundary
    if grid is not None:
        chosen = grid >= 0 if trace.experts is not None else grid
        cells = [(i, j) for i, j in zip(*np.nonzero(chosen), strict=True)]
        colours = [EXPERTS[int(trace.experts[i, j]) % 8] if trace.experts is not None else BOUNDARY for i, j in cells]
        ax.add_collection(
            PatchCollection(
                [Rectangle((j * side, i * side), side, side) for i, j in cells],
                facecolors=colours,
                edgecolors="white",
                linewidths=0.25 if len(cells) < 600 else 0.0,
                alpha=0.62,
            )
        )
    for box, colour, dash, grow in ((trace.dpe_box, DPE, "-", 0.0), (trace.dlu_box, DLU, (0, (4, 2)), 2.0)):
        if box is not None:
            left, top, right, bottom = (v * scale for v in box)
            height, width = background.shape[:2]
            right, bottom = min(right, width), min(bottom, height)
            ax.add_patch(
                Rectangle(
                    (left + grow, top + grow),
                    right - left - 2 * grow,
                    bottom - top - 2 * grow,
                    fill=False,
                    edgecolor=colour,
                    linewidth=2.2,
                    linestyle=dash,
                    clip_on=False,
                )
            )


def _key() -> list[Line2D | Patch]:
    return [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="none",
            color=POSITIVE,
            markeredgecolor="white",
            markersize=8,
            label="click on the object",
        ),
        Line2D(
            [],
            [],
            marker="s",
            linestyle="none",
            color=NEGATIVE,
            markeredgecolor="white",
            markersize=7.5,
            label="click on the background",
        ),
        Line2D([], [], color="#888888", linewidth=2, label="answer (light)"),
        Line2D([], [], color="black", linewidth=1, label="true outline"),
        Patch(facecolor=MISSED, label="missed"),
        Patch(facecolor=EXTRA, label="too much"),
    ]


def _key_panel(ax: Axes, traces: Sequence[Trace | None]) -> None:
    """What the second row's marks mean; only marks that are there."""
    known = [t for t in traces if t is not None]
    handles: list[Any] = []
    names: list[str] = []
    if any(t.dpe_box is not None for t in known):
        handles.append(Line2D([], [], color=DPE, linewidth=2.2))
        names.append("DPE box: prompt embedded here")
    if any(t.dlu_box is not None for t in known):
        handles.append(Line2D([], [], color=DLU, linewidth=2.2, linestyle=(0, (4, 2))))
        names.append("DLU box: upsampled here")
    if any(t.experts is not None for t in known):
        handles.append(tuple(Patch(facecolor=c, alpha=0.62) for c in EXPERTS[:4]))
        names.append("tokens sent to an expert,\na colour for each expert")
    elif any(t.boundary is not None for t in known):
        handles.append(Patch(facecolor=BOUNDARY, alpha=0.62))
        names.append("boundary tokens:\nfull attention")
    ax.set_axis_off()
    ax.legend(
        handles,
        names,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        loc="upper left",
        fontsize=7.5,
        handlelength=2.2,
        borderaxespad=0,
        title="What the parts did",
        title_fontsize=8,
        alignment="left",
    )
