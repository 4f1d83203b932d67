"""Packed data, augmentation, material, batches and simulated clicks of training."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datasets.synthesis import complement, paste, region
from harness.errors import UserError
from harness.sample import Sample
from harness.segmenter import Click
from harness.training import packed as packed_module
from harness.training.augmentation import NONE, Augmentation, crop
from harness.training.batches import Batches
from harness.training.clicks import ClickSimulator, rounds
from harness.training.material import Material, Mixture
from harness.training.packed import pack
from tests.harness.shapes import Shapes


def test_packed_samples_are_the_data_set(tmp_path: Path) -> None:
    source = Shapes(5)
    packed = pack(source, tmp_path)
    assert packed.names == tuple(source.names)
    for index, name in enumerate(source.names):
        original, stored = source.load(name), packed.load(index)
        np.testing.assert_array_equal(stored.image, original.image)
        np.testing.assert_array_equal(stored.mask, original.mask)


def test_packing_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    packed = pack(Shapes(5, broken=("shape002",)), tmp_path)
    assert packed.names == ("shape000", "shape001", "shape003", "shape004")
    assert packed.skipped == {"shape002": "shape002: cannot be read"}


def test_packing_nothing_readable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sample that can be read: shape000: cannot be read"):
        pack(Shapes(1, broken=("shape000",)), tmp_path)


def test_packing_again_reads_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(Shapes(3), tmp_path)
    monkeypatch.setattr(Shapes, "load", lambda *_: pytest.fail("read again"))
    assert len(pack(Shapes(3), tmp_path)) == 3


def test_processes_that_pack_at_the_same_time_read_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under torchrun another process may be first by a moment (CI saw rank 1 die of it)."""
    twin = pack(Shapes(3), tmp_path / "twin")
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        shutil.copytree(tmp_path / "twin", tmp_path / "cache", dirs_exist_ok=True)
        rename(source, target)

    monkeypatch.setattr(packed_module.os, "rename", late)
    packed = pack(Shapes(3), tmp_path / "cache")
    assert packed.digest == twin.digest
    np.testing.assert_array_equal(packed.data, twin.data)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # nothing half-written is left


