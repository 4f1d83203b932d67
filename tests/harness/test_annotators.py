"""Annotators against goldens of the released code and slow float64 references."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import scipy.ndimage
from click_references import inter2former_candidates, padded_distance, ritm_click
from goldens import cases, load
from hypothesis import given, settings
from hypothesis import strategies as st

import harness.clicking.distance
from harness.clicking.annotators import Inter2Former, Jitter, Ritm
from harness.clicking.distance import Depth
from harness.errors import UserError
from harness.sample import Sample
from harness.segmenter import Click


def sample(mask: np.ndarray, name: str = "a") -> Sample:
    return Sample(name, np.zeros((*mask.shape, 3), np.uint8), mask)


def blobs(random: np.random.Generator, height: int, width: int, share: float) -> np.ndarray:
    """(H, W) bool: blurred noise cut at a share; shapes that touch the border, holes, and thin parts."""
    noise = cv2.GaussianBlur(
        random.standard_normal((height, width)), (0, 0), random.uniform(0.6, 1 + max(height, width) / 12)
    )
    return noise > np.quantile(noise, 1 - share)


def pair(random: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random (prediction, mask with ignored pixels), from unrelated to nearly right."""
    mask = blobs(random, height, width, random.uniform(0.02, 0.9)).astype(np.uint8)
    prediction = mask == 1
    flipped = blobs(random, height, width, random.uniform(0, 0.5))
    prediction = prediction ^ flipped if random.random() < 0.6 else flipped
    if random.random() < 0.5:
        mask[blobs(random, height, width, 0.1)] = 255
    return prediction, mask


def test_ritm_equals_float64_reference_on_thousands_of_random_pairs():
    random = np.random.default_rng(1)
    ties = 0
    for _ in range(1500):
        height, width = random.integers(1, 40, 2)
        prediction, mask = pair(random, height, width)
        session, clicked = Ritm(perfect_mask="corner").start(sample(mask)), []
        for _ in range(3):
            y, x, positive, depth = ritm_click(prediction, mask, clicked)
            got = session.click(prediction)
            assert got == Click(y, x, positive)
            ties += int((padded_distance(prediction != (mask == 1)) == depth).sum() > 1)
            clicked.append((y, x))
            prediction = prediction ^ blobs(random, height, width, 0.05)
    assert ties > 500, "the pairs must hold many equal maxima"


def test_ritm_tie_between_the_signs_is_negative():
    mask = np.zeros((20, 40), np.uint8)
    mask[5:10, 5:10] = 1
    prediction = np.zeros((20, 40), bool)
    prediction[5:10, 25:30] = True  # an excess square of the size of the missed one
    assert Ritm().start(sample(mask)).click(prediction) == Click(7, 27, False)


def test_ritm_takes_the_first_of_equal_maxima_in_row_major_order():
    mask = np.zeros((20, 40), np.uint8)
    mask[2:6, 10:30] = 1  # depth 2 along rows 3 and 4
    assert Ritm().start(sample(mask)).click(np.zeros((20, 40), bool)) == Click(3, 11, True)


def test_ritm_border_counts_as_correct():
    mask = np.ones((9, 9), np.uint8)
    assert Ritm().start(sample(mask)).click(np.zeros((9, 9), bool)) == Click(4, 4, True)


def test_ritm_clicked_pixel_is_excluded_but_still_error():
    mask = np.zeros((11, 11), np.uint8)
    mask[3:8, 3:8] = 1
    session = Ritm().start(sample(mask))
    nothing = np.zeros((11, 11), bool)
    assert session.click(nothing) == Click(5, 5, True)
    # A hole at (5, 5) would leave distances of at most 2 in the corners; without one the ring around it has depth 2.
    assert session.click(nothing) == Click(4, 4, True)


def test_ritm_perfect_mask_forms():
    mask = np.zeros((6, 6), np.uint8)
    mask[2:4, 2:4] = 1
    assert Ritm().start(sample(mask)).click(mask == 1) is None
    session = Ritm(perfect_mask="corner").start(sample(mask))
    assert [session.click(mask == 1) for _ in range(2)] == [Click(0, 0, False)] * 2


