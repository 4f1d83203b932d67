"""The page in Chromium, end to end: mouse, keys, touch, two variants, two windows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import chromium
from page_in_browser import ROWS, click_at, clicks_in, settled, until, watched
from served_page import Client, Served, disc, wait_for

from harness.clicking import recording
from harness.clicking.recorded_rows import read_rows
from harness.clickpage import answers
from harness.scoring.metrics import iou


@pytest.fixture(scope="module", name="browser")
def opened_browser() -> Iterator[Any]:
    yield from chromium()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("browser"), "+ablation=radius", variant="") as page:
        yield page


@pytest.fixture
def tab(browser: Any, served: Served) -> Iterator[Any]:
    """The page on its first picture without clicks, with everything that went wrong in `tab.troubles`."""
    client = Client(served)
    if client.state["index"]:
        client.ask("open", index=0)
    if client.state["clicks"]:
        client.ask("undo", everything=True)
    opened = watched(browser, served.url)
    yield opened
    assert opened.troubles == []
    opened.close()


def standing(served: Served, user: str = "me", sample: str = "square0") -> list[tuple[float, float, bool]]:
    of_users = recording.read(served.out / "clicks.csv").episodes.get(sample, {})
    return [(c.y, c.x, c.positive) for c in of_users.get(user, ())]


def test_mouse_undo_redo_negative_and_two_variants(served: Served, tab: Any) -> None:
    click_at(tab, 20, 20)
    assert standing(served) == [(20, 20, True)]
    said = tab.locator("#said")
    truth = np.zeros((64, 64), np.uint8)
    truth[10:30, 12:34] = 1  # square0 of the toy data set
    assert said.inner_text() == f"Click 1, object, row 20, column 20. IoU {100 * iou(disc(20, 20), truth):.1f} %."
    assert [h.inner_text() for h in tab.locator(".pane h2").all()] == ["wide", "narrow"]
    click_at(tab, 40, 50, "right", pane=1)
    assert standing(served) == [(20, 20, True), (40, 50, False)]
    tab.get_by_role("button", name="Undo").click()
    until(tab, f"{ROWS} === 1")
    assert standing(served) == [(20, 20, True)]
    tab.get_by_role("button", name="Redo").click()
    until(tab, f"{ROWS} === 2")
    assert standing(served) == [(20, 20, True), (40, 50, False)]
    tab.get_by_label("Background").check()
    click_at(tab, 14, 14)
    assert standing(served)[-1] == (14, 14, False)
    settled(tab)
    client = Client(served)
    for number, radius in enumerate((12, 6)):  # what the toy model answers, in closed form
        expected = disc(20, 20, radius) & ~disc(40, 50, radius) & ~disc(14, 14, radius)
        np.testing.assert_array_equal(client.mask(number), expected)


def test_what_is_drawn_is_the_answer(served: Served, tab: Any) -> None:
    """Blue minus red of the canvas: the picture is grey, so only the tint of the mask makes a difference."""
    tab.get_by_label("Outline", exact=True).uncheck()
    tab.locator("#opacity").fill("100")
    click_at(tab, 32, 32)
    script = """() => { const c = document.querySelector("canvas"), g = c.getContext("2d"), out = [];
      for (let y = 0; y < 64; y += 1) for (let x = 0; x < 64; x += 1) {
        const p = g.getImageData((x + 0.5) * c.width / 64, (y + 0.5) * c.height / 64, 1, 1).data;
        out.push(p[2] - p[0] > 60 ? 1 : 0); }
      return out; }"""
    drawn = np.array(tab.evaluate(script), bool).reshape(64, 64)
    away = ~disc(32, 32, 4)  # the mark of the click lies on the mask
    np.testing.assert_array_equal(drawn[away], disc(32, 32)[away])


def test_keys_alone(served: Served, tab: Any) -> None:
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.tagName") == "CANVAS":
            break
    else:
        pytest.fail("Tab does not reach the image")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Shift+ArrowDown")
    tab.keyboard.press("Enter")
    until(tab, f"{ROWS} === 1")
    (y, x, positive), *_ = standing(served)
    assert (y, positive) == (33, True) and 32 < x < 40  # from the centre (32, 32): an arrow's step, and one pixel
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("n")
    until(tab, f"{ROWS} === 2")
    assert standing(served)[1][2] is False and standing(served)[1][0] < 33
    tab.keyboard.press("z")
    until(tab, f"{ROWS} === 1")
    tab.keyboard.press("y")
    until(tab, f"{ROWS} === 2")
    tab.keyboard.press("PageDown")
    until(tab, "document.querySelector('#where').textContent === '2 of 4'")
    tab.keyboard.press("PageUp")
    until(tab, "document.querySelector('#where').textContent === '1 of 4'")
    assert len(standing(served)) == 2 and tab.evaluate("document.activeElement.tagName") == "CANVAS"


def test_zoom_finds_the_same_pixels(served: Served, tab: Any) -> None:
    for _ in range(3):
        tab.get_by_role("button", name="Zoom in").click()
    until(tab, "document.querySelector('#zoom').textContent === '338 %'")  # 1.5 cubed
    at = 32 + 4.5 * 1.5**3 - 0.5  # 4.5 pixels from the centre, which stays where it is
    click_at(tab, at, at)
    assert standing(served) == [(36, 36, True)]
    tab.get_by_role("button", name="whole image").click()
    click_at(tab, 5, 60)
    assert standing(served)[-1] == (5, 60, True)


def test_the_true_outline_on_demand(tab: Any) -> None:
    yellow = """() => { const c = document.querySelector("canvas");
      const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0;
      for (let i = 0; i < d.length; i += 4) if (d[i] > 200 && d[i + 1] > 180 && d[i + 2] < 120) n += 1; return n; }"""
    assert tab.evaluate(yellow) == 0
    with tab.expect_response("**/api/truth*"):
        tab.get_by_label("True outline").check()
    until(tab, f"({yellow})() > 100")


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens(browser: Any, served: Served, width: int) -> None:
    tab = watched(browser, served.url, has_touch=True)
    tab.set_viewport_size({"width": width, "height": 740})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    before = clicks_in(tab)
    tab.locator("canvas").first.tap()
    until(tab, f"{ROWS} > {before}")
    assert read_rows(served.out / "clicks.csv").clicks[-1].device == "mobile"
    assert tab.troubles == []
    tab.close()


CONTRAST = """() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  return [...document.querySelectorAll("body *")].filter((e) => !e.closest("script, :disabled, [hidden]") &&
    [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).filter((e) => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5; }).map((e) => e.outerHTML.slice(0, 80));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_basics(tab: Any, scheme: str) -> None:
    """WCAG 2: contrast 4.5 (1.4.3), names of controls (4.1.2), one first heading, unique ids."""
    tab.emulate_media(color_scheme=scheme)
    tab.locator("#keys summary").click()
    click_at(tab, 20, 20)
    assert tab.evaluate(CONTRAST) == []
    nameless = """() => [...document.querySelectorAll("button, input, select, canvas, [role=region], form, output")]
        .filter((e) => !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.textContent.trim() ||
          (e.labels && e.labels.length))).map((e) => e.outerHTML)"""
    assert tab.evaluate(nameless) == []
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids)) and tab.locator("h1").count() == 1
    assert tab.locator("canvas").first.get_attribute("aria-label").startswith("square0, 64 rows, 64 columns, wide.")


