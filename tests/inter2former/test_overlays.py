"""Overlays of a session: boxes and cells in pixels of the image."""

from __future__ import annotations

import numpy as np
import pytest

from inter2former.config import SWITCHES
from inter2former.inputs import frame_image
from inter2former.overlays import overlays
from inter2former.segmenter import Inter2FormerSegmenter, Point


def test_boxes_and_cells_in_pixels_of_the_image():
    """A 128 x 128 square at target size 64: half the scale, so that everything is twice as large in the image."""
    frame = frame_image(70, 101, 32, target_size=64)
    boundary = np.zeros((4, 4), bool)
    boundary[1, 2:] = True
    experts = np.full((4, 4), -1)
    experts[1, 2:] = 5, 7
    trace = {"dpe_box": (0, 16, 32, 64), "dlu_box": None, "boundary": boundary, "experts": experts}
    shown = overlays(trace, frame)
    assert list(shown) == ["DPE box", "Boundary tokens", "Experts"]
    assert shown["DPE box"] == (0.0, 32.0, 64.0, 128.0)
    cells, side = shown["Boundary tokens"]
    assert side == 32.0
    np.testing.assert_array_equal(cells, np.where(boundary, 0, -1))
    np.testing.assert_array_equal(shown["Experts"][0], experts)
    assert overlays({}, frame) == {}


def test_a_session_shows_what_its_last_click_did():
    segmenter = Inter2FormerSegmenter(preset="lite")
    session = segmenter.start(segmenter.encode(np.zeros((70, 101, 3), np.uint8)))
    session.click(Point(30, 40, True))
    assert session.overlays() == {}
    segmenter.keep_trace = True
    session.click(Point(30, 40, True))
    shown = session.overlays()
    # A click marks a disc of radius 5; its tokens of 16 pixels are rows 1 to 2 and columns 2 (pixels 25..35, 35..45).
    left, top, right, bottom = shown["DPE box"]
    assert left <= 32 and top <= 16 and right >= 48 and bottom >= 48
    assert shown["Boundary tokens"][1] == 16.0 and shown["Experts"][0].shape == (6, 8)
    np.testing.assert_array_equal(shown["Experts"][0] >= 0, shown["Boundary tokens"][0] == 0)


def test_switches_are_settings_with_states_that_can_be_set():
    segmenter = Inter2FormerSegmenter(preset="lite", dha="off")
    assert set(segmenter.switches) == set(SWITCHES)
    assert segmenter.switches["dha"] == ("on", "full", "bsq", "vq")  # `off` is another name for `full`
    for name, states in segmenter.switches.items():
        for state in states:
            assert Inter2FormerSegmenter(preset="lite", **{name: state}).config.switches()[name] == state


@pytest.mark.parametrize("name", ["dpe", "dha", "routing", "hmoe", "dlu"])
def test_switches_share_the_encoder(name):
    """The page then answers with another state at once, without encoding again."""
    keys = {Inter2FormerSegmenter(preset="lite", **{name: state}).encoder_key for state in SWITCHES[name]}
    assert len(keys) == 1
