"""Composed scenes: deterministic, exact masks, disjoint splits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from harness.datasets.scenes.composition import _camera
from harness.datasets.scenes.dataset import Scenes
from harness.datasets.scenes.photos import _reflected
from harness.datasets.scenes.shapes import KINDS, coverage
from harness.errors import UserError


def _small(**kw) -> Scenes:
    return Scenes(longest=320, **kw)


def test_the_same_scene_comes_out_the_same_in_any_set_and_order():
    many, few = _small(count=12), _small(count=12, limit=3)
    assert set(few.names) <= set(many.names)
    for name in reversed(few.names):
        first, again = many.load(name), few.load(name)
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.mask, again.mask)


def test_masks_are_those_of_this_version():
    """Regression digest seen when VERSION was 1: a changed generator must raise VERSION and this digest.

    Of the masks only, and at eighth size: photographs are resampled by OpenCV, whose last bit differs between builds.
    """
    scenes = _small(count=11)
    coarse = [scenes.load(n).mask[::8, ::8] for n in scenes.names]
    assert hashlib.sha256(b"".join(m.tobytes() for m in coarse)).hexdigest()[:16] == "793363a65c43ed1d"


def test_splits_and_seeds_differ():
    base = _small(count=2)
    for other in (_small(count=2, split="train"), _small(count=2, seed=1)):
        assert not set(base.names) & set(other.names)
        assert base.digest() != other.digest()
        a, b = base.load(base.names[0]), other.load(other.names[0])
        assert a.image.shape != b.image.shape or np.abs(a.image.astype(int) - b.image).mean() > 5


def test_plain_scenes_hold_objects_that_can_be_clicked():
    """4 to 40 % of the image, less what is covered; other names than hard ones."""
    plain = _small(count=12, level="plain")
    shares = [plain.load(name).object_share for name in plain.names]
    assert min(shares) > 0.02 and max(shares) < 0.42
    assert {n.rsplit("-", 1)[1] for n in plain.names} == {"blob", "creature", "leaf"}
    assert plain.digest() != _small(count=12).digest() and plain.note != _small(count=12).note


def test_objects_span_the_scales_and_every_kind():
    scenes = _small(count=2 * len(KINDS))
    shares = []
    for name in scenes.names:
        sample = scenes.load(name)
        assert sample.image.dtype == np.uint8 and sample.image.shape[2] == 3
        assert sample.mask.shape == sample.image.shape[:2] and set(np.unique(sample.mask)) == {0, 1}
        shares.append(sample.object_share)
    assert min(shares) < 0.02 and max(shares) > 0.35
    assert {n.rsplit("-", 1)[1] for n in scenes.names} == set(KINDS)


def test_default_scenes_are_large():
    sides = [max(Scenes(count=4).load(n).image.shape[:2]) for n in Scenes(count=4).names]
    assert min(sides) >= 640 and max(sides) <= 1536


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_coverage_is_anti_aliased_and_near_the_wanted_share(kind):
    alpha = coverage(kind, 200, 300, 0.05, np.random.default_rng(3))
    assert alpha.min() >= 0 and alpha.max() <= 1
    assert ((alpha > 0.1) & (alpha < 0.9)).any(), "an edge without partly covered pixels is not anti-aliased"
    assert 0.2 * 0.05 < alpha.mean() < 2 * 0.05


def test_reflection_against_numpys_padding():
    """numpy.pad(mode="reflect") is the reference."""
    row = np.arange(7)
    padded = np.pad(row, 20, mode="reflect")
    np.testing.assert_array_equal(_reflected(np.arange(-20, 27), 7), padded)


def test_camera_keeps_the_picture_where_it_is():
    """Centroid of a bright square moves by less than half a pixel (uneven light alone pulls it a little)."""
    picture = np.zeros((120, 120, 3), np.float32)
    picture[40:80, 50:70] = 255
    seen = _camera(picture.copy(), np.random.default_rng(0)).astype(float).sum(axis=2)
    seen[seen < 120] = 0
    rows, columns = np.indices(seen.shape)
    assert abs((rows * seen).sum() / seen.sum() - 59.5) < 0.5
    assert abs((columns * seen).sum() / seen.sum() - 59.5) < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"count": 0}, "dataset.count=0"),
        ({"longest": 10}, "dataset.longest=10"),
        ({"level": "plian"}, "Did you mean 'plain'"),
        ({"root": "/does/not/exist"}, "0 photographs"),
        ({"limit": 0}, "dataset.limit=0"),
        ({"shard": "3/2"}, "dataset.shard=3/2"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        Scenes(**arguments)
