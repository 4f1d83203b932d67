"""Copies of sessions (`copy()`), and masks to begin from, of the systems that come with weights."""

from __future__ import annotations

import numpy as np
import pytest

from harness.clicking.starts import begin
from harness.planning.config import Config, build, plain
from harness.segmenter import Click

CLICKS = (Click(40, 50, True), Click(10, 80, False), Click(45, 30, True))


@pytest.fixture(scope="module", params=["inter2former_lite", "dense_lite", "sam_lite"])
def answers(request):
    """A segmenter with an embedding of noise."""
    segmenter = build(plain(Config().load("variant", request.param)), "variant")
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    return segmenter, segmenter.encode(image)


def replayed(segmenter, embedding, *clicks) -> np.ndarray:
    session = segmenter.start(embedding)
    return [session.click(click) for click in clicks][-1]


def test_a_copy_goes_its_own_way_and_so_does_the_original(answers):
    segmenter, embedding = answers
    first, second, third = CLICKS
    session = segmenter.start(embedding)
    session.click(first)
    other = session.copy()
    assert np.array_equal(other.click(second), replayed(segmenter, embedding, first, second))
    assert np.array_equal(session.click(third), replayed(segmenter, embedding, first, third))


def test_a_mask_to_begin_from_decides_about_the_first_answer(answers):
    segmenter, embedding = answers
    mask = np.zeros((64, 96), bool)
    mask[20:50, 30:70] = True
    found = []
    for start in (mask, ~mask, mask):
        session = segmenter.start(embedding)
        begin(segmenter, session, start)
        found.append(session.click(CLICKS[0]))
    assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], replayed(segmenter, embedding, CLICKS[0]))
