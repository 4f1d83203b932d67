"""How time grows, in table and plots: what is shown is what latency_scaling.csv and latency_parts.csv hold."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_reports_pictures import check_lettering

from harness.latency import scaling
from reports.pages import assemble
from reports.pages.assemble import all_plots, all_tables
from reports.plots import scaling as plots_scaling
from reports.plots.style import Plot
from reports.read import frames
from reports.read.runs import Run
from reports.tables import cost
from reports.tables.table import Value

SIZES, THREADS, ROUNDS = (256, 512, 1024), (1, 2, 4), 9
VARIANTS = ("near", "colourful", "random")


def timings(variants: tuple[str, ...] = VARIANTS, rounds: int = ROUNDS, widest: float = 0.6) -> pd.DataFrame:
    """Timings of a known law: later clicks grow with tokens^(1 + 0.25 v), and with the boundary; 2 % of noise."""
    rng = np.random.default_rng(0)
    rows = []
    for v, variant in enumerate(variants):
        for threads in THREADS:
            for resolution in SIZES:
                for number in range(rounds):
                    for image, share in enumerate((0.05, widest / 2, widest)):
                        for click in (0, 1, 2):
                            ms = 90.0 if click == 0 else 30.0 if click == 1 else 10.0 + 15.0 * share
                            ms *= (resolution / 512) ** (2 * (1 + 0.25 * v * (click == 2))) / threads**0.7
                            ms *= 1 + 0.02 * rng.standard_normal()
                            known = share if click else math.nan
                            rows.append((variant, threads, resolution, number, image, click, ms, known))
    names = ["variant", "threads", "resolution", "round", "image", "click", "ms", "boundary_share"]
    return pd.DataFrame(rows, columns=names)


def parts(variants: tuple[str, ...] = VARIANTS) -> pd.DataFrame:
    """Parts of a later click: attention of the second variant is quadratic, of the others linear; experts linear."""
    rows = []
    for variant in variants:
        for threads in THREADS:
            for resolution in SIZES:
                linear = (resolution / 512) ** 2 / threads
                # 10 x = 5 x^2 at x = 2: equal at 512 sqrt(2) = 724 px.
                attention = 5 * linear * (resolution / 512) ** 2 if variant == variants[1] else 10 * linear
                for part, ms in {
                    "attention": attention,
                    "experts": 4 * linear,
                    "total": attention + 4 * linear,
                }.items():
                    rows.append((variant, threads, resolution, part, "later", "all", ms, math.nan))
    names = ["variant", "threads", "resolution", "part", "kind", "size_bin", "median_ms", "roofline_ms"]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture(scope="module")
def scaled(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated sweep with the harness's own fits of timings with a known law."""
    target = tmp_path_factory.mktemp("scaled") / "run"
    shutil.copytree(folder, target)
    made = parts()
    made.to_csv(target / "latency_parts.csv", index=False)
    scaling.fit(timings(), made).to_csv(target / "latency_scaling.csv", index=False)
    return target


@pytest.fixture(scope="module")
def run(scaled: Path) -> Run:
    return frames.read(scaled)


def drawn_numbers(plot: Plot) -> list[list[float]]:
    """x of the dots of each panel, sorted."""
    dots = [[x for x in ax.lines if x.get_linestyle() == "None" and len(x.get_xdata())] for ax in plot.figure.axes]
    return [sorted(round(float(dot.get_xdata()[0]), 9) for dot in panel) for panel in dots]


def test_every_number_of_the_table_is_found_again_from_the_rows(run: Run, scaled: Path) -> None:
    rows = pd.read_csv(scaled / "latency_scaling.csv")
    made = cost.scaling(run)
    assert len(made.rows) == len(rows) > 60
    keys = [c.key for c in made.columns]
    for row, line in zip(made.rows, rows.to_dict("records"), strict=True):
        cells = dict(zip(keys, row.cells, strict=True))
        value, points = cells["value"], cells["points"]
        assert isinstance(value, Value) and isinstance(points, Value)
        assert value.measured == pytest.approx(line["value"], rel=1e-9) and points.measured == line["points"]
        if math.isnan(line["low"]):
            assert value.interval == "" and line["part"] != "total"
        else:
            assert (value.low, value.high) == pytest.approx((line["low"], line["high"]))
        assert cells["variant"] == line["variant"] and cells["against"] == line["against"]
        assert (cells["law"] == "exponent") == (line["law"] == "exponent")
        for key, number in cost.held(line["fixed"]).items():
            assert f"{number:g} {'thread' if key == 'threads' else 'px'}" in str(cells["held"]).replace(
                "longest side ", ""
            )


