"""Depths in an error map: the form that avoids exact transforms against the plain one, to the last pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_distance import PlainDepth

from harness.clicking.distance import Depth


def smooth(rng, side, cells):
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def whole(rng, side):
    error = np.zeros((side, side), np.uint8)
    y, x = (int(v) for v in rng.integers(side // 4, 3 * side // 4, 2))
    cv2.ellipse(error, (x, y), (side // 3, side // 4), int(rng.integers(180)), 0, 360, 1, -1)
    return error


def ring(rng, side):
    error = whole(rng, side)
    return error - cv2.erode(error, np.ones((7, 7), np.uint8))


def specks(rng, side):
    error = np.zeros((side, side), np.uint8)
    for y, x, radius in zip(*rng.integers(0, side, (2, 60)), rng.integers(1, 6, 60), strict=True):
        cv2.circle(error, (int(x), int(y)), int(radius), 1, -1)
    return error


def blobs(rng, side):
    return (smooth(rng, side, 9) > 0.3).astype(np.uint8)


def noise(rng, side):
    return (rng.random((side, side)) > 0.4).astype(np.uint8)


def edge(rng, side):
    return ((smooth(rng, side, 5) > 0) ^ (smooth(rng, side, 5) + smooth(rng, side, 40) / 9 > 0)).astype(np.uint8)


KINDS = (whole, ring, specks, blobs, noise, edge)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.sampled_from([40, 150, 260, 400]), share=st.floats(0.05, 1.0))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_agrees_with_one_exact_transform(kind, seed, side, share):
    rng = np.random.default_rng(seed)
    error = kind(rng, side)
    inside = np.argwhere(error)
    # Some of the deepest pixels were clicked before: they are never chosen, but stay part of the error.
    clicked = [(int(y), int(x)) for y, x in PlainDepth(error).deepest().at[:2]]
    clicked += [(int(y), int(x)) for y, x in inside[rng.integers(0, len(inside), 2)]] if len(inside) else []
    for excluded in ((), clicked):
        depth, plain = Depth(error, excluded), PlainDepth(error, excluded)
        low, high = depth.bounds
        assert low <= plain.maximum <= high
        assert depth.maximum == plain.maximum
        for wanted in (1.0, share):
            found, expected = depth.deepest(wanted), plain.deepest(wanted)
            assert found.maximum == expected.maximum
            np.testing.assert_array_equal(found.at, expected.at)
            np.testing.assert_array_equal(found.squared, expected.squared)
        np.testing.assert_array_equal(depth.core(share), plain.core(share))


def test_no_error_has_no_depth():
    nothing = np.zeros((200, 200), np.uint8)
    assert Depth(nothing).maximum == PlainDepth(nothing).maximum == 0
    assert len(Depth(nothing).deepest().at) == len(PlainDepth(nothing).deepest().at) == 0
    assert len(Depth(nothing).core(0.5)) == len(PlainDepth(nothing).core(0.5)) == 0
