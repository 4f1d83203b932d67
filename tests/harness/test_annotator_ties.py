"""Equal depths: the click must not depend on where OpenCV's answer lies in memory, on IPP, or on the threads.

With IPP on and one thread, OpenCV's precise transform differs in its last bit with the address of its output modulo 32
bytes. RITM's own clicker compares those floats, and so answers different clicks for one prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from click_references import ritm_click

from harness.clicking.annotators import Inter2Former, Ritm
from harness.sample import Sample
from harness.segmenter import Click

OFFSETS = range(0, 32, 4)
"""Every address modulo 32 bytes that a float can have."""
_distance_transform = cv2.distanceTransform


@pytest.fixture
def opencv() -> Iterator[None]:
    """Put OpenCV's settings back afterwards."""
    ipp, threads = cv2.ipp.useIPP(), cv2.getNumThreads()
    yield
    cv2.ipp.setUseIPP(ipp)
    cv2.setNumThreads(threads)


def transform_at(offset: int, error: np.ndarray, *arguments: Any) -> np.ndarray:
    """OpenCV's transform, written to an address that is `offset` modulo 64 bytes."""
    memory = np.empty(4 * error.size + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    target = memory[start : start + 4 * error.size].view(np.float32).reshape(error.shape)
    written = _distance_transform(error, *arguments, dst=target)
    assert written.ctypes.data == target.ctypes.data and target.ctypes.data % 64 == offset
    return target


def floats_click(offset: int, prediction: np.ndarray, mask: np.ndarray) -> Click:
    """RITM's own way: compare the floats of OpenCV, the first maximum in row-major order, a tie is negative."""
    depths = []
    for error in ((mask == 1) & ~prediction, (mask == 0) & prediction):
        padded = np.pad(error, 1).astype(np.uint8)
        depths.append(transform_at(offset, padded, cv2.DIST_L2, 0)[1:-1, 1:-1])
    positive = bool(depths[0].max() > depths[1].max())
    chosen = depths[0 if positive else 1]
    y, x = np.argwhere(chosen == chosen.max())[0]
    return Click(int(y), int(x), positive)


def tie(seed: int, width: int, holes: float, sign: bool) -> tuple[np.ndarray, np.ndarray]:
    """(prediction, mask) with the same uneven blob twice: both missed, or one of them background taken for object."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((width, width)), (0, 0), 3)
    blob = (noise > np.quantile(noise, holes)).astype(np.uint8)
    mask = np.zeros((width + 9, 2 * width + 12), np.uint8)
    prediction = np.zeros(mask.shape, bool)
    mask[4 : 4 + width, 4 : 4 + width] = blob
    other = np.s_[3 : 3 + width, 7 + width : 7 + 2 * width]  # a row higher: first in row-major order
    if sign:
        prediction[other] = blob == 1
    else:
        mask[other] = blob
    return prediction, mask


# Small ones are transformed exactly, of large ones only the parts that may be deepest (harness/distance.py).
SHAPES = [(60, 0.2), (80, 0.2), (140, 0.2), (140, 0.7)]
TIES = [tie(seed, *shape, sign) for shape in SHAPES for seed in range(12) for sign in (False, True)]


def configurations() -> list[tuple[bool, int]]:
    return [(ipp, threads) for ipp in (True, False) for threads in (1, 2)]


def set_opencv(ipp: bool, threads: int) -> None:
    cv2.ipp.setUseIPP(ipp)
    cv2.setNumThreads(threads)


@pytest.mark.parametrize(("ipp", "threads"), configurations())
def test_clicks_on_ties_do_not_depend_on_memory_ipp_or_threads(opencv, monkeypatch, ipp, threads):
    set_opencv(ipp, threads)
    for prediction, mask in TIES:
        expected = Click(*ritm_click(prediction, mask, [])[:3])  # SciPy's exact transform in float64
        sample = Sample("tie", np.zeros((*mask.shape, 3), np.uint8), mask)
        candidates = []
        for offset in OFFSETS:
            monkeypatch.setattr(cv2, "distanceTransform", lambda *a, offset=offset: transform_at(offset, *a))
            assert Ritm().start(sample).click(prediction) == expected
            positive, places = Inter2Former().start(sample).candidates(prediction, [], 1.0)
            candidates.append((positive, places.tolist()))
        assert all(found == candidates[0] for found in candidates)


def test_floats_of_opencv_do_depend_on_memory(opencv):
    """What docs/protocols.md says of comparing floats: several clicks, even of two signs, for one prediction."""
    if not cv2.ipp.useIPP():
        pytest.skip("this OpenCV was built without IPP")
    set_opencv(True, 1)
    clicks = [{floats_click(offset, *pair) for offset in OFFSETS} for pair in TIES]
    if all(len(found) == 1 for found in clicks):
        pytest.skip("IPP's transform does not depend on the address on this processor")
    assert any(len({click.positive for click in found}) == 2 for found in clicks)


@pytest.mark.parametrize(("ipp", "threads"), [(False, 1), (False, 2), (True, 2)])
def test_without_ipp_or_with_two_threads_one_map(opencv, ipp, threads):
    """clicker_ipp.md, item 4: the maps are the same bytes in all of these cases.

    OpenCV leaves IPP out with several threads, but not for less than 2^14 pixels.
    """
    errors = [np.pad((mask == 1) & ~prediction, 1).astype(np.uint8) for prediction, mask in TIES]
    for error in [error for error in errors if error.size >= 2**14]:
        set_opencv(False, 1)
        plain = transform_at(0, error, cv2.DIST_L2, 0)
        set_opencv(ipp, threads)
        for offset in OFFSETS:
            np.testing.assert_array_equal(transform_at(offset, error, cv2.DIST_L2, 0), plain)