def test_dots_and_intervals_are_those_of_the_rows(run: Run, scaled: Path) -> None:
    """Fewest threads over tokens, the largest image over threads, both over the boundary."""
    rows = pd.read_csv(scaled / "latency_scaling.csv")
    plot = plots_scaling.exponents(run)
    assert plot is not None
    conditions = {"tokens": "threads=1", "threads": "resolution=1024", "boundary share": "threads=1 resolution=1024"}
    for (against, fixed), ax, dots in zip(conditions.items(), plot.figure.axes, drawn_numbers(plot), strict=True):
        chosen = rows[(rows["against"] == against) & (rows["fixed"] == fixed)]
        assert dots == sorted(chosen["value"].round(9)) and len(dots) >= 3
        ends = {tuple(segment[:, 0].round(9)) for c in ax.collections for segment in c.get_segments()}
        known = chosen[chosen["low"].notna()]
        assert ends == set(zip(known["low"].round(9), known["high"].round(9), strict=True))
    for number in rows.loc[rows["fixed"] == "threads=1", "value"]:
        assert f"{number:+.2f}" in plot.alt


def test_laws_are_recovered_from_the_timings_to_the_plot(run: Run) -> None:
    # Later clicks grow with tokens^1, ^1.25, ^1.5; the noise is 2 % over a factor of 16 in tokens.
    panel = plots_scaling.panel(run, "tokens")
    assert panel is not None
    later = panel.rows[(panel.rows["kind"] == "later") & (panel.rows["part"] == "total")].set_index("variant")["value"]
    assert later[list(VARIANTS)].tolist() == pytest.approx([1.0, 1.25, 1.5], abs=0.02)


def test_attention_is_drawn_with_its_exponent_and_where_costs_are_equal(run: Run) -> None:
    plot = plots_scaling.attention(run)
    assert plot is not None
    shown = [t.get_text() for t in plot.figure.legends[0].get_texts()]
    assert shown == ["near  1.00", "colourful  2.00", "random (untrained)  1.00"]
    # 724 px: see `parts`. The law of "random" is that of "near": parallel lines, no crossing.
    assert "as dear as near by the fits, colourful at 724 px." in plot.caption and "random at" not in plot.caption
    ring = [line for line in plot.figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [tuple(np.ravel(line.get_xydata())) for line in ring] == [pytest.approx((512 * 2**0.5, 20.0))]
    points = {tuple(point) for line in plot.figure.axes[0].lines for point in line.get_xydata().round(6)}
    frame = run.parts[(run.parts["part"] == "attention") & (run.parts["threads"] == 1)]
    assert {(r, round(ms, 6)) for r, ms in zip(frame["resolution"], frame["median_ms"], strict=True)} <= points


def test_costs_that_meet_outside_of_the_measured_sizes_are_not_claimed(run: Run) -> None:
    dear = run.parts.copy()
    dear.loc[dear["variant"] == "colourful", "median_ms"] *= 100
    plot = plots_scaling.attention(replace(run, parts=dear))
    assert plot is not None and "No fit meets that of near" in plot.caption


def test_shares_that_lie_together_are_not_drawn_as_a_cost_of_the_boundary(run: Run) -> None:
    near = replace(run, scaling=scaling.fit(timings(widest=0.07)))
    assert (near.scaling["against"] == "boundary share").any()
    plot = plots_scaling.exponents(near)
    assert plot is not None and len(plot.figure.axes) == 2
    assert len(cost.scaling(near).rows) == len(near.scaling)


def test_two_rounds_give_dots_without_intervals(run: Run) -> None:
    plot = plots_scaling.exponents(replace(run, scaling=scaling.fit(timings(rounds=2))))
    assert plot is not None
    assert all(not c.get_segments() for ax in plot.figure.axes for c in ax.collections)
    assert all(drawn_numbers(plot))


@pytest.mark.parametrize("count", [3, 16])
def test_lettering_stays_readable(run: Run, count: int) -> None:
    names = VARIANTS if count == 3 else tuple(f"dpe_dha_hmoe_dlu_{i:02d}" for i in range(count))
    one = run.latency[run.latency["variant"] == "near"]
    many = replace(
        run,
        scaling=scaling.fit(timings(names), parts(names)),
        parts=parts(names),
        latency=pd.concat([one.assign(variant=name) for name in names], ignore_index=True),
        config={**run.config, "variants": {n: {} for n in names}, "ablation": {"base": names[0]}},
    )
    for plot in (plots_scaling.exponents(many), plots_scaling.attention(many)):
        assert plot is not None
        plot.rendered("png")
        check_lettering(plot)


def test_they_stand_on_the_page(scaled: Path, run: Run, tmp_path: Path) -> None:
    assert {"scaling", "scaling_attention"} <= {p.name for p in all_plots(run)}
    page = assemble.build(scaled, tmp_path, 0).read_text()
    assert 'id="plot-scaling"' in page and 'id="plot-scaling_attention"' in page and "How time grows" in page
    assert (tmp_path / "scaling.csv").exists() and (tmp_path / "scaling_attention.png").exists()


def test_a_run_without_fits_shows_nothing_of_them(folder: Path) -> None:
    run = frames.read(folder)
    assert plots_scaling.exponents(run) is None and plots_scaling.attention(run) is None
    assert "scaling" not in {t.name for t in all_tables(run)}
    assert not any("latency_scaling" in note for note in run.notes)
