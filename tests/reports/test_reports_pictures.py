"""Plots and pictures: what is drawn is what the rows say; nothing overlaps; lettering is readable."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.text import Text

from harness.planning.disk import Trust
from reports.episodes import gallery, pictures, player, replay
from reports.pages.assemble import all_plots
from reports.plots import cost, labels, quality, style
from reports.plots import parts as plots_parts
from reports.plots.style import Plot
from reports.read import frames
from reports.read.runs import Run

SIMULATED = Trust(Path(__file__).resolve().parent)
"""The simulated run's own classes lie beside the tests."""


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return frames.read(folder)


@pytest.fixture(scope="module")
def drawn(run: Run) -> list[Plot]:
    made = all_plots(run)
    for plot in made:
        plot.rendered("png")
    return made


def lettering(plot: Plot) -> list[tuple[Text, Any]]:
    """Visible texts of a figure with their boxes in pixels."""
    plot.figure.draw_without_rendering()  # at the figure's own resolution, not that of the last file
    renderer = plot.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    found = []
    for text in plot.figure.findobj(Text):
        shown = text.get_visible() and text.get_text().strip() and (text.axes is None or text.axes.get_visible())
        if shown and text.get_window_extent(renderer).width > 0:
            found.append((text, text.get_window_extent(renderer)))
    return found


def ticks_out_of_range(plot: Plot) -> set[int]:
    """Texts of ticks that lie outside their axis and are therefore not drawn."""
    hidden = set()
    for ax in plot.figure.axes:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            low, high = min(limits), max(limits)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                outside = not low <= tick.get_loc() <= high
                for text in (tick.label1, tick.label2):
                    if outside or not text.get_visible():
                        hidden.add(id(text))
    return hidden


def check_lettering(plot: Plot) -> None:
    width, height = plot.figure.canvas.get_width_height()
    every = lettering(plot)  # draws, which sets the ticks
    hidden = ticks_out_of_range(plot)
    boxes = [(t, b) for t, b in every if id(t) not in hidden]
    assert boxes
    for text, box in boxes:
        assert text.get_fontsize() >= 6, text.get_text()
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, (
            plot.name,
            text.get_text(),
        )
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1.5 or along <= 1.5, (plot.name, one.get_text(), two.get_text())


def test_no_lettering_overlaps_or_leaves_the_picture(drawn: list[Plot]) -> None:
    assert {p.name for p in drawn} >= {
        "iou_shapes",
        "noc90_time_wires",
        "paired_shapes",
        "parts",
        "roofline",
        "latency_size",
    }
    for plot in drawn:
        check_lettering(plot)


def test_many_variants_stay_readable(run: Run) -> None:
    """The sixteen combinations of `+ablation=grid`."""
    names = [f"dpe_dha_hmoe_dlu_{i:02d}" for i in range(16)]

    def many(frame: Any) -> Any:
        import pandas as pd

        one = frame[frame["variant"] == "near"]
        rng = np.random.default_rng(1)
        parts = []
        for name in names:
            part = one.assign(variant=name)
            for column in ("median_ms", "low_ms", "high_ms"):
                if column in part:
                    part[column] *= rng.uniform(0.8, 1.3)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    config = {**run.config, "variants": {n: {} for n in names}, "ablation": {"base": names[0]}}
    changed = {k: many(getattr(run, k)) for k in ("clicks", "summary", "latency", "flops", "parts")}
    grid = replace(run, config=config, **changed)
    for plot in (
        quality.iou_curves(grid, "shapes"),
        quality.noc_histograms(grid, "shapes"),
        quality.differences(grid, "shapes"),
        plots_parts.stacked(grid),
    ):
        assert plot is not None
        plot.rendered("png")
        check_lettering(plot)
    assert len({(v.colour, str(v.dash), v.marker) for v in style.looks(names).values()}) == 16


def test_curves_are_the_means_of_the_rows(run: Run) -> None:
    plot = quality.iou_curves(run, "shapes")
    lines = {str(line.get_label()): line for line in plot.figure.axes[0].lines}
    for variant in ("near", "colourful"):
        rows = run.clicks[(run.clicks["variant"] == variant) & (run.clicks["dataset"] == "shapes")]
        assert np.allclose(lines[variant].get_ydata(), rows.groupby("click")["iou"].mean() * 100)
    assert "random (untrained)" in lines
    legend = plot.figure.axes[0].get_legend()
    assert legend is not None and legend.get_frame_on()  # the lines of 90 and 95 % would strike its names through