def test_packing_on_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packed_module.np, "savez", full)
    with pytest.raises(UserError, match="no space to pack data set 'shapes'.*cache=DIR"):
        pack(Shapes(3), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_packing_shrinks_to_the_longest_side(tmp_path: Path) -> None:
    packed = pack(Shapes(2, size=96), tmp_path, longest=48)
    assert packed.load(0).image.shape == (48, 48, 3)
    # Nearest-neighbour halving keeps the share of an ellipse up to its boundary pixels.
    assert packed.load(0).object_share == pytest.approx(Shapes(2).load("shape000").object_share, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_image_and_mask_go_through_the_same_map(seed: int) -> None:
    sample = Shapes(1).load("shape000")
    twin = Sample("twin", np.repeat(255 * sample.mask[..., None], 3, axis=2), sample.mask)
    how = Augmentation(colour=0.0, grey=0.0, blur=0.0)
    made = crop(twin, 64, how, np.random.default_rng(seed))
    inside = (made.image != 124).any(-1) | (made.image != np.array((124, 116, 104))).any(-1)
    # Bilinear and nearest sampling may differ by half a pixel on the boundary, nowhere else.
    different = (made.image[..., 0] > 127) != (made.mask == 1)
    assert different[inside].mean() < 0.05


def test_without_augmentation_a_square_sample_stays_as_it_is() -> None:
    sample = Shapes(1, size=64).load("shape000")
    made = crop(sample, 64, NONE, np.random.default_rng(0))
    np.testing.assert_array_equal(made.mask, sample.mask)
    np.testing.assert_array_equal(made.image, sample.image)


def test_complement_swaps_object_and_background_and_keeps_ignore() -> None:
    mask = np.array([[1, 0], [255, 0]], np.uint8)
    made = complement(Sample("x", np.zeros((2, 2, 3), np.uint8), mask), np.random.default_rng(0))
    assert made.mask.tolist() == [[0, 1], [255, 1]]


@pytest.mark.parametrize("seed", range(8))
def test_pasted_pixels_are_of_the_pasted_object(seed: int) -> None:
    black = Sample("under", np.zeros((80, 80, 3), np.uint8), np.zeros((80, 80), np.uint8))
    disc = Shapes(1).load("shape000")
    white = Sample("over", np.full_like(disc.image, 255), disc.mask)
    made = paste(black, white, np.random.default_rng(seed))
    # The edge is soft: half-way between both pictures within a pixel or two of the mask's boundary.
    bright = made.image[..., 0] > 127
    assert (made.mask == 1).any()
    assert (bright != (made.mask == 1)).sum() <= 0.1 * (made.mask == 1).sum() + 8


def test_a_region_is_uniform_and_its_edge_ignored() -> None:
    sample = Shapes(1, size=120).load("shape000")
    made = region(sample, np.random.default_rng(3))
    inside = made.mask == 1
    assert inside.any() and (made.mask == 255).any()
    # Either the ellipse or the background around it: a region does not cross the boundary.
    assert (sample.mask[inside] == 1).mean() in (0.0, 1.0)


def test_a_batch_is_a_function_of_its_step(tmp_path: Path) -> None:
    packed = pack(Shapes(7), tmp_path)

    def batches() -> Batches:
        return Batches(Material(packed, None, Mixture()), Augmentation(), 3, 4, (64, 96))

    direct = [batches().make(step) for step in range(6)]
    for threads in (1, 3):
        streamed = list(batches().from_step(2, 6, threads=threads))
        assert [b.step for b in streamed] == [2, 3, 4, 5]
        for one, other in zip(direct[2:], streamed, strict=True):
            np.testing.assert_array_equal(one.images, other.images)
            np.testing.assert_array_equal(one.masks, other.masks)


def test_an_epoch_shows_every_photograph_once(tmp_path: Path) -> None:
    packed = pack(Shapes(12), tmp_path)
    only = Mixture(object=1, background=0, pasted=0, region=0, scene=0)
    batches = Batches(Material(packed, None, only), NONE, 0, 4, (96,))
    names = [batches.sample(step, place).name for step in range(3) for place in range(4)]
    assert sorted(names) == list(packed.names)


def test_processes_share_a_batch_without_overlap(tmp_path: Path) -> None:
    packed = pack(Shapes(12), tmp_path)
    only = Mixture(object=1, background=0, pasted=0, region=0, scene=0)
    material = Material(packed, None, only)
    parts = [Batches(material, NONE, 0, 3, (96,), rank, 2).make(0).images for rank in range(2)]
    whole = np.concatenate(parts)
    assert len(np.unique(whole.reshape(6, -1), axis=0)) == 6


def test_larger_crops_come_in_smaller_batches(tmp_path: Path) -> None:
    batches = Batches(Material(pack(Shapes(4), tmp_path), None, Mixture()), NONE, 0, 8, (64, 128))
    assert {batches.size(step) for step in range(40)} == {(8, 64), (2, 128)}


def test_the_first_click_is_the_centre_of_the_object() -> None:
    mask = np.zeros((1, 41, 41), np.uint8)
    mask[0, 10:31, 10:31] = 1
    simulator = ClickSimulator(mask, (0,))
    assert simulator.click(np.zeros_like(mask, bool)) == [Click(20, 20, True)]


def test_later_clicks_lie_deep_in_the_larger_error() -> None:
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 20:40, 20:40] = 1
    for seed in range(10):
        simulator = ClickSimulator(mask, (seed,))
        simulator.click(np.zeros_like(mask, bool))
        everything = np.ones_like(mask, bool)
        everything[0, :, :41] = False  # 23 columns of excess on the right; the object, 20 wide, is missed
        (click,) = simulator.click(everything)
        assert click is not None and not click.positive
        # Distances to the nearest correct pixel or edge are columns here: at most 12, and more than 12 / 1.7.
        assert min(click.x - 40, 64 - click.x) > 12 / 1.7 - 0.2


def test_nothing_is_clicked_where_nothing_is_wrong_or_all_is_ignored() -> None:
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[0, 4:9, 4:9] = 1
    masks[1] = 255
    predictions = masks == 1
    predictions[1] = True
    assert ClickSimulator(masks, (0,)).click(predictions) == [None, None]


def test_rounds_are_geometric_up_to_the_limit() -> None:
    counts = np.array([rounds((5, step), 4, 0.5) for step in range(4000)])
    # P(1) = 1/2, P(2) = 1/4, P(3) = 1/8, P(4) = 1/8 (all the rest); four standard errors of 4000 draws.
    for value, share in ((1, 0.5), (2, 0.25), (3, 0.125), (4, 0.125)):
        assert (counts == value).mean() == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)
