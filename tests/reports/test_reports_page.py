"""The page in a real browser: no errors, sorting, filters, player, no overflow, printing, accessibility."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium
from test_reports_pictures import traced

from reports.episodes import gallery, pictures
from reports.pages import former
from reports.pages import page as page_module
from reports.read import frames


def test_page_is_self_contained_and_small(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert len(html.encode()) < 10_000_000
    loaded = re.findall(r'(?:src|href)="([^"]+)"', re.sub(r"<script.*?</script>", "", html, flags=re.S))
    assert loaded and all(address.startswith(("data:", "#")) for address in loaded)
    assert "@import" not in html and set(re.findall(r"url\((.{3})", html)) <= {"#${"}


def test_every_picture_has_words(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    alts = re.findall(r"<img[^>]*\balt=\"([^\"]*)\"", html)
    assert len(alts) == html.count("<img") >= 10
    assert all(len(alt) > 40 for alt in alts)


def test_files_beside_the_page(page: Path) -> None:
    names = {p.name for p in page.parent.iterdir()}
    for stem in ("quality", "compare", "latency", "flops", "main", "ablation"):
        assert {f"{stem}.csv", f"{stem}.md", f"{stem}.tex"} <= names
    for stem in (
        "iou_shapes",
        "noc90_time_shapes",
        "paired_wires",
        "noc90_histogram_wires",
        "parts",
        "roofline",
        "latency_threads",
    ):
        assert {f"{stem}.png", f"{stem}.svg", f"{stem}.pdf"} <= names


browser = pytest.fixture(chromium, scope="module")


@pytest.fixture
def tab(browser: Any, page: Path) -> Iterator[Any]:
    """The page at 1440 px, with everything that went wrong or left the machine in `tab.troubles`."""
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    opened.troubles = []
    opened.on("console", lambda m: opened.troubles.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: opened.troubles.append(str(error)))
    opened.on("request", lambda r: opened.troubles.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    opened.goto(page.as_uri())
    yield opened
    opened.close()


def test_loads_without_errors_and_without_network(tab: Any) -> None:
    assert tab.troubles == []
    broken = tab.evaluate("[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length")
    assert broken == 0
    assert tab.locator("h1").inner_text() == "Simulated segmenters"


def test_sorting(tab: Any) -> None:
    table = tab.locator("#table-quality table")
    head = table.locator("thead th", has_text="NoC@90")
    column = [h.strip() for h in table.locator("thead th").all_inner_texts()].index("NoC@90 ↓")

    def values() -> list[float]:
        return [
            float(c.get_attribute("data-sort")) for c in table.locator(f"tbody tr > :nth-child({column + 1})").all()
        ]

    before = values()
    head.locator("button").click()
    assert values() == sorted(before) and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").focus()
    tab.keyboard.press("Enter")
    assert values() == sorted(before, reverse=True) and head.get_attribute("aria-sort") == "descending"
    assert table.locator("[aria-sort]").count() == 1


def test_filters(tab: Any) -> None:
    tab.select_option("#filter-dataset", "wires")
    shown = [r.get_attribute("data-dataset") for r in tab.locator("#table-quality tbody tr").all() if r.is_visible()]
    assert shown and set(shown) == {"wires"}
    assert not tab.locator("#plot-iou_shapes").is_visible() and tab.locator("#plot-iou_wires").is_visible()
    assert "table rows shown" in tab.locator("#filter-count").inner_text()
    tab.select_option("#filter-size", "5-20%")
    sizes = {r.get_attribute("data-size") for r in tab.locator("#table-sizes tbody tr").all() if r.is_visible()}
    assert sizes == {"5-20%"}
    tab.select_option("#filter-dataset", "")
    tab.select_option("#filter-size", "")
    assert tab.locator("#plot-iou_shapes").is_visible() and tab.locator("#filter-count").inner_text() == ""


def test_player_steps_through_the_clicks(tab: Any) -> None:
    player = tab.locator(".player").first
    slider, told = player.locator("input[type=range]"), player.locator("output")
    marks = player.locator(".layer-clicks text")
    assert told.inner_text().startswith("Click 3 of 20") and marks.count() == 3
    player.get_by_role("button", name="Next").click()
    assert told.inner_text().startswith("Click 4 of 20") and marks.count() == 4
    slider.focus()
    tab.keyboard.press("End")
    assert told.inner_text().startswith("Click 20 of 20")
    assert player.get_by_role("button", name="Next").is_disabled()
    tab.keyboard.press("Home")
    assert told.inner_text().startswith("Click 1 of 20") and marks.all_text_contents() == ["1"]
    player.get_by_label("Errors").check()
    assert player.locator(".layer-missed path, .layer-extra path").count() >= 1
    player.get_by_label("Answer").uncheck()
    assert player.locator(".layer-mask path").count() == 0


def test_player_shows_what_the_parts_did(browser: Any, folder: Path, tmp_path: Path) -> None:
    """Layers of a made-up trace: 12 boundary tokens in 3 rows, each row one run; boxes of DPE and DLU."""
    run = frames.read(folder)
    episode = traced(run)
    choice = gallery.Choice("A title", "a reason", "shapes", "shape_01", "1-5%", ("near",))
    shown = page_module.shown(gallery.Story(choice, (episode,)), [pictures.strip(episode, "s", "A title")])
    path = tmp_path / "index.html"
    path.write_text(page_module.render(run, [], [], [shown]), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.goto(path.as_uri())
    player = tab.locator(".player")
    labels = [" ".join(text.split()) for text in player.locator(".options label").all_inner_texts()]
    assert labels == [
        "Answer",
        "True outline",
        "Errors: missed too much",
        "Boxes: DPE, prompt embedded here DLU, upsampled here",
        "Boundary tokens full attention",
        "Experts a colour each",
    ]
    player.get_by_label("Boxes").check()
    assert player.locator(".layer-boxes rect").count() == 2
    player.get_by_label("Boundary tokens").check()
    assert player.locator(".layer-boundary rect").count() == 3
    player.get_by_label("Experts").check()
    assert player.locator(".layer-experts rect").count() == 12  # neighbours of different experts
    tab.close()


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_overflows(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_works_without_javascript(browser: Any, page: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    tab.goto(page.as_uri())
    assert tab.locator("#table-quality tbody tr").count() == 6
    assert tab.locator("#table-quality tbody tr").first.is_visible()
    assert tab.locator(".strip img").first.is_visible()
    assert not tab.locator("form.filters").is_visible()  # it could not do anything
    context.close()


def test_prints_to_pdf(tab: Any) -> None:
    made = tab.pdf(prefer_css_page_size=True)
    assert made.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", made)) < 60


CONTRAST = """() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    if (e.closest("svg, script, style, :disabled")) continue;
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(e.outerHTML.slice(0, 80));
  }
  return low;
}"""


def test_accessibility_basics(tab: Any) -> None:
    """WCAG 2: contrast 4.5 (1.4.3), names of controls (4.1.2), headings without gaps, unique ids, keyboard (2.1.1)."""
    assert tab.evaluate(CONTRAST) == []
    assert tab.evaluate("document.documentElement.lang") == "en"
    nameless = """() => [...document.querySelectorAll("button, input, select, [role=region], nav, form")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels.length)))
        .map((e) => e.outerHTML)"""
    assert tab.evaluate(nameless) == []
    levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    stuck = "() => [...document.querySelectorAll('.scroll, .sideways')].filter(e => e.tabIndex < 0).length"
    assert tab.evaluate(stuck) == 0
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    headless = """() => [...document.querySelectorAll("table")].filter((t) =>
        !t.caption || !t.querySelector("th[scope=col]")).length"""
    assert tab.evaluate(headless) == 0


def test_the_list_of_a_report_names_all_of_its_files(page: Path) -> None:
    """What the list lacks would stay for ever, what it has too much could be somebody else's."""
    listed = json.loads((page.parent / former.NAME).read_text())
    files = {p.relative_to(page.parent).as_posix() for p in page.parent.rglob("*") if p.is_file()}
    assert len(listed) > 40 and set(listed) == files - {former.NAME}