def test_stopped_episodes_keep_their_last_value() -> None:
    import pandas as pd

    rows = pd.DataFrame({"sample": ["a", "a", "a", "b"], "click": [1, 2, 3, 1], "iou": [0.1, 0.2, 0.3, 0.9]})
    assert quality.curve(rows).loc["b"].tolist() == [0.9, 0.9, 0.9]


def test_band_covers_the_mean_of_the_law() -> None:
    """Beta(5, 2) has the mean 5/7: a 95 % band holds it 190 times of 200 or more (binomial: at least 178)."""
    values = np.random.default_rng(0).beta(5, 2, size=(60, 200)) * 100
    low, high = quality.band(values)
    assert 178 <= ((low <= 500 / 7) & (high >= 500 / 7)).sum() <= 200
    assert (high - low).max() < 25  # not by being wide: the standard error is 16 / sqrt(60) = 2.1
    assert np.isnan(quality.band(values[:5])).all()


def test_pareto_front() -> None:
    points = [(3.0, 1.0), (1.0, 4.0), (2.0, 4.0), (2.0, 2.0), (4.0, 3.0)]
    assert quality.pareto(points) == [(1.0, 4.0), (2.0, 2.0), (3.0, 1.0)]


def test_untrained_is_never_on_the_front(run: Run) -> None:
    best = run.summary.copy()
    best.loc[best["variant"] == "random", "value"] = 0.5
    plot = quality.noc_against_time(replace(run, summary=best), "shapes")
    assert plot is not None
    steps = [line for line in plot.figure.axes[0].lines if line.get_drawstyle().startswith("steps")]
    assert all(0.5 not in line.get_ydata() for line in steps)
    hollow = [line for line in plot.figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 1


def test_fitted_slope() -> None:
    import pandas as pd

    x = pd.Series([256.0, 512.0, 1024.0])
    assert cost.slope(x, 0.01 * x**1.7) == pytest.approx(1.7)


def test_time_against_boundary_tokens_has_the_law_of_the_rows(run: Run) -> None:
    """The simulated times are proportional to the share of boundary tokens to the power 0.5."""
    plot = cost.time_against_boundary(run)
    assert plot is not None
    legend = plot.figure.axes[0].get_legend()
    assert legend is not None
    assert [t.get_text().split()[-1] for t in legend.get_texts()] == ["+0.50"] * 3


def test_infinite_intervals_are_not_drawn(run: Run) -> None:
    few = run.latency.assign(low_ms=0.0, high_ms=float("inf"))
    for axis in ("threads", "resolution"):
        plot = cost.latency_over(replace(run, latency=few), axis)
        assert plot is not None
        assert all(len(c.get_paths()) == 0 for ax in plot.figure.axes for c in ax.collections)


def test_log_ticks_are_plain_and_enough() -> None:
    with style.drawing(4, 3) as (_, (ax,)):
        for low, high in ((3, 5), (1, 90), (0.2, 4000), (15.2, 15.9)):
            ax.set(xscale="log", xlim=(low, high))
            labels.plain_log(ax.xaxis, (low, high))
            ticks = [t for t in ax.get_xticks() if low <= t <= high]
            assert 3 <= len(ticks) <= 12


def test_pictures_are_the_same_bytes_every_time(run: Run) -> None:
    made = [quality.iou_curves(run, "shapes") for _ in range(2)]
    for ending in ("svg", "png", "pdf"):
        assert made[0].rendered(ending) == made[1].rendered(ending)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "jpg"])
