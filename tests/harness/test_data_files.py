"""Masks of every kind, selection of samples, the loader, and what is remembered of files."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_kinds import KINDS, SHAPE, image, object_mask, save_image, save_values
from PIL import Image

from harness.datasets.facts import FileFacts, content_hash
from harness.datasets.folder import Folder
from harness.datasets.loader import prefetch
from harness.datasets.masks import Rule, read_image, read_values
from harness.datasets.pairs import Entry, check_limit, parse_shard, select
from harness.errors import SampleError, UserError
from harness.sample import Sample


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mask_reads_as_the_same_object(kind: str, tmp_path: Path):
    ending, make = KINDS[kind]
    save_image(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    make(object_mask()).save(tmp_path / "masks" / f"a{ending}")
    sample = Folder(str(tmp_path)).load("a")
    np.testing.assert_array_equal(sample.mask, object_mask().astype(np.uint8))
    np.testing.assert_array_equal(sample.image, image())


def test_jpeg_mask_needs_the_threshold_of_128(tmp_path: Path):
    save_image(tmp_path / "images" / "a.png", shape=(64, 64))
    mask = np.zeros((64, 64), np.uint8)
    mask[20:41, 13:50] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.jpg", quality=60)
    noisy = Folder(str(tmp_path)).load("a").mask
    assert (noisy != mask // 255).sum() > 50, "noise around the object counts with the threshold 0"
    np.testing.assert_array_equal(Folder(str(tmp_path), above=128).load("a").mask, mask // 255)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(above=128, ignore=128), [0, 0, 255, 1, 1]),
        (Rule(above=0), [0, 1, 1, 1, 1]),
        (Rule(above=0, ignore=255), [0, 1, 1, 1, 255]),
        (Rule(above=128), [0, 0, 0, 1, 1]),
        (Rule(equals=1, ignore=255), [0, 1, 0, 0, 255]),
    ],
)
def test_rules(rule: Rule, expected: list[int]):
    assert rule.apply(np.array([[0, 1, 128, 200, 255]], np.uint8)).tolist() == [expected]


def test_palette_indices_or_colours(tmp_path: Path):
    made = Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8), mode="P")
    made.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [5] * 756 + [224, 224, 192])
    made.save(tmp_path / "a.png")
    assert read_values(tmp_path / "a.png", indices=True).tolist() == [[0, 1, 2, 255]]
    assert read_values(tmp_path / "a.png")[0].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]]


def test_image_turned_by_exif_is_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to view
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "a.jpg")
    assert upright.shape == (20, 10, 3) and upright[:8].min() > 200 and upright[12:].max() < 55


def test_grey_and_rgba_images_become_rgb(tmp_path: Path):
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").tolist() == np.full((4, 5, 3), 9).tolist()
    Image.fromarray(np.dstack([image(), np.full(SHAPE, 255, np.uint8)])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), image())


def broken(root: Path, what: str) -> Folder:
    for i in range(2):
        save_image(root / "images" / f"{i}.jpg", i)
        save_values(root / "masks" / f"{i}.png", object_mask())
    image_file, mask_file = root / "images" / "1.jpg", root / "masks" / "1.png"
    if what == "empty image file":
        image_file.write_bytes(b"")
    elif what == "cut image":
        image_file.write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    elif what == "cut mask":
        mask_file.write_bytes(mask_file.read_bytes()[:50])
    elif what == "turned mask":
        save_values(mask_file, object_mask().T)
    elif what == "two masks":
        save_values(root / "masks" / "1.bmp", object_mask())
    elif what == "two images":
        save_image(root / "images" / "1.png")
    elif what == "no mask":
        mask_file.unlink()
    return Folder(str(root))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty image file", r"1.jpg: cannot be decoded as an image .*; fetch it again or remove it"),
        ("cut image", r"1.jpg: cannot be decoded as an image"),
        ("cut mask", r"1.png: cannot be decoded as a mask .*; fetch or export it again"),
        ("turned mask", r"1.png: mask is 12x16, image 1.jpg is 16x12; one of the two is turned"),
        ("two masks", r"masks: 1.bmp and 1.png have the same stem; keep one"),
        ("two images", r"images: 1.jpg and 1.png have the same stem; keep one"),
        ("no mask", r"1.jpg: no mask masks/1.\*; add it, or remove the image"),
    ],
)
def test_broken_pair_names_the_file_and_the_fix(what: str, message: str, tmp_path: Path):
    dataset = broken(tmp_path, what)
    assert dataset.names == ["0", "1"]
    with pytest.raises(SampleError, match=message) as error:
        dataset.load("1")
    assert "\n" not in str(error.value)
    assert dataset.load("0").mask.any()


def test_masks_that_the_rule_makes_empty_say_why(tmp_path: Path):
    save_image(tmp_path / "images" / "a.png")
    save_values(tmp_path / "masks" / "a.png", 255 * object_mask())
    with pytest.raises(SampleError, match="values are 0, 255, and 255 is ignored here: export the object with another"):
        Folder(str(tmp_path), ignore=255).load("a")
    with pytest.raises(SampleError, match="its values are 0, 255: store the object as 255, or .*dataset.equals"):
        Folder(str(tmp_path), equals=1).load("a")


def test_objects_by_value_are_samples_of_their_own(tmp_path: Path):
    save_image(tmp_path / "images" / "a.png")
    values = 3 * object_mask().astype(np.uint8)
    values[11] = 7
    values[10] = 255
    save_values(tmp_path / "masks" / "a.png", values)
    dataset = Folder(str(tmp_path), objects="values", ignore=255)
    assert dataset.names == ["a#3", "a#7"]
    np.testing.assert_array_equal(dataset.load("a#7").mask, np.select([values == 7, values == 255], [1, 255]))
    with pytest.raises(UserError, match="dataset.objects: unknown 'value'. Did you mean 'values'"):
        Folder(str(tmp_path), objects="value")


def test_names_do_not_depend_on_the_order_of_the_file_system(tmp_path: Path, monkeypatch):
    for i in (3, 1, 2, 0):
        save_image(tmp_path / "images" / f"{i}.png")
        save_values(tmp_path / "masks" / f"{i}.png", object_mask())
    expected = Folder(str(tmp_path)).names
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listed(self), reverse=True))
    assert Folder(str(tmp_path)).names == expected == ["0", "1", "2", "3"]


def test_listing_opens_no_file(tmp_path: Path):
    for i in range(3):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{i}.png").write_bytes(b"not even an image")
    assert Folder(str(tmp_path), limit=2).names == ["0", "2"]


entries = [Entry(f"{i:04d}", None, None) for i in range(1000)]


@given(st.integers(1, 300), st.integers(1, 400), st.integers(1, 9))
def test_limit_is_spread_and_shards_partition_it(size: int, limit: int, count: int):
    every = entries[:size]
    chosen = select(every, limit, None)
    assert len(chosen) == min(limit, size)
    positions = [int(e.name) for e in chosen]
    # Evenly spread: the distances between neighbours differ by at most one.
    steps = {b - a for a, b in zip(positions, positions[1:], strict=False)}
    assert not steps or max(steps) - min(steps) <= 1
    shards = [select(every, limit, (i, count)) for i in range(1, count + 1)]
    assert sorted(e.name for shard in shards for e in shard) == [e.name for e in chosen]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
def test_wrong_shards_are_refused(shard: str):
    with pytest.raises(UserError, match="write i/n with i from 1 to n"):
        parse_shard(shard)


@pytest.mark.parametrize("limit", [0, -1, True, 2.5])
def test_wrong_limits_are_refused(limit):
    with pytest.raises(UserError, match="a number of samples from 1, or null"):
        check_limit(limit)


class Counting:
    """Loads tiny samples slowly and counts how many are out."""

    def __init__(self, fails: frozenset[str] = frozenset()):
        self.fails = fails
        self.loaded = 0
        self.lock = threading.Lock()

    def load(self, name: str) -> Sample:
        time.sleep(0.002 * (int(name) % 3))
        if name in self.fails:
            raise SampleError(f"{name} is broken")
        if name == "7":
            raise KeyError("a bug")
        with self.lock:
            self.loaded += 1
        return Sample(name, np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.uint8))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loader_keeps_the_order_and_hands_errors_on(workers: int):
    names = [str(i) for i in range(20)]
    found = list(prefetch(Counting(frozenset({"3", "19"})), names, workers=workers))
    assert [name for name, _ in found] == names
    for name, sample in found:
        if name in ("3", "19"):
            assert isinstance(sample, SampleError) and str(sample) == f"{name} is broken"
        elif name == "7":
            assert isinstance(sample, SampleError) and str(sample) == "7: KeyError: 'a bug'"
        else:
            assert isinstance(sample, Sample) and sample.name == name


def test_loader_never_runs_far_ahead():
    dataset = Counting()
    stream = prefetch(dataset, [str(100 + i) for i in range(50)], workers=3, ahead=4)
    for taken in range(1, 11):
        next(stream)
        time.sleep(0.03)
        assert dataset.loaded <= taken + 4
    assert dataset.loaded > 10, "it does load ahead"
    stream.close()
    assert dataset.loaded <= 10 + 4


def test_facts_are_found_once_until_the_file_changes(tmp_path: Path):
    path, cache = tmp_path / "a", tmp_path / "cache.sqlite"
    path.write_text("one")
    calls = []

    def find(file: Path) -> str:
        calls.append(file)
        return content_hash(file)

    def ask(kind: str = "content") -> str:
        with FileFacts(cache) as facts:
            return facts.get(path, kind, find)

    first = ask()
    assert ask() == first and len(calls) == 1
    path.write_text("two")  # the same size
    os.utime(path, ns=(1, 1))
    assert ask() != first and len(calls) == 2
    ask("another kind")
    assert len(calls) == 3


def test_facts_without_a_writable_cache_are_found_anew(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with FileFacts(tmp_path / "file" / "cache.sqlite") as facts:
        assert facts.get(tmp_path / "file", "content", content_hash) == content_hash(tmp_path / "file")


def test_a_damaged_cache_is_no_error(tmp_path: Path):
    cache = tmp_path / "cache.sqlite"
    cache.write_bytes(b"not a data base" * 100)
    with FileFacts(cache) as facts:
        assert facts.get(cache, "content", content_hash) == content_hash(cache)