def test_two_windows_stay_together(served: Served, tab: Any, browser: Any) -> None:
    other = watched(browser, served.url)
    click_at(tab, 20, 20)
    box = other.locator("canvas").first.bounding_box()
    other.mouse.click(box["x"] + 5, box["y"] + 5)  # on a state that is no longer: refused and said, nothing lost
    until(other, "document.querySelector('#trouble').textContent.includes('another window')")
    until(other, f"{ROWS} === 1")
    assert standing(served) == [(20, 20, True)]
    other.close()


def test_a_server_that_is_gone_is_said(browser: Any, tmp_path: Path) -> None:
    page = Served(tmp_path)
    tab = watched(browser, page.url)
    page.kill()
    box = tab.locator("canvas").first.bounding_box()
    tab.mouse.click(box["x"] + 5, box["y"] + 5)
    until(tab, "document.querySelector('#trouble').textContent.includes('does not answer')")
    tab.close()


def test_parts_and_switches_of_a_model(browser: Any, tmp_path: Path) -> None:
    with Served(tmp_path, variant="variant=inter2former_lite") as page:
        tab = watched(browser, page.url)
        click_at(tab, 20, 20)
        drawing = "document.querySelector('canvas').toDataURL()"
        for name in ("DPE box", "DLU box", "Boundary tokens", "Experts"):
            before = tab.evaluate(drawing)
            tab.get_by_label(name).check()
            wait_for(lambda before=before: tab.evaluate(drawing) != before)
        assert [box.get_attribute("data-layer") for box in tab.locator("#layers [data-layer]").all()] == [
            "DPE box", "DLU box", "Boundary tokens", "Experts",
        ]  # fmt: skip
        tab.get_by_label("dha", exact=True).select_option("bsq")
        until(tab, "document.querySelector('.pane h2').textContent === 'inter2former_lite dha=bsq'")
        settled(tab)
        assert tab.get_by_label("dha", exact=True).input_value() == "bsq" and clicks_in(tab) == 1
        tab.get_by_label("dha", exact=True).select_option("on")
        until(tab, "document.querySelector('.pane h2').textContent === 'inter2former_lite'")
        settled(tab)
        assert tab.troubles == []
        tab.close()
    rows = answers.read(tmp_path / "answers.csv")
    assert [row.variant for row in rows] == ["inter2former_lite", "inter2former_lite dha=bsq", "inter2former_lite"]
    assert rows[0].mask == rows[2].mask
