"""Input preparation: normalisation, padding, target size, coordinates there and back, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from inter2former.inputs import ImageError, check_image, frame_image, normalise, prepare

SIDES = st.integers(1, 700)
TARGETS = st.sampled_from([None, 256, 1024])


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_normalisation_is_the_specification():
    image = np.array([[[255, 0, 128]]], dtype=np.uint8)
    # Section 1.1: mean (123.675, 116.28, 103.53), deviation (58.395, 57.12, 57.375) of R, G, B.
    expected = [(255 - 123.675) / 58.395, (0 - 116.28) / 57.12, (128 - 103.53) / 57.375]
    torch.testing.assert_close(normalise(image).flatten(), torch.tensor(expected), atol=1e-6, rtol=1e-6)
    swapped = [(128 - 123.675) / 58.395, (0 - 116.28) / 57.12, (255 - 103.53) / 57.375]
    torch.testing.assert_close(normalise(image, "bgr").flatten(), torch.tensor(swapped), atol=1e-6, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, st.sampled_from([32, 256]))
def test_padding_is_the_mean_colour_and_smallest(height, width, multiple):
    image = random_image(height, width)
    x, frame = prepare(image, multiple=multiple)
    assert x.shape[2] % multiple == 0 and x.shape[3] % multiple == 0
    assert x.shape[2] - height < multiple and x.shape[3] - width < multiple
    assert tuple(x.shape[2:]) == frame.input_size
    assert torch.equal(x[..., :height, :width], normalise(image))
    assert (x[..., height:, :] == 0).all() and (x[..., width:] == 0).all()


def test_published_example_of_the_target_size():
    # Section 1.4: an 854x480 image becomes 1024x512, then 1024x1024: at 1024 nothing is enlarged.
    frame = frame_image(480, 854, target_size=1024)
    assert (frame.padded_height, frame.padded_width, frame.square) == (512, 1024, 1024)
    assert frame.to_input(479, 853) == (479, 853)
    x, _ = prepare(random_image(480, 854), target_size=1024)
    assert torch.equal(x[..., :480, :854], normalise(random_image(480, 854)))
    # At 2048 coordinates double.
    assert frame_image(480, 854, target_size=2048).to_input(479, 853) == (958, 1706)


def test_target_size_resizes_the_padded_square():
    image = random_image(300, 520)
    x, _ = prepare(image, target_size=512)
    square = F.pad(normalise(image), (0, 768 - 520, 0, 768 - 300))
    assert torch.equal(x, F.interpolate(square, (512, 512), mode="bilinear"))


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, TARGETS, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_points_go_there_and_back(height, width, target, down, right):
    frame = frame_image(height, width, target_size=target)
    y, x = int(down * height), int(right * width)
    inside = frame.to_input(y, x)
    assert 0 <= inside[0] < frame.input_size[0] and 0 <= inside[1] < frame.input_size[1]
    scale = 1.0 if target is None else target / frame.square
    back = frame.to_image(*inside)
    # Truncation loses less than one input pixel, which is 1 / scale image pixels.
    assert all(0 <= lost < 1 / scale + 1e-9 for lost in (y - back[0] + 1e-9, x - back[1] + 1e-9))


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES, TARGETS)
def test_logits_come_back_at_the_image_size(height, width, target):
    frame = frame_image(height, width, target_size=target)
    logits = torch.randn(1, 1, *frame.input_size)
    restored = frame.restore(logits)
    assert restored.shape == (1, 1, height, width)
    if target is None or target == frame.square:
        assert torch.equal(restored, logits[..., :height, :width])


def test_linear_ramps_survive_the_round_trip():
    # Bilinear resizing keeps linear functions, away from the clamped border of the square.
    frame = frame_image(400, 500, target_size=256)
    ramp = (torch.arange(256.0)[:, None] + 2 * torch.arange(256.0))[None, None]
    restored = frame.restore(ramp)[0, 0]
    rows = (torch.arange(400.0) + 0.5) / 2 - 0.5
    columns = (torch.arange(500.0) + 0.5) / 2 - 0.5
    expected = rows[:, None] + 2 * columns
    torch.testing.assert_close(restored[1:, 1:], expected[1:, 1:], atol=1e-3, rtol=1e-5)


def test_logits_of_another_size_are_resized_first():
    frame = frame_image(200, 250)
    low = torch.randn(1, 1, 64, 64)
    expected = F.interpolate(low, (256, 256), mode="bilinear")[..., :200, :250]
    assert torch.equal(frame.restore(low), expected)


def test_one_pixel_is_enough():
    x, frame = prepare(np.zeros((1, 1, 3), np.uint8))
    assert x.shape == (1, 3, 256, 256) and frame.to_input(0, 0) == (0, 0)


@pytest.mark.parametrize(
    "image,message",
    [
        (np.zeros((8, 8), np.uint8), "grey image"),
        (np.zeros((8, 8, 1), np.uint8), "grey image"),
        (np.zeros((8, 8, 4), np.uint8), "alpha"),
        (np.zeros((8, 8, 3), np.float32), "float32.*need uint8"),
        (np.full((8, 8, 3), np.nan), "NaN or infinity"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.zeros((0, 8, 3), np.uint8), "0x8 pixels"),
        (np.zeros((8, 0, 3), np.uint8), "8x0 pixels"),
        (np.zeros((3, 8, 8), np.uint8), "need \\(H, W, 3\\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), "need \\(H, W, 3\\)"),
        (np.zeros((), np.uint8), "no dimensions"),
        ([[0, 0, 0]], "list.*numpy array"),
    ],
)
def test_other_images_are_refused_in_one_line(image, message):
    with pytest.raises(ImageError, match=message) as caught:
        check_image(image)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        prepare(image)


@pytest.mark.parametrize("target", [0, -16, 1000])
def test_wrong_target_sizes_are_refused(target):
    with pytest.raises(ValueError, match=f"target_size={target}"):
        frame_image(10, 10, target_size=target)


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match="rgb or bgr"):
        normalise(random_image(4, 4), "grb")


@pytest.mark.parametrize("point", [(-1, 0), (0, -1), (10, 0), (0, 20)])
def test_points_outside_are_refused(point):
    with pytest.raises(ValueError, match="outside the image of 10x20"):
        frame_image(10, 20).to_input(*point)


def test_images_are_not_changed():
    image = random_image(20, 30)
    before = image.copy()
    image.setflags(write=False)
    prepare(image, channels="bgr", target_size=256)
    assert np.array_equal(image, before)