def test_a_picture_is_drawn_once_and_has_the_bytes_of_savefig(ending, monkeypatch):
    def plot():
        with style.drawing(4, 3, 1, 2) as (figure, axes):
            axes[0].plot([0, 1, 2], [3, 1, 2], label="a rather long label")
            axes[1].imshow(np.arange(12).reshape(3, 4))
            figure.legend(loc="outside lower center")
        return Plot("name", "title", "caption", "alt", figure)

    draws = []
    ours, expected = plot(), io.BytesIO()
    draw = type(ours.figure).draw
    monkeypatch.setattr(type(ours.figure), "draw", lambda *args, **kw: (draws.append(1), draw(*args, **kw))[1])
    found = ours.rendered(ending)
    assert len(draws) == 2  # once for the layout, once with ink; savefig below takes one more
    reference = plot().figure
    with rc_context(style.RC):
        reference.draw_without_rendering()
        reference.set_layout_engine("none")
        undated = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
        options = {"pil_kwargs": {"quality": 88}} if ending == "jpg" else {}
        reference.savefig(expected, format=ending, metadata=undated.get(ending), **options)
    assert found == expected.getvalue() and len(draws) == 5
    assert ours.figure.dpi == reference.dpi == 100


def test_gallery_chooses_by_the_rows(run: Run) -> None:
    chosen = {c.title: c for c in gallery.choose(run, "shapes")}
    means = run.clicks[run.clicks["dataset"] == "shapes"].groupby(["variant", "sample"])["iou"].mean()
    near, other = means["near"], means["colourful"]
    assert chosen["Worst sample of near"].sample == near.idxmin()
    assert (near < near[chosen["Median sample of near"].sample]).sum() == (len(near) - 1) // 2
    assert chosen["Largest gain of colourful over near"].sample == (other - near).idxmax()
    assert chosen["Largest gain of colourful over near"].variants == ("near", "colourful")


def test_replay_gives_the_recorded_masks(run: Run) -> None:
    again = replay.Replayer(run, trust=SIMULATED).episode("colourful", "wires", "shape_02")
    assert again.note == "" and len(again.steps) == 20
    truth = again.sample.mask == 1
    for step in again.steps:
        iou = (step.mask & truth).sum() / (step.mask | truth).sum()
        assert iou == pytest.approx(step.iou, abs=1e-9)


def test_replay_that_differs_says_so(run: Run) -> None:
    other = replace(run, clicks=run.clicks.assign(iou=run.clicks["iou"] * 0.5))
    assert (
        "differs from the recording"
        in replay.Replayer(other, trust=SIMULATED).episode("near", "shapes", "shape_01").note
    )


def test_replay_without_the_data_is_a_sentence(run: Run) -> None:
    config = {**run.config, "datasets": {"shapes": {"config": {"_target_": "nowhere.Data"}}}}
    told, problems = gallery.stories(replace(run, config=config), 5, SIMULATED)
    assert told == [] and any("nowhere" in p for p in problems)


def test_network_scale() -> None:
    """Expected: specification of the model, section 1: 854x480 is padded to 1024x512, then squared, then resized."""
    assert replay.network_scale((32, 64), (480, 854)) == 1.0
    assert replay.network_scale((64, 64), (480, 854)) == 1.0
    assert replay.network_scale((128, 128), (480, 854)) == 2.0


def traced(run: Run) -> replay.Episode:
    """An episode with a made-up trace, as Inter2Former leaves one."""
    episode = replay.Replayer(run, trust=SIMULATED).episode("near", "shapes", "shape_01")
    boundary = np.zeros((16, 16), bool)
    boundary[2:5, 3:7] = True
    experts = np.where(boundary, np.arange(256).reshape(16, 16) % 8, -1)
    trace = replay.Trace((32.0, 16.0, 120.0, 96.0), (48.0, 32.0, 112.0, 80.0), boundary, experts, 16.0)
    return replace(episode, steps=tuple(replace(s, trace=trace) for s in episode.steps))


