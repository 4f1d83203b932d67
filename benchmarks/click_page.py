"""How long a click on the page takes from the mouse to the screen, and how much of that is not the model's.

    python benchmarks/click_page.py                     inter2former_lite, 1024 px, in Chromium
    python benchmarks/click_page.py --without-browser   until the last byte of the answer has arrived

The page runs as users run it, in a process of its own. A click's time is the page's: from the mouse's event to the
frame that shows the answer. The model's time is what the server measures around `session.click`. The first clicks warm
up and are left out. Promise: 150 ms on two cores, of which at most 40 ms are not the model's.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from harness.datasets.scenes.dataset import Scenes

WARM_UP, SIDE = 3, 1024
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """One click: from the mouse to the screen, and the model's part of it, milliseconds."""

    whole_ms: float
    model_ms: float

    @property
    def beyond_ms(self) -> float:
        """What is not the model's."""
        return self.whole_ms - self.model_ms


def square_scene(folder: Path) -> None:
    """A composed scene with its object at 1024 x 1024, as `dataset=folder` reads it."""
    dataset = Scenes(count=1, longest=1024)
    sample = dataset.load(dataset.names[0])
    for name, pixels in (("images", sample.image[:, :, ::-1]), ("masks", 255 * (sample.mask == 1).astype(np.uint8))):
        (folder / name).mkdir()
        cv2.imwrite(str(folder / name / "scene.png"), cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST))


def places(count: int, side: int = SIDE) -> Iterator[tuple[int, int]]:
    """Places of clicks (y, x) that spread over the image, the same in every run (Weyl sequence)."""
    for i in range(count):
        yield int(side * (0.2 + 0.6 * (0.7548777 * (i + 1) % 1))), int(side * (0.2 + 0.6 * (0.5698403 * (i + 1) % 1)))


def in_browser(url: str, count: int) -> list[Timed]:
    """Clicks with the mouse of a headless Chromium; times as the page shows them."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    timed = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
        tab = browser.new_page(viewport={"width": 1280, "height": 1200})
        tab.goto(url)
        tab.wait_for_selector(".pane[aria-busy=false]")
        box = tab.locator("canvas").first.bounding_box()
        assert box is not None
        for number, (y, x) in enumerate(places(count), 1):
            tab.mouse.click(box["x"] + x / SIDE * box["width"], box["y"] + y / SIDE * box["height"])
            seen = tab.wait_for_selector(f".pane[data-clicks='{number}']")
            assert seen is not None
            timed.append(
                Timed(float(seen.get_attribute("data-screen-ms")), float(seen.get_attribute("data-online-ms")))
            )
            time.sleep(0.2)
        browser.close()
    return timed


def over_the_wire(port: int, count: int) -> list[Timed]:
    """Clicks by HTTP; until the answer has arrived whole."""
    timed, revision = [], 0
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/api/look")
    connection.getresponse().read()
    headers = {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
    for y, x in places(count):
        body = json.dumps({"revision": revision, "y": y, "x": x, "positive": True, "device": "pc"})
        started = time.perf_counter()
        connection.request("POST", "/api/click", body, headers)
        state, answer = map(json.loads, connection.getresponse().read().splitlines())
        whole = (time.perf_counter() - started) * 1e3
        revision = state["state"]["revision"]
        timed.append(Timed(whole, answer["answer"]["online_ms"][-1]))
        time.sleep(0.1)
    return timed


def main() -> int:
    """Serve, click, print; 1 where the promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-browser", action="store_true")
    parser.add_argument("--clicks", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        square_scene(Path(out))
        served = subprocess.Popen(
            [sys.executable, "-u", "-m", "harness.click", "dataset=folder", f"dataset.root={out}", "port=0",
             f"out={out}/records"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert served.stdout is not None
        try:
            address = re.search(r"http://127\.0\.0\.1:(\d+)/", served.stdout.readline())
            assert address is not None
            run = over_the_wire if options.without_browser else in_browser
            timed = run(int(address[1]) if options.without_browser else address[0], options.clicks)[WARM_UP:]  # type: ignore[operator]
        finally:
            served.terminate()
            served.wait()
    for name in ("whole_ms", "model_ms", "beyond_ms"):
        values = sorted(getattr(one, name) for one in timed)
        shown = values[0], statistics.median(values), values[int(0.9 * (len(values) - 1))]
        print(f"{name:10s} least {shown[0]:6.1f}   median {shown[1]:6.1f}   90 % {shown[2]:6.1f}")
    whole = statistics.median(one.whole_ms for one in timed)
    beyond = statistics.median(one.beyond_ms for one in timed)
    return 0 if whole <= 150 and beyond <= 40 else 1


if __name__ == "__main__":
    sys.exit(main())
