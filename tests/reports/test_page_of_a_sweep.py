"""The page of one sweep as a reader meets it: verdict, figure, tables that fit or say that they scroll, and episodes
beside each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from test_reports_numbers import planted
from test_reports_page import CONTRAST, browser  # noqa: F401  (a fixture)
from test_reports_words import folder_of

from reports.episodes import gallery
from reports.pages import page as page_module
from reports.pages.condense import condensed
from reports.pages.verdict import verdict
from reports.read import frames
from reports.read.runs import Run
from reports.tables import quality
from reports.tables.table import Column, Row, Table, Value, to_markdown

COUNTS = [3 + i % 6 for i in range(24)]


def run_of(folder: Path, **variants: list[int]) -> Run:
    """A run of variants that need so many clicks on each sample; the first is the base."""
    return frames.read(folder_of(folder, [planted(v, counts) for v, counts in variants.items()]))


def test_the_verdict_is_one_sentence_with_every_comparison(tmp_path: Path) -> None:
    """Two clicks more on each of 24 samples; one more and one less in turn; two fewer; and random weights."""
    run = run_of(
        tmp_path / "run",
        near=COUNTS,
        colourful=[n + 2 for n in COUNTS],
        third=[n + (1 if i % 2 else -1) for i, n in enumerate(COUNTS)],
        fourth=[n - 2 for n in COUNTS],
        random=[n + 9 for n in COUNTS],
    )
    assert verdict(run) == (
        "By NoC@90 on shapes, against near: fourth (−2.00 clicks) is better; colourful (+2.00 clicks) is worse; "
        "no difference is shown for third; random is not compared: untrained weights."
    )


@pytest.mark.parametrize(
    ("variants", "sentence"),
    [
        (
            {"near": [2, 3, 4, 3, 2, 3], "colourful": [5, 6, 8, 3, 2, 6]},
            "By NoC@90 on shapes, against near: too few samples differ to tell for colourful.",
        ),
        # The mean of 8 samples of 3 clicks is 3; the interval of a constant is not the point of this test.
        ({"near": [3] * 8}, r"NoC@90 of near: 3\.00 .*on shapes; nothing is compared, for this run has one variant\."),
    ],
)
def test_verdicts_of_runs_that_show_nothing(variants: dict[str, list[int]], sentence: str, tmp_path: Path) -> None:
    said = verdict(run_of(tmp_path / "run", **variants))
    assert said == sentence or re.fullmatch(sentence, said)


def test_verdict_and_figure_come_before_the_first_table(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    places = [html.index(mark) for mark in ('class="verdict"', '<section id="summary"', "<figure", "<table")]
    assert places == sorted(places)
    ids = re.findall(r'<figure id="([^"]+)"', html)
    assert ids[:2] == ["plot-noc90_time_shapes", "plot-noc90_time_wires"] and len(ids) == len(set(ids))


def table_of(*rows: tuple[str | Value, ...]) -> Table:
    columns = (
        Column("variant", "Variant"),
        Column("dataset", "Data set"),
        Column("weights_status", "Weights"),
        Column("samples", "Samples"),
        Column("noc90", "NoC@90", better="low"),
        Column("nof90", "NoF@90", better="low"),
        Column("verdict", "Reading"),
    )
    return Table("t", "A table", "A caption.", columns, tuple(map(Row, rows)))


def test_columns_that_are_equal_in_all_rows_stand_above_the_table() -> None:
    """Words and counts move; measurements and readings stay, equal or not; the files keep every column."""
    table = table_of(
        *(
            (name, "scenes", "untrained", Value(6.0, digits=0), Value(3.0, 2.0, 4.0), Value(0.0, digits=0), "identical")
            for name in ("a", "b")
        )
    )
    shown = condensed(table)
    assert shown.equal == (("Data set", "scenes"), ("Weights", "untrained"), ("Samples", "6"))
    assert [c.key for c in shown.table.columns] == ["variant", "noc90", "nof90", "verdict"]
    assert [len(row.cells) for row in shown.table.rows] == [4, 4]
    assert "Data set" in to_markdown(table)
    other = condensed(table_of(table.rows[0].cells, ("b", "wires", *table.rows[1].cells[2:])))
    assert [title for title, _ in other.equal] == ["Weights", "Samples"]


def test_a_count_that_is_cut_short_stays_in_its_row() -> None:
    cells = ("a", "scenes", "released", Value(44.0, digits=0, of=50), Value(3.0), Value(0.0, digits=0), "worse")
    assert ("Samples", "44 of 50") not in condensed(table_of(cells, cells)).equal


def test_what_is_not_measured_is_one_line_under_the_table() -> None:
    def row(name: str, needs: str) -> tuple[str | Value, ...]:
        return (name, "s", "w", Value(1.0, digits=0), Value(published=4.2, missing=needs), Value(1.0, digits=0), "")

    shown = condensed(
        table_of(
            row("a", "not measured: needs the full-size model, DAVIS as published (this is composed, plain)"),
            row("b", "not measured: needs DAVIS as published (this is composed, plain)"),
        )
    )
    assert shown.missing == (
        "A dash (–) in place of our number: not measured here. It needs the full-size model (a); "
        "DAVIS as published (this is composed, plain) (all rows)."
    )


def test_no_cell_of_the_page_spells_out_what_it_needs(page: Path) -> None:
    html = unescape(page.read_text(encoding="utf-8"))
    body = re.findall(r"<tbody>.*?</tbody>", html, flags=re.S)
    assert sum("not measured: needs" in re.sub(r"<[^>]*>", "", one) for one in body) == 0
    assert html.count('<p class="note needs">') >= 1
    assert "not measured: needs" in (page.parent / "main.md").read_text(encoding="utf-8")


def test_the_gallery_has_all_variants_on_the_sample_where_they_differ_most(folder: Path) -> None:
    run = frames.read(folder)
    (choice,) = [c for c in gallery.choose(run, "wires") if len(c.variants) > 2]
    assert choice.variants == ("near", "colourful", "random")
    rows = run.clicks[(run.clicks["dataset"] == "wires") & (run.clicks["variant"] != "random")]
    means = rows.groupby(["variant", "sample"])["iou"].mean().unstack("variant")
    assert choice.sample == (means["near"] - means["colourful"]).abs().idxmax()  # random weights do not choose


def test_a_variant_that_cannot_be_replayed_does_not_hide_the_others(folder: Path) -> None:
    from dataclasses import replace

    from test_reports_pictures import SIMULATED

    run = frames.read(folder)
    variants = {**run.config["variants"], "random": {"_target_": "nowhere.Model"}}
    told, problems = gallery.stories(replace(run, config={**run.config, "variants": variants}), 30, SIMULATED)
    beside = [story for story in told if len(story.choice.variants) > 2]
    assert [[e.variant for e in story.episodes] for story in beside] == [["near", "colourful"]] * 2
    assert len(problems) == 1 and "by random" in problems[0] and "nowhere" in problems[0]


@pytest.fixture
def tab(browser: Any, page: Path) -> Iterator[Any]:  # noqa: F811
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.goto(page.as_uri())
    yield opened
    opened.close()


def test_the_first_table_fits_at_1400_px(tab: Any) -> None:
    """Once 5-mIoU was cut off there."""
    region = tab.locator("#table-overview .scroll")
    assert region.evaluate("e => e.scrollWidth <= e.clientWidth")
    right = tab.locator("#table-overview thead th", has_text="5-mIoU").evaluate("e => e.getBoundingClientRect().right")
    assert right <= 1400 and not tab.locator("#table-overview .more").is_visible()


ON_TOP = """(cell) => {
  const box = cell.getBoundingClientRect();
  return cell.contains(document.elementFromPoint(box.left + 3, box.top + box.height / 2));
}"""


@pytest.mark.parametrize(("name", "width"), [("quality", 360), ("quality", 900), ("quality", 1400), ("main", 360)])
def test_a_wide_table_keeps_its_first_column_and_says_that_it_scrolls(tab: Any, name: str, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    region, block = tab.locator(f"#table-{name} .scroll"), tab.locator(f"#table-{name}")
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    block.locator(".more").wait_for(state="visible")
    hidden = region.evaluate(
        "e => [...e.querySelectorAll('thead tr:last-child th')].filter("
        "h => h.getBoundingClientRect().right > e.getBoundingClientRect().right).length"
    )
    assert hidden and block.locator(".more").inner_text().startswith(f"{hidden} more column")
    region.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
    tab.wait_for_function("e => e.textContent.includes('back')", arg=block.locator(".more").element_handle())
    edge = region.bounding_box()["x"]
    for first in ("thead tr:last-child > :first-child", "tbody tr:first-child > :first-child"):
        cell = region.locator(first)
        assert abs(cell.bounding_box()["x"] - edge) <= 2
        tab.evaluate("e => e.scrollIntoView({ block: 'center' })", cell.element_handle())
        assert cell.evaluate(ON_TOP)
    # What stays must leave room for what scrolls.
    assert region.locator("tbody tr:first-child > :first-child").bounding_box()["width"] <= width / 2


def test_a_table_that_fits_does_not_say_that_it_scrolls(tab: Any) -> None:
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.locator("#table-main .scroll").evaluate("e => e.scrollWidth <= e.clientWidth")
    assert not tab.locator("#table-main .more").is_visible()


def test_one_slider_steps_all_variants_of_a_sample(tab: Any) -> None:
    story = tab.locator(".story.many").first
    said, sliders = story.locator("output"), story.locator("input[type=range]")
    assert story.locator(".player").count() == said.count() == 3 and sliders.count() == 1

    def clicks() -> list[str]:
        return [re.findall(r"^Click (\d+) of 20", text)[0] for text in said.all_inner_texts()]

    assert clicks() == ["3"] * 3
    story.get_by_role("button", name="Next").click()
    assert clicks() == ["4"] * 3
    tab.keyboard.press("ArrowLeft")  # the focus is on a button
    assert clicks() == ["3"] * 3
    sliders.focus()
    tab.keyboard.press("ArrowRight")
    assert clicks() == ["4"] * 3
    tab.keyboard.press("End")
    assert clicks() == ["20"] * 3
    story.get_by_label("Answer").uncheck()
    assert story.locator(".layer-mask path").count() == 0
    # One photograph, embedded once, is shown in all.
    pictures = story.locator(".player svg > image").evaluate_all("all => all.map(e => e.getAttribute('href'))")
    assert len(pictures) == 3 and len(set(pictures)) == 1 and pictures[0].startswith("data:image/jpeg")


@pytest.mark.parametrize("width", [360, 900, 1400])
def test_variants_stand_beside_each_other(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    boxes = [p.bounding_box() for p in tab.locator(".story.pair:not(.many)").first.locator(".player").all()]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]


def test_strips_of_all_variants_stay_without_javascript(browser: Any, page: Path) -> None:  # noqa: F811
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1400, "height": 900})
    tab = context.new_page()
    tab.goto(page.as_uri())
    strips = tab.locator(".story.many").first.locator(".strip img")
    assert strips.count() == 3 and all(one.is_visible() for one in strips.all())
    assert tab.locator(".verdict").is_visible() and not tab.locator(".more").count()
    context.close()


@pytest.mark.parametrize("width", [360, 1400])
def test_dark_mode_has_contrast_and_fits(tab: Any, width: int) -> None:
    tab.emulate_media(color_scheme="dark")
    tab.set_viewport_size({"width": width, "height": 900})
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert max(dark) < 60
    assert tab.evaluate(CONTRAST) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_an_episode_that_ended_early_keeps_its_last_click(browser: Any, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    from dataclasses import replace

    from test_reports_pictures import SIMULATED

    from reports.episodes import pictures, replay

    run = frames.read(folder)
    replayer = replay.Replayer(run, trust=SIMULATED)
    long, short = (replayer.episode(v, "shapes", "shape_01") for v in ("near", "colourful"))
    short = replace(short, steps=short.steps[:4])
    choice = gallery.Choice("A title", "a reason", "shapes", "shape_01", "1-5%", ("near", "colourful"))
    strips = [pictures.strip(e, "s", "A title") for e in (long, short)]
    shown = page_module.shown(gallery.Story(choice, (long, short)), strips)
    path = tmp_path / "index.html"
    path.write_text(page_module.render(run, [quality.quality(run)], [], [shown]), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(path.as_uri())
    tab.locator(".story input[type=range]").focus()
    tab.keyboard.press("End")
    said = tab.locator(".story output").all_inner_texts()
    assert said[0].startswith("Click 20 of 20") and said[1].startswith("Click 4 of 4")
    assert said[1].endswith("the episode ended here") and not said[0].endswith("here")
    tab.close()
