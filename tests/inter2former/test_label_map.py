"""Label map: goldens of clicks and predictions, and what a token sees against slow transcriptions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from goldens import cases, load
from hypothesis import given, settings
from hypothesis import strategies as st

from inter2former.label_map import add_clicks, add_prediction, new_label_map
from inter2former.label_tokens import TOKEN, bounding_box, view_tokens


class Click(NamedTuple):
    y: int
    x: int
    positive: bool


@pytest.mark.parametrize("entry", cases("g_ref"))
def test_clicks_and_prediction_golden(entry) -> None:
    tensors = load(entry)
    label = tensors["pred_before"][0, 0].numpy().copy()
    add_prediction(label, tensors["pred_pred"][0, 0].numpy() == 1)
    assert np.array_equal(label, tensors["pred_after"][0, 0].numpy())
    for case in entry["meta"]["cases"]:
        label = tensors["clicks_before"][0, 0].numpy().copy()
        clicks = [Click(y, x, sign == "positive") for y, x, sign in case["points"]]
        add_clicks(label, clicks, case["inner_radius"], case["outer_radius"])
        assert np.array_equal(label, tensors[case["tensor"]][0, 0].numpy()), case


def test_a_disc_of_radius_five_has_81_pixels() -> None:
    """The count stands in the specification, section 2."""
    label = new_label_map(64, 64)
    add_clicks(label, [Click(30, 40, True)])
    assert (label == 4).sum() == 81
    assert (label == 2).sum() == 64 * 64 - 81


def test_a_definite_pixel_changes_through_a_click_only() -> None:
    label = new_label_map(32, 32)
    add_clicks(label, [Click(8, 8, True), Click(24, 24, False)])
    definite = (label == 0) | (label == 4)
    before = label.copy()
    for prediction in (np.ones((32, 32), bool), np.zeros((32, 32), bool)) * 3:
        add_prediction(label, prediction)
    assert np.array_equal(label[definite], before[definite])
    add_clicks(label, [Click(8, 8, False)])
    assert label[8, 8] == 0


def test_a_flipped_prediction_passes_through_unknown() -> None:
    label = np.full((16, 16), 1, np.uint8)
    add_prediction(label, np.ones((16, 16), bool))
    assert (label == 2).all()
    add_prediction(label, np.ones((16, 16), bool))
    assert (label == 3).all()


def test_update_of_a_view_reaches_the_map() -> None:
    label = new_label_map(32, 48)
    add_prediction(label[:, 16:32], np.ones((32, 16), bool))
    assert (label[:, 16:32] == 3).all() and (label[:, :16] == 2).all()


def slow_boundary(label: np.ndarray, box, executed: bool) -> np.ndarray:
    """Section 5.2 pixel by pixel, in exact arithmetic: a 7x7 window with reflection inside the box."""
    height, width = label.shape
    flags = np.zeros((height, width), bool)
    rows, columns = (box * TOKEN).slices
    crop = np.pad(label[rows, columns], 3, mode="reflect")
    for y in range(box.height * TOKEN):
        for x in range(box.width * TOKEN):
            window = crop[y : y + 7, x : x + 7]
            found = window.any() if executed else window.max() != window.min()
            flags[rows.start + y, columns.start + x] = found
    flags |= label == 2
    return flags.reshape(height // TOKEN, TOKEN, width // TOKEN, TOKEN).any((1, 3))


@st.composite
def label_maps(draw) -> np.ndarray:
    """Maps of 2 to 4 by 2 to 5 tokens: background with some rectangles of any label."""
    height, width = TOKEN * draw(st.integers(2, 4)), TOKEN * draw(st.integers(2, 5))
    label = np.full((height, width), draw(st.sampled_from([0, 1, 1, 1, 2, 3])), np.uint8)
    for _ in range(draw(st.integers(0, 3))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        size = draw(st.integers(1, 40))
        label[y : y + size, x : x + draw(st.integers(1, 40))] = draw(st.integers(0, 4))
    return label


@settings(max_examples=25, deadline=None)
@given(label_maps(), st.booleans())
def test_boundary_tokens_equal_the_pixel_test(label: np.ndarray, executed: bool) -> None:
    view = view_tokens(label, whole=False, routing="executed" if executed else "intended")
    assert np.array_equal(view.boundary, slow_boundary(label, view.box, executed))


@settings(max_examples=40, deadline=None)
@given(label_maps())
def test_box_follows_the_specification(label: np.ndarray) -> None:
    """Section 5.1: pixels other than 1, rounded out to tokens, one token more, clamped; all if there is none."""
    height, width = label.shape
    rows, columns = np.nonzero(label != 1)
    expected = (0, 0, width, height)
    if len(rows):
        down, up = lambda v: int(v) // TOKEN * TOKEN, lambda v: -(-int(v + 1) // TOKEN) * TOKEN
        expected = (
            max(down(columns.min()) - TOKEN, 0),
            max(down(rows.min()) - TOKEN, 0),
            min(up(columns.max()) + TOKEN, width),
            min(up(rows.max()) + TOKEN, height),
        )
    assert (view_tokens(label, False, "intended").box * TOKEN).as_tuple() == expected
    whole = view_tokens(label, True, "intended").box
    assert (whole * TOKEN).as_tuple() == (0, 0, width, height)


def test_bounding_box_of_nothing_is_everything() -> None:
    assert bounding_box(np.zeros((3, 7), bool)).as_tuple() == (0, 0, 7, 3)
