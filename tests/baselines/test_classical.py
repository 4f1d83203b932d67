"""GrabCut and geodesic segmentation by clicks: clicks hold, determinism, sizes, and a scene that both must solve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from baselines.geodesic import Geodesic
from baselines.grabcut import OpenCVGrabCut

KINDS = [OpenCVGrabCut, Geodesic]


class Click(NamedTuple):
    y: int
    x: int
    positive: bool


def scene(height=120, width=160, seed=0):
    """A red ellipse on green, with noise: its mask is known in closed form."""
    rows, columns = np.ogrid[:height, :width]
    mask = ((rows - 60) / 30) ** 2 + ((columns - 90) / 40) ** 2 <= 1
    image = np.where(mask[..., None], [190, 60, 50], [60, 150, 80])
    noise = np.random.default_rng(seed).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_two_clicks_solve_an_easy_scene(kind):
    image, mask = scene()
    segmenter = kind()
    session = segmenter.start(segmenter.encode(image))
    session.click(Click(60, 90, True))
    scores = session.click(Click(15, 20, False))
    assert scores.dtype == np.float32 and scores.shape == mask.shape
    assert iou(scores > segmenter.threshold, mask) > 0.93


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1, 5])
def test_the_clicked_pixels_get_what_was_clicked(kind, scale):
    image, _ = scene()
    image = np.kron(image, np.ones((scale, scale, 1), dtype=np.uint8))
    segmenter = kind()
    session = segmenter.start(segmenter.encode(image))
    rng = np.random.default_rng(1)
    clicks = []
    for number in range(8):
        y, x = (int(rng.integers(20 * scale, 100 * scale)) for _ in range(2))
        clicks.append(Click(y, x, number % 3 != 1))
        scores = session.click(clicks[-1])
        # At a reduced working size two clicks of different sign may fall into one working pixel: keep to the last one.
        assert (scores[y, x] > segmenter.threshold) == clicks[-1].positive
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sessions_are_repeatable_and_apart(kind):
    image, _ = scene(seed=3)
    segmenter, again = kind(), kind()
    embedding = segmenter.encode(image)
    clicks = [Click(60, 90, True), Click(50, 60, True), Click(10, 10, False), None]
    first, second = segmenter.start(embedding), again.start(again.encode(image))
    other = segmenter.start(embedding)
    for click in clicks:
        other.click(Click(5, 5, True))
        np.testing.assert_array_equal(first.click(click), second.click(click))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3), (17, 700), (600, 31)])
def test_every_size_and_every_first_click(kind, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    segmenter = kind()
    for clicks in ([None], [Click(0, 0, False)], [Click(0, 0, True), Click(shape[0] - 1, shape[1] - 1, False)]):
        session = segmenter.start(segmenter.encode(image))
        for click in clicks:
            scores = session.click(click)
            assert scores.shape == shape and scores.dtype == np.float32 and np.isfinite(scores).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_uniform_image_does_not_break_anything(kind):
    segmenter = kind()
    session = segmenter.start(segmenter.encode(np.full((50, 60, 3), 128, np.uint8)))
    for click in (Click(25, 30, True), Click(5, 5, False)):
        assert np.isfinite(session.click(click)).all()


@pytest.mark.parametrize(
    ("kind", "arguments", "named"),
    [
        (OpenCVGrabCut, {"size": 3}, "size=3"),
        (OpenCVGrabCut, {"iterations": 0}, "iterations=0"),
        (OpenCVGrabCut, {"reach": 0}, "reach=0"),
        (Geodesic, {"size": 3}, "size=3"),
        (Geodesic, {"bins": 1}, "bins=1"),
        (Geodesic, {"length": 0}, "length=0"),
    ],
)
def test_bad_arguments_are_named(kind, arguments, named):
    with pytest.raises(ValueError, match=named):
        kind(**arguments)


def test_grabcut_drops_pieces_without_a_positive_click():
    """Two red squares within reach of one click on the left one."""
    image, _ = scene()
    image[:] = np.random.default_rng(0).integers(60, 90, image.shape)
    image[45:75, 50:75, 0] += 120
    image[45:75, 85:110, 0] += 120
    pieces = []
    for connected in (True, False):
        segmenter = OpenCVGrabCut(connected=connected, reach=0.35)
        session = segmenter.start(segmenter.encode(image))
        mask = session.click(Click(60, 62, True)) > 0
        assert mask[50:70, 55:70].all()
        pieces.append(mask[50:70, 90:105].mean())
    assert pieces == [0, 1]