def test_strip_shows_the_clicks_and_the_parts(run: Run) -> None:
    plain = pictures.strip(
        replay.Replayer(run, trust=SIMULATED).episode("near", "shapes", "shape_01"), "strip", "A heading"
    )
    with_parts = pictures.strip(traced(run), "parts", "A heading")
    assert len(plain.figure.axes) == 5 and len(with_parts.figure.axes) == 10
    assert [ax.get_title(loc="left").split(" ·")[0] for ax in plain.figure.axes[:4]] == [
        "click 1",
        "click 3",
        "click 5",
        "click 10",
    ]
    numbers = [t.get_text() for t in plain.figure.axes[3].texts]
    assert numbers == [str(k) for k in range(1, 11)]
    for plot in (plain, with_parts):
        plot.rendered("jpg")
        outside = [t for t, b in lettering(plot) if b.x1 > plot.figure.canvas.get_width_height()[0] + 1]
        assert outside == []


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_strip_of_a_short_episode_is_readable(run: Run, steps: int) -> None:
    """An episode that ends early has few panels, while heading and key stay as long."""
    whole = traced(run)
    short = replace(whole, steps=whole.steps[:steps])
    plot = pictures.strip(short, "short", "Largest loss of hybrid_executed against hybrid: hybrid_executed")
    plot.rendered("jpg")
    width, height = plot.figure.canvas.get_width_height()
    boxes = [(t, b) for t, b in lettering(plot) if not t.get_text().isdigit()]  # marks of clicks may lie close
    assert {"missed", "too much"} <= {t.get_text() for t, _ in boxes}
    for text, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text.get_text()
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        apart = min(a.x1, b.x1) - max(a.x0, b.x0) <= 1.5 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 1.5
        assert apart, (one.get_text(), two.get_text())


@pytest.mark.parametrize(
    ("left_out", "told", "silent"),
    [
        ({}, ["DPE box", "DLU box", "sent to an expert"], ["full attention"]),
        ({"experts": None, "dlu_box": None}, ["DPE box", "full attention"], ["DLU box", "expert"]),
    ],
)
def test_key_names_only_what_is_drawn(run: Run, left_out: dict[str, None], told: list[str], silent: list[str]) -> None:
    whole = traced(run)
    steps = tuple(replace(s, trace=replace(s.trace, **left_out)) for s in whole.steps if s.trace is not None)
    plot = pictures.strip(replace(whole, steps=steps), "key", "A heading")
    key = " ".join(t.get_text() for t in plot.figure.axes[-1].get_legend().get_texts())  # type: ignore[union-attr]
    assert all(word in key for word in told) and not any(word in key for word in silent)


def test_player_data(run: Run) -> None:
    data = player.data(traced(run))
    assert (data["width"], data["height"]) == (160, 120) and data["image"].startswith("data:image/jpeg;base64,")
    rows = run.clicks[
        (run.clicks["variant"] == "near") & (run.clicks["dataset"] == "shapes") & (run.clicks["sample"] == "shape_01")
    ]
    assert [s["click"] for s in data["steps"] if "click" in s] == [
        [r.x, r.y, r.positive] for r in rows.itertuples() if r.y >= 0
    ]
    assert [s["iou"] for s in data["steps"]] == [round(v * 100, 1) for v in rows["iou"]]
    assert data["steps"][0]["trace"]["dpe"] == [32.0, 16.0, 120.0, 96.0]
    trace = data["steps"][0]["trace"]
    # Row 2 holds tokens 32..47; 3 to 6 of them are boundary tokens, of expert (32 + column) % 8 = column.
    assert trace["experts"][2] == "...3456" + "." * 9 and trace["boundary"][2] == "...0000" + "." * 9
    assert trace["experts"][0] == "." * 16 and len(trace["experts"]) == 16


def test_path_outlines_the_mask() -> None:
    import re

    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    numbers = [float(v) for v in re.findall(r"-?\d+\.?\d*", player.path(mask, 1.0))]
    x, y = numbers[::2], numbers[1::2]
    assert (min(x), max(x)) == pytest.approx((20, 49.5), abs=0.6) and (min(y), max(y)) == pytest.approx(
        (10, 29.5), abs=0.6
    )
    assert player.path(np.zeros((4, 4), bool), 1.0) == ""


def test_speckled_mask_becomes_a_bitmap_of_all_of_it() -> None:
    import base64

    import cv2

    specks = np.random.default_rng(0).random((100, 200)) > 0.5
    whole = np.kron(specks, np.ones((4, 4))).astype(bool)
    text = player.path(whole, 1.0)
    kind, data = text.split(",")
    assert kind == "data:image/png;base64" and len(text) < 20_000
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown is not None and np.array_equal(shown > 0, whole[::2, ::2])