def test_ritm_ignored_pixels_are_no_error_but_inter2former_takes_them_for_background():
    mask = np.full((10, 10), 255, np.uint8)
    mask[0, 0] = 1
    prediction = np.ones((10, 10), bool)
    assert Ritm().start(sample(mask)).click(prediction) is None
    click = Inter2Former().start(sample(mask)).click(prediction)
    assert click is not None and not click.positive


def test_unknown_option_names_the_allowed_ones():
    with pytest.raises(UserError, match=r"perfect_mask 'cornr'. Did you mean 'corner'\? Allowed: corner, no_click"):
        Ritm(perfect_mask="cornr")
    with pytest.raises(UserError, match="form 'train'. Did you mean 'training'"):
        Inter2Former(form="train")
    with pytest.raises(UserError, match=r"depth=2 is outside 0..1"):
        Jitter(depth=2)


@pytest.mark.parametrize("k", [1.0, 1.7, -1.0])
def test_inter2former_candidates_equal_float64_reference(k: float):
    random = np.random.default_rng(2)
    for _ in range(300):
        height, width = random.integers(1, 40, 2)
        prediction, mask = pair(random, height, width)
        clicked = [
            (int(y), int(x)) for y, x in zip(random.integers(0, height, 3), random.integers(0, width, 3), strict=True)
        ]
        session = Inter2Former().start(sample(mask))
        positive, places = session.candidates(prediction, clicked, k)
        expected_sign, expected = inter2former_candidates(prediction, mask, clicked, k)
        assert positive == expected_sign
        np.testing.assert_array_equal(places, expected)


def test_inter2former_draws_every_candidate_equally():
    mask = np.zeros((6, 9), np.uint8)
    mask[1:5, 1:8] = 1  # depth 2 at rows 2..3, columns 2..6: ten candidates
    drawn = [Inter2Former(seed=0).start(sample(mask, str(i))).click(np.zeros((6, 9), bool)) for i in range(2000)]
    counts = np.unique([9 * c.y + c.x for c in drawn if c is not None], return_counts=True)[1]
    # Chi-squared with 9 degrees of freedom exceeds 27.9 once in a thousand.
    assert len(counts) == 10 and ((counts - 200) ** 2 / 200).sum() < 27.9


def test_inter2former_training_form_spreads_after_the_first_click():
    mask = np.zeros((41, 41), np.uint8)
    cv2.circle(mask, (20, 20), 15, 1, -1)
    session = Inter2Former(form="training").start(sample(mask))
    nothing = np.zeros((41, 41), bool)
    depth = padded_distance(mask == 1)
    first = session.click(nothing)
    assert first is not None and depth[first.y, first.x] == depth.max()
    later = [session.click(nothing) for _ in range(60)]
    assert len(set(later)) > 40
    # The clicked pixels punch holes, so the bound only falls; before they do, it is the maximum / 1.7.
    second = [Inter2Former(seed=i, form="training").start(sample(mask)) for i in range(200)]
    depths = [depth[c.y, c.x] for s in second if s.click(nothing) and (c := s.click(nothing)) is not None]
    holed = mask == 1
    holed[first.y, first.x] = False
    bound = padded_distance(holed).max() / 1.7
    assert bound < min(depths) < 1.12 * bound


@pytest.mark.parametrize("entry", cases("f_"))
def test_inter2former_golden_clicks(entry):
    tensors = load(entry)
    for case in entry["meta"]["cases"]:
        number = f"{case['index']:02d}"
        mask = tensors[f"{number}_gt"].numpy()
        prediction = tensors[f"{number}_pred"].numpy() == 1
        clicked = [(y, x) for y, x, _ in case["previous_points"] or []]
        session = Inter2Former().start(sample(mask))
        positive, places = session.candidates(prediction, clicked, case["sfc_inner_k"])
        np.testing.assert_array_equal(places, tensors[f"{number}_candidates"].numpy(), err_msg=str(case))
        if case["mode"] is not None:
            assert positive == (case["mode"] == "positive"), case
        missed, excess = session._truth.errors(prediction)
        for y, x in clicked:
            missed[y, x] = excess[y, x] = 0
        assert Depth(missed).maximum == pytest.approx(case["max_dist_false_negative"], abs=1e-6)
        assert Depth(excess).maximum == pytest.approx(case["max_dist_false_positive"], abs=1e-6)


