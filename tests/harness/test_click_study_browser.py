"""A study of ten scenes, clicked in Chromium, yields the table and the replay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsers import chromium
from page_in_browser import ROWS, click_at, settled, until, watched
from served_page import Served

from harness.clicking.people import Recorded
from harness.clickpage import answers, masks
from harness.planning.config import Config, build, plain
from harness.scoring.metrics import iou
from reports.__main__ import run as command

STUDY = """\
title: Ten scenes
instructions: Mark the object in the middle.
dataset: {dataset: scenes, count: 10, longest: 192, level: plain}
variants: {hybrid: {variant: inter2former_lite}, bsq: {variant: inter2former_lite, dha: bsq}}
clicks: 5
"""


@pytest.fixture(scope="module", name="browser")
def opened_browser() -> Iterator[Any]:
    yield from chromium()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the page has: the last bits of a convolution depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_study_of_ten_scenes_yields_the_table_and_the_replay(
    browser: Any, tmp_path: Path, capsys: Any, one_thread: None
) -> None:
    """Two clicks a scene with the mouse, some undone; then the recorded clicks give the segmenters the same masks."""
    file = tmp_path / "ten.yaml"
    file.write_text(f"{STUDY}out: {tmp_path}/out\n", encoding="utf-8")
    dataset = build(
        plain(Config().load("dataset", "scenes", {"count": 10, "longest": 192, "level": "plain"})), "scenes"
    )
    settings = [f"study={file}", "user=anna", f"out={tmp_path}/out", "threads=1"]
    with Served(tmp_path / "out", *settings, dataset="", variant="") as page:
        tab = watched(browser, page.url)
        tab.set_viewport_size({"width": 700, "height": 700})
        assert tab.locator("h1").inner_text() == "Ten scenes" and tab.locator("select").count() == 0
        for number, name in enumerate(dataset.names):
            until(tab, f"document.querySelector('#where').textContent === '{number + 1} of 10'")
            settled(tab)
            sample = dataset.load(name)
            ys, xs = np.nonzero(sample.mask == 1)
            middle = int(np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2))
            click_at(tab, ys[middle], xs[middle], size=sample.mask.shape)
            click_at(tab, 1, 1, "right", size=sample.mask.shape)
            assert tab.locator("canvas").first.bounding_box()["height"] < 0.81 * 700  # a tall one fits into the window
            if number % 3 == 0:
                tab.get_by_role("button", name="Undo").click()
                until(tab, f"{ROWS} === 1")
                click_at(tab, sample.mask.shape[0] - 2, 1, "right", size=sample.mask.shape)
            tab.locator("#next").click()
        until(tab, "document.querySelector('h1').textContent.startsWith('Finished')")
        assert tab.troubles == []
        tab.close()
    rows = answers.read(tmp_path / "out" / "answers.csv")
    last = {(row.image, row.variant, row.click, row.y, row.x, row.positive): row for row in rows}
    people = Recorded(str(tmp_path / "out" / "clicks.csv"), user="anna", replay="all")
    for variant, dha in (("hybrid", "on"), ("bsq", "bsq")):
        segmenter = build(plain(Config().load("variant", "inter2former_lite", {"dha": dha})), variant)
        for name in dataset.names:
            sample = dataset.load(name)
            session, annotator = segmenter.start(segmenter.encode(sample.image)), people.start(sample)
            mask = np.zeros(sample.mask.shape, bool)
            for number, positive in ((1, True), (2, False)):
                click = annotator.click(mask)
                mask = session.click(click) > segmenter.threshold
                assert click.positive == positive
                row = last[(name, variant, number, *click)]
                assert row.mask == masks.digest(mask) and row.iou == pytest.approx(iou(mask, sample.mask), abs=1e-6)
    assert command([f"study={file}"]) == 0
    printed = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("|")] for line in printed.splitlines() if "| anna" in line]
    assert [line[1:4] for line in lines] == [["hybrid", "anna", "10"], ["bsq", "anna", "10"]]
    assert all(line[4].startswith("2.00") for line in lines)  # clicks a sample; undone ones do not stand
