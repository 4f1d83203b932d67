"""Geodesic segmentation by clicks: distances by a slow reference, clicks hold, sizes, an easy scene."""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

import numpy as np
import pytest

from baselines.geodesic import Geodesic


class Click(NamedTuple):
    y: int
    x: int
    positive: bool


def scene(height=120, width=160, centre=(60, 90), seed=0):
    """A red ellipse on green, with noise: its mask is known in closed form."""
    rows, columns = np.ogrid[:height, :width]
    mask = ((rows - centre[0]) / 30) ** 2 + ((columns - centre[1]) / 40) ** 2 <= 1
    image = np.where(mask[..., None], [190, 60, 50], [60, 150, 80])
    noise = np.random.default_rng(seed).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def start(image, **arguments):
    segmenter = Geodesic(**arguments)
    return segmenter.start(segmenter.encode(image))


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def dijkstra(cost, seeds):
    """Least sums of (mean cost of two neighbours) * (their distance) over paths of 8 neighbours."""
    distances = np.full(cost.shape, np.inf)
    heap = [(0.0, seed) for seed in seeds]
    for _, seed in heap:
        distances[seed] = 0
    while heap:
        far, (y, x) = heapq.heappop(heap)
        if far > distances[y, x]:
            continue
        for i in range(max(y - 1, 0), min(y + 2, cost.shape[0])):
            for j in range(max(x - 1, 0), min(x + 2, cost.shape[1])):
                new = far + math.hypot(i - y, j - x) * (cost[y, x] + cost[i, j]) / 2
                if new < distances[i, j]:
                    distances[i, j] = new
                    heapq.heappush(heap, (new, (i, j)))
    return distances


def test_distances_equal_a_slow_reference():
    session = start(np.zeros((9, 12, 3), np.uint8), frame=0.3)
    for click in (Click(4, 5, True), Click(1, 10, False)):
        session.click(click)
    cost = np.random.default_rng(5).uniform(0.05, 1, (9, 12))
    np.testing.assert_allclose(session._distance(cost, True), dijkstra(cost, [(4, 5)]), rtol=1e-9)
    ringed = np.pad(cost, 1, constant_values=0.6)
    outside = [(i, j) for i in range(11) for j in range(14) if i in (0, 10) or j in (0, 13)]
    expected = dijkstra(ringed, [*outside, (2, 11)])[1:-1, 1:-1]
    np.testing.assert_allclose(session._distance(cost, False), expected, rtol=1e-9)


@pytest.mark.parametrize(("clicks", "least"), [([(60, 90, True)], 0.9), ([(60, 90, True), (15, 20, False)], 0.93)])
def test_an_easy_scene_is_solved(clicks, least):
    """One positive click is enough: the border stands for the background."""
    image, mask = scene()
    session = start(image)
    for click in clicks:
        scores = session.click(Click(*click))
    assert scores.dtype == np.float32 and scores.shape == mask.shape
    assert iou(scores > Geodesic.threshold, mask) > least


def test_an_object_may_touch_the_border():
    """A frame as certain as a click would take the object's pixels along the border away."""
    image, mask = scene(centre=(60, 150))
    session = start(image)
    session.click(Click(60, 150, True))
    scores = session.click(Click(15, 20, False))
    assert (scores > 0)[mask[:, 159], 159].mean() > 0.9


@pytest.mark.parametrize("scale", [1, 5])
def test_the_clicked_pixels_get_what_was_clicked(scale):
    image = np.kron(scene()[0], np.ones((scale, scale, 1), dtype=np.uint8))
    session, rng = start(image), np.random.default_rng(1)
    for number in range(6):
        y, x = (int(rng.integers(20 * scale, 100 * scale)) for _ in range(2))
        scores = session.click(Click(y, x, number % 3 != 1))
        assert (scores[y, x] > 0) == (number % 3 != 1)


def test_the_last_click_on_a_pixel_counts():
    session = start(scene()[0])
    assert session.click(Click(60, 90, True))[60, 90] > 0
    assert session.click(Click(60, 90, False))[60, 90] < 0
    assert session.click(Click(60, 90, True))[60, 90] > 0


def test_sessions_are_repeatable_and_apart():
    """And no new click computes the same again."""
    image, _ = scene(seed=3)
    segmenter = Geodesic()
    embedding = segmenter.encode(image)
    first, second, other = segmenter.start(embedding), start(image), segmenter.start(embedding)
    kept = []
    for click in [Click(60, 90, True), Click(50, 60, True), Click(10, 10, False), None]:
        other.click(Click(5, 5, True))
        kept.append(first.click(click))
        np.testing.assert_array_equal(kept[-1], second.click(click))
    np.testing.assert_array_equal(kept[-2], kept[-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3), (17, 700), (600, 31)])
def test_every_size_and_every_first_click(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    last = Click(shape[0] - 1, shape[1] - 1, False)
    for clicks in ([None], [Click(0, 0, False)], [Click(0, 0, True), last]):
        session = start(image)
        for click in clicks:
            scores = session.click(click)
            assert scores.shape == shape and scores.dtype == np.float32 and np.isfinite(scores).all()


def test_without_a_positive_click_all_is_background():
    session = start(scene()[0])
    assert (session.click(None) < 0).all() and (session.click(Click(60, 90, False)) < 0).all()


def test_a_uniform_image_does_not_break_anything():
    session = start(np.full((50, 60, 3), 128, np.uint8))
    for click in (Click(25, 30, True), Click(5, 5, False)):
        assert np.isfinite(session.click(click)).all()


@pytest.mark.parametrize("argument", [{"size": 3}, {"bins": 1}, {"length": 0}, {"radius": 0.5}, {"frame": -1}])
def test_bad_arguments_are_named(argument):
    ((name, value),) = argument.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Geodesic(**argument)


def test_attributes_and_wrong_images():
    segmenter = Geodesic()
    assert (segmenter.weights_status, segmenter.module, segmenter.parameters) == ("no weights", None, 0)
    with pytest.raises(ValueError, match=r"need \(H, W, 3\) uint8"):
        segmenter.encode(np.zeros((20, 20), np.uint8))