@pytest.mark.parametrize("entry", cases("h_"))
def test_inter2former_golden_episode_clicks(entry):
    """Each click of a recorded episode is the first candidate for the recorded prediction before it."""
    tensors = load(entry)
    mask = tensors["gt"].numpy()
    prediction, clicked = np.zeros(mask.shape, bool), []
    for step, (y, x, sign) in enumerate(entry["meta"]["clicks"]):
        positive, places = Inter2Former().start(sample(mask)).candidates(prediction, clicked, 1.0)
        assert (*places[0], positive) == (y, x, sign == "positive"), step
        clicked.append((y, x))
        prediction = tensors[f"pred_{step}"].numpy() == 1


def typical_errors(random: np.random.Generator, side: int) -> list[np.ndarray]:
    """(side, side) uint8: a whole object, a rim, scattered parts, noise, one that touches the border, a full image."""
    disc = cv2.circle(np.zeros((side, side), np.uint8), (side // 2, side // 3), side // 4, 1, -1)
    rim = cv2.ellipse(disc.copy(), (side // 2 + 2, side // 3), (side // 4 - 3, side // 4 - 5), 0, 0, 360, 0, -1)
    parts = blobs(random, side, side, 0.15).view(np.uint8)
    noise = (random.random((side, side)) < 0.02).view(np.uint8)
    edge = np.zeros((side, side), np.uint8)
    edge[: side // 3, : side // 2] = 1
    return [disc, rim, parts, noise, edge, np.ones((side, side), np.uint8), parts & disc, rim | noise]


def plain_squares(error: np.ndarray) -> np.ndarray:
    """The plain form: OpenCV's precise transform of the whole image with a zero border, as whole squares."""
    distance = cv2.distanceTransform(np.pad(error, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    squares = np.rint(np.square(distance, dtype=np.float64)).astype(np.int64)
    # OpenCV may be one unit in the last place off, no more.
    np.testing.assert_allclose(distance, np.sqrt(squares), rtol=2e-7)
    return squares


@pytest.mark.parametrize("side", [100, 130, 257, 600])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_deepest_pixels_equal_the_plain_transform_of_the_whole_image(side: int, share: float):
    random = np.random.default_rng(side)
    for error in typical_errors(random, side):
        plain = plain_squares(error)
        found = Depth(error).deepest(share)
        chosen = (plain >= share**2 * plain.max()) & (plain > 0)
        np.testing.assert_array_equal(found.at, np.argwhere(chosen))
        np.testing.assert_array_equal(found.squared, plain[chosen])
        assert found.maximum == np.sqrt(plain.max())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 260), st.integers(1, 260), st.integers(0, 4))
def test_deepest_pixels_equal_the_plain_transform_property(seed: int, height: int, width: int, excluded: int):
    random = np.random.default_rng(seed)
    error = blobs(random, height, width, random.uniform(0.001, 0.6)).view(np.uint8)
    pixels = [(int(y), int(x)) for y, x in random.permutation(np.argwhere(error))[:excluded]]
    plain = plain_squares(error)
    for y, x in pixels:
        plain[y, x] = 0
    found = Depth(error, pixels)
    assert found.bounds[0] <= np.sqrt(plain.max()) <= found.bounds[1]
    np.testing.assert_array_equal(found.deepest().at, np.argwhere((plain == plain.max()) & (plain > 0)))


def test_large_errors_do_take_the_short_way(monkeypatch):
    """Of a rim and of a disc next to nothing is transformed exactly: few pixels are compared with the outline."""
    transformed = []
    precise = harness.clicking.distance._transform

    def recording(error: np.ndarray, size: int) -> np.ndarray:
        if size == cv2.DIST_MASK_PRECISE:
            transformed.append(error.size)
        return precise(error, size)

    monkeypatch.setattr(harness.clicking.distance, "_transform", recording)
    disc = cv2.circle(np.zeros((600, 600), np.uint8), (300, 300), 250, 1, -1)
    rim = cv2.ellipse(disc.copy(), (303, 300), (245, 242), 0, 0, 360, 0, -1)
    assert Depth(rim).maximum > 0 and sum(transformed) < 0.1 * 500**2
    assert 250 <= Depth(disc).maximum < 252 and sum(transformed) < 0.1 * 500**2


def test_two_far_pixels_that_were_both_clicked_leave_nothing():
    error = np.zeros((300, 300), np.uint8)
    error[3, 4] = error[290, 280] = 1
    assert Depth(error, [(3, 4), (290, 280)]).maximum == 0


@pytest.mark.parametrize("annotator", [Inter2Former(seed=3), Inter2Former(seed=3, form="training"), Jitter(seed=3)])
def test_clicks_depend_on_seed_and_name_only(annotator):
    random = np.random.default_rng(5)
    pairs = {f"s{i}": pair(random, 50, 60) for i in range(6)}

    def episode(name: str, made: object = annotator) -> list[Click | None]:
        prediction, mask = pairs[name]
        session = made.start(sample(mask, name))  # type: ignore[attr-defined]
        return [session.click(prediction ^ (random.random() < 0)) for _ in range(4)]

    forward = {name: episode(name) for name in pairs}
    backward = {name: episode(name) for name in reversed(pairs)}
    assert forward == backward
    other = type(annotator)(**{**{k: v for k, v in annotator.record().items() if k != "name"}, "seed": 4})
    assert any(episode(name, other) != forward[name] for name in pairs)


def test_jitter_clicks_inside_the_eroded_region_around_the_maximum():
    mask = np.zeros((80, 120), np.uint8)
    cv2.circle(mask, (40, 40), 25, 1, -1)
    cv2.circle(mask, (100, 40), 15, 1, -1)  # also deeper than half the maximum, but another region
    depth = padded_distance(mask == 1)
    places = {Jitter(seed=i).start(sample(mask)).click(np.zeros(mask.shape, bool)) for i in range(60)}
    assert len(places) > 40
    for click in places:
        assert click is not None and click.positive and click.x < 70
        assert depth[click.y, click.x] >= 0.5 * depth.max()


def test_jitter_of_depth_one_clicks_a_deepest_pixel():
    prediction, mask = pair(np.random.default_rng(8), 60, 60)
    y, x, positive, depth = ritm_click(prediction, mask, [])
    click = Jitter(depth=1).start(sample(mask)).click(prediction)
    assert click is not None and click.positive == positive
    wrong = ((mask == 1) & ~prediction) if positive else ((mask == 0) & prediction)
    assert padded_distance(wrong)[click.y, click.x] == pytest.approx(depth)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]), large=st.booleans())
def test_core_equals_float64_distances_and_scipys_components(seed, share, large):
    random = np.random.default_rng(seed)
    height, width = random.integers(130, 260, 2) if large else random.integers(1, 60, 2)
    error = blobs(random, height, width, random.uniform(0.02, 0.9)).astype(np.uint8)
    excluded = [(int(y), int(x)) for y, x in random.permutation(np.argwhere(error))[: random.integers(0, 4)]]
    squared = np.rint(padded_distance(error > 0) ** 2)
    for y, x in excluded:
        squared[y, x] = 0
    found = Depth(error, excluded).core(share)
    if squared.max() == 0:
        assert len(found) == 0
        return
    labels, _ = scipy.ndimage.label((squared >= share**2 * squared.max()) & (squared > 0), np.ones((3, 3)))
    np.testing.assert_array_equal(found, np.argwhere(labels == labels.flat[squared.argmax()]))


def test_records_are_plain_json():
    for annotator in (Ritm(), Inter2Former(), Jitter()):
        assert json.loads(json.dumps(annotator.record()))["name"] == annotator.name


def test_prediction_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"prediction of \(3, 4\), ground truth of \(4, 4\)"):
        Ritm().start(sample(np.ones((4, 4), np.uint8))).click(np.zeros((3, 4), bool))
