"""The page in Chromium, end to end: mouse, keys, touch, two variants, a study with its table and replay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_page import ROOT, Client, Served, disc, environment

from harness.clicking import recording
from harness.clicking.recorded_rows import read_rows
from harness.clickpage import answers, masks
from harness.planning.config import Config, build, plain
from harness.segmenter import Click

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium); the page was not opened in a browser")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


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


def watched(browser: Any, url: str, **options: Any) -> Any:
    opened = browser.new_page(viewport={"width": 1200, "height": 900}, **options)
    opened.troubles = []
    opened.on("console", lambda m: opened.troubles.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: opened.troubles.append(str(error)))
    opened.on("request", lambda r: opened.troubles.append(r.url) if not r.url.startswith(url) else None)
    opened.goto(url)
    settled(opened)
    return opened


def settled(tab: Any) -> None:
    """Wait until every variant has answered."""
    tab.wait_for_function(
        "document.querySelectorAll('.pane').length > 0 && !document.querySelector('[aria-busy=true]')"
    )


def clicks_in(tab: Any) -> int:
    return int(tab.locator("#history tbody tr").count())


def click_at(
    tab: Any, y: float, x: float, button: str = "left", size: tuple[int, int] = (64, 64), pane: int = 0
) -> None:
    """Click the middle of a pixel of an image of (height, width) and wait for the answers."""
    canvas, before = tab.locator("canvas").nth(pane), clicks_in(tab)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    place = (box["x"] + (x + 0.5) / size[1] * box["width"], box["y"] + (y + 0.5) / size[0] * box["height"])
    tab.mouse.click(*place, button=button)
    tab.wait_for_function(f"document.querySelectorAll('#history tbody tr').length > {before}")
    settled(tab)


def standing(served: Served, user: str = "me", sample: str = "square0") -> list[tuple[float, float, bool]]:
    of_users = recording.read(served.out / "clicks.csv").episodes.get(sample, {})
    return [(c.y, c.x, c.positive) for c in of_users.get(user, ())]


def test_mouse_undo_redo_negative_and_two_variants(served: Served, tab: Any) -> None:
    click_at(tab, 20, 20)
    assert standing(served) == [(20, 20, True)]
    said = tab.locator("#said")
    assert said.inner_text().startswith("Click 1, object, row 20, column 20. IoU 8")
    assert [h.inner_text() for h in tab.locator(".pane h2").all()] == ["wide", "narrow"]
    click_at(tab, 40, 50, "right", pane=1)
    assert standing(served) == [(20, 20, True), (40, 50, False)]
    tab.get_by_role("button", name="Undo").click()
    tab.wait_for_function("document.querySelectorAll('#history tbody tr').length === 1")
    assert standing(served) == [(20, 20, True)]
    tab.get_by_role("button", name="Redo").click()
    tab.wait_for_function("document.querySelectorAll('#history tbody tr').length === 2")
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
    tab.wait_for_function("document.querySelectorAll('#history tbody tr').length === 1")
    (y, x, positive), *_ = standing(served)
    assert (y, positive) == (33, True) and 32 < x < 40  # from the centre (32, 32): an arrow's step, and one pixel
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("n")
    tab.wait_for_function("document.querySelectorAll('#history tbody tr').length === 2")
    assert standing(served)[1][2] is False and standing(served)[1][0] < 33
    tab.keyboard.press("z")
    tab.wait_for_function("document.querySelectorAll('#history tbody tr').length === 1")
    tab.keyboard.press("y")
    tab.wait_for_function("document.querySelectorAll('#history tbody tr').length === 2")
    tab.keyboard.press("PageDown")
    tab.wait_for_function("document.querySelector('#where').textContent === '2 of 4'")
    tab.keyboard.press("PageUp")
    tab.wait_for_function("document.querySelector('#where').textContent === '1 of 4'")
    assert len(standing(served)) == 2 and tab.evaluate("document.activeElement.tagName") == "CANVAS"


def test_zoom_finds_the_same_pixels(served: Served, tab: Any) -> None:
    for _ in range(3):
        tab.get_by_role("button", name="Zoom in").click()
    assert tab.locator("#zoom").inner_text() == "338 %"  # 1.5 cubed, in the next frame
    click_at(tab, 31.5, 31.5)  # the centre stays where it is
    assert standing(served) == [(32, 32, True)]
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
    tab.wait_for_function(f"({yellow})() > 100")


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens(browser: Any, served: Served, width: int) -> None:
    tab = watched(browser, served.url, has_touch=True)
    tab.set_viewport_size({"width": width, "height": 740})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    before = clicks_in(tab)
    tab.locator("canvas").first.tap()
    tab.wait_for_function(f"document.querySelectorAll('#history tbody tr').length > {before}")
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
    other.wait_for_function("document.querySelector('#trouble').textContent.includes('another window')")
    settled(other)
    assert standing(served) == [(20, 20, True)] and clicks_in(other) == 1
    other.close()


def test_a_server_that_is_gone_is_said(browser: Any, tmp_path: Path) -> None:
    page = Served(tmp_path)
    tab = watched(browser, page.url)
    page.kill()
    box = tab.locator("canvas").first.bounding_box()
    tab.mouse.click(box["x"] + 5, box["y"] + 5)
    tab.wait_for_function("document.querySelector('#trouble').textContent.includes('does not answer')")
    tab.close()


STUDY = """\
title: Ten scenes
instructions: Mark the object in the middle.
dataset: {dataset: scenes, count: 10, longest: 192, level: plain}
variants: {hybrid: {variant: inter2former_lite}, bsq: {variant: inter2former_lite, dha: bsq}}
clicks: 5
"""


def test_a_study_of_ten_scenes_yields_the_table_and_the_replay(browser: Any, tmp_path: Path) -> None:
    """Clicked in the browser by RITM's rule on what the page shows; then replayed by the segmenters themselves."""
    file = tmp_path / "ten.yaml"
    file.write_text(f"{STUDY}out: {tmp_path}/out\n", encoding="utf-8")
    dataset = build(
        plain(Config().load("dataset", "scenes", {"count": 10, "longest": 192, "level": "plain"})), "scenes"
    )
    with Served(tmp_path / "out", f"study={file}", "user=anna", f"out={tmp_path}/out", dataset="", variant="") as page:
        tab = watched(browser, page.url)
        assert tab.locator("h1").inner_text() == "Ten scenes" and tab.locator("select").count() == 0
        for number, name in enumerate(dataset.names):
            tab.wait_for_function(f"document.querySelector('#where').textContent === '{number + 1} of 10'")
            settled(tab)
            sample = dataset.load(name)
            ys, xs = np.nonzero(sample.mask == 1)
            middle = int(np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2))
            click_at(tab, ys[middle], xs[middle], size=sample.mask.shape)
            click_at(tab, 1, 1, "right", size=sample.mask.shape)
            if number % 3 == 0:
                tab.get_by_role("button", name="Undo").click()
                tab.wait_for_function("document.querySelectorAll('#history tbody tr').length === 1")
                click_at(tab, sample.mask.shape[0] - 2, 1, "right", size=sample.mask.shape)
            tab.locator("#next").click()
        tab.wait_for_function("document.querySelector('h1').textContent.startsWith('Finished')")
        assert tab.troubles == []
        tab.close()
    episodes = recording.read(tmp_path / "out" / "clicks.csv", "scenes").episodes
    rows = answers.read(tmp_path / "out" / "answers.csv")
    last = {(row.image, row.variant, row.click, row.y, row.x): row for row in rows}
    for variant, dha in (("hybrid", "on"), ("bsq", "bsq")):
        segmenter = build(plain(Config().load("variant", "inter2former_lite", {"dha": dha})), variant)
        for name in dataset.names:
            sample = dataset.load(name)
            session = segmenter.start(segmenter.encode(sample.image))
            assert [c.positive for c in episodes[name]["anna"]] == [True, False]
            for recorded in episodes[name]["anna"]:
                click: Click = recorded.on(sample.mask.shape)
                mask = session.click(click) > segmenter.threshold
                assert last[name, variant, recorded.click, click.y, click.x].mask == masks.digest(mask)
    printed = subprocess.run(
        [sys.executable, "-m", "reports", f"study={file}"], capture_output=True, text=True, env=environment(), cwd=ROOT
    )
    assert printed.returncode == 0, printed.stderr
    lines = [[cell.strip() for cell in line.split("|")] for line in printed.stdout.splitlines() if "| anna" in line]
    assert [line[1:5] for line in lines] == [["hybrid", "anna", "10", "2.00"], ["bsq", "anna", "10", "2.00"]] or [
        line[1:4] for line in lines
    ] == [["hybrid", "anna", "10"], ["bsq", "anna", "10"]]
