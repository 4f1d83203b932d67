"""IoU and boundary IoU against slow float64 forms, and their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import binary_erosion, distance_transform_cdt

from harness.scoring.overlap import BoundaryIoU, IoU, boundary_distance, boundary_iou, iou
from harness.scoring.sizes import size_bin

shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=24)
cases = shapes.flatmap(
    lambda shape: st.tuples(
        arrays.arrays(bool, shape), arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 1, 255]))
    )
)


def slow_iou(prediction: np.ndarray, mask: np.ndarray) -> float:
    both = either = 0
    for p, m in zip(prediction.ravel(), mask.ravel(), strict=True):
        if m != 255:
            both += bool(p and m == 1)
            either += bool(p or m == 1)
    return both / either if either else math.nan


def slow_boundary_iou(prediction: np.ndarray, mask: np.ndarray, dilation: float = 0.02) -> float:
    """Cheng et al.'s definition by repeated 3x3 erosions with the outside as background (SciPy), pixel by pixel."""
    height, width = mask.shape
    steps = max(1, round(dilation * math.sqrt(height**2 + width**2)))
    inner = []
    for region in (prediction & (mask != 255), mask == 1):
        eroded = binary_erosion(region, np.ones((3, 3)), iterations=steps, border_value=0)
        inner.append(region & ~eroded)
    both, either = (inner[0] & inner[1]).sum(), (inner[0] | inner[1]).sum()
    return both / either if either else math.nan


@settings(max_examples=200, deadline=None)
@given(cases)
def test_iou_equals_the_slow_form(case):
    prediction, mask = case
    assert iou(prediction, mask) == pytest.approx(slow_iou(prediction, mask), nan_ok=True, abs=1e-15)


@settings(max_examples=200, deadline=None)
@given(cases, st.sampled_from([0.02, 0.1, 0.3]))
def test_boundary_iou_equals_the_slow_form(case, dilation):
    prediction, mask = case
    expected = slow_boundary_iou(prediction, mask, dilation)
    assert boundary_iou(prediction, mask, dilation) == pytest.approx(expected, nan_ok=True, abs=1e-15)


def test_boundary_iou_equals_the_slow_form_on_larger_shapes():
    """Here the boundary is several pixels wide and the objects are wider than two boundaries."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:200, :300]
    for _ in range(10):
        y, x, r = random.uniform(40, 160), random.uniform(60, 240), random.uniform(10, 90)
        mask = ((rows - y) ** 2 + (columns - x) ** 2 < r**2).astype(np.uint8)
        mask[(rows > 150) & (columns > 250)] = 255
        prediction = ((rows - y - 5) ** 2 + 1.2 * (columns - x) ** 2 < (r + 4) ** 2) ^ (rows % 71 == 0)
        assert boundary_distance(200, 300) == 7
        assert boundary_iou(prediction, mask) == pytest.approx(slow_boundary_iou(prediction, mask), abs=1e-15)


def test_boundary_region_is_the_chessboard_distance_to_the_outside():
    """Closed form: a boundary of width d holds the pixels whose chessboard distance to the outside is at most d."""
    mask = np.zeros((400, 300), np.uint8)
    mask[:350, 20:280] = 1
    d = boundary_distance(400, 300)
    assert d == 10
    expected = (mask == 1) & (distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1] <= d)
    np.testing.assert_array_equal(BoundaryIoU(mask)._boundary, expected)


@pytest.mark.parametrize("width", range(17, 26))
@pytest.mark.parametrize("height", [15, 20, 21, 22, 40])
def test_boundary_of_a_rectangle(height: int, width: int):
    """Closed form: what is left of a rectangle is smaller by two boundaries in each direction."""
    mask = np.zeros((400, 300), np.uint8)  # boundaries of 10 pixels
    mask[30 : 30 + height, 40 : 40 + width] = 1
    kept = max(0, height - 20) * max(0, width - 20)
    assert BoundaryIoU(mask)._boundary.sum() == height * width - kept


@settings(max_examples=100, deadline=None)
@given(cases)
def test_ignored_pixels_make_no_difference(case):
    prediction, mask = case
    other = np.where(mask == 255, ~prediction, prediction)
    assert iou(prediction, mask) == pytest.approx(iou(other, mask), nan_ok=True)
    assert boundary_iou(prediction, mask) == pytest.approx(boundary_iou(other, mask), nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(cases)
def test_perfect_prediction_scores_one_and_empty_over_empty_nan(case):
    _, mask = case
    for score in (iou(mask == 1, mask), boundary_iou(mask == 1, mask)):
        assert math.isnan(score) if not (mask == 1).any() else score == 1.0


def test_scorers_do_not_change_their_inputs_and_can_be_used_again():
    random = np.random.default_rng(3)
    mask = random.choice(np.array([0, 1, 255], np.uint8), (50, 60))
    predictions = [random.random((50, 60)) < share for share in (0.2, 0.5, 0.9)]
    before = mask.copy(), [p.copy() for p in predictions]
    for scorer, slow in ((IoU(mask), slow_iou), (BoundaryIoU(mask), slow_boundary_iou)):
        for prediction in (*predictions, *predictions):
            assert scorer(prediction) == pytest.approx(slow(prediction, mask), abs=1e-15)
    np.testing.assert_array_equal(mask, before[0])
    np.testing.assert_array_equal(predictions, before[1])


def test_prediction_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"prediction of \(4, 5\), ground truth of \(5, 4\)"):
        iou(np.zeros((4, 5), bool), np.ones((5, 4), np.uint8))


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, "<1%"), (0.00999, "<1%"), (0.01, "1-5%"), (0.05, "5-20%"), (0.1999, "5-20%"), (0.2, ">20%"), (1, ">20%")],
)
def test_size_bins(share: float, expected: str):
    assert size_bin(share) == expected


def test_masks_and_answers_that_lie_in_columns_score_as_those_in_rows():
    """MATLAB's masks (SBD) are in Fortran order, and so may an answer be; OpenCV does not write into such arrays."""
    rng = np.random.default_rng(5)
    mask = rng.integers(0, 2, (30, 40), dtype=np.uint8)
    mask[5:25, 6:30] = 1
    mask[:, 13] = 255
    answer = rng.random((30, 40)) > 0.4
    for scorer in (IoU, BoundaryIoU):
        expected = scorer(mask)(answer)
        assert 0 < expected < 1
        for truth in (mask, np.asfortranarray(mask)):
            assert scorer(truth)(np.asfortranarray(answer)) == expected == scorer(truth)(answer)
