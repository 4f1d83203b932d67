"""The page in a headless Chromium."""

from __future__ import annotations

from typing import Any

from served_page import wait_for


def watched(browser: Any, url: str, **options: Any) -> Any:
    opened = browser.new_page(viewport={"width": 1200, "height": 900}, **options)
    opened.troubles = []
    # Chromium's advice on `willReadFrequently` is for these tests, which read the canvas; the page does not.
    said = ("error", "warning")
    opened.on(
        "console",
        lambda m: opened.troubles.append(m.text) if m.type in said and "willReadFrequently" not in m.text else None,
    )
    opened.on("pageerror", lambda error: opened.troubles.append(str(error)))
    opened.on("request", lambda r: opened.troubles.append(r.url) if not r.url.startswith(url) else None)
    opened.goto(url)
    settled(opened)
    return opened


def until(tab: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own way would need `unsafe-eval` in the page's policy."""
    wait_for(lambda: tab.evaluate(condition))


def settled(tab: Any) -> None:
    """Wait until every variant has answered."""
    until(tab, "document.querySelectorAll('.pane').length > 0 && !document.querySelector('[aria-busy=true]')")


ROWS = "document.querySelectorAll('#history tbody tr').length"


def clicks_in(tab: Any) -> int:
    return int(tab.evaluate(ROWS))


def click_at(
    tab: Any, y: float, x: float, button: str = "left", size: tuple[int, int] = (64, 64), pane: int = 0
) -> None:
    """Click the middle of a pixel of an image of (height, width) and wait for the answers."""
    canvas, before = tab.locator("canvas").nth(pane), clicks_in(tab)
    canvas.scroll_into_view_if_needed()
    ratio = size[0] / size[1]
    wait_for(lambda: abs(canvas.bounding_box()["height"] / canvas.bounding_box()["width"] - ratio) < 0.02)
    box = canvas.bounding_box()
    place = (box["x"] + (x + 0.5) / size[1] * box["width"], box["y"] + (y + 0.5) / size[0] * box["height"])
    tab.mouse.click(*place, button=button)
    until(tab, f"{ROWS} > {before}")
    settled(tab)
