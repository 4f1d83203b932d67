"""Every data set layout: a fixture in exactly that layout, a broken one, and the message that it gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS, WHOLE, Layout
from mask_kinds import SHAPE
from omegaconf import OmegaConf

import sweeps
from harness.errors import SampleError, UserError
from harness.planning.config import build

every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.config)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))


def opened(config: str, root: Path | str | None, **settings):
    """The data set of sweeps/dataset/CONFIG.yaml, as a command line would build it."""
    loaded = OmegaConf.load(Path(sweeps.__file__).parent / "dataset" / f"{config}.yaml")
    values = OmegaConf.to_container(OmegaConf.merge(loaded, {"root": str(root) if root else None, **settings}))
    return build(values, "dataset")


@every_layout
def test_layout_lists_and_loads(layout: Layout, tmp_path: Path):
    layout.write(tmp_path / "data")
    dataset = opened(layout.config, tmp_path / "data")
    assert tuple(dataset.names) == layout.names
    assert len(dataset) == len(layout.names)
    for name in dataset.names:
        sample = dataset.load(name)
        assert sample.name == name
        assert sample.image.shape == (*SHAPE, 3) and sample.image.dtype == np.uint8
        assert sample.mask.shape == SHAPE and sample.mask.dtype == np.uint8
        assert bool((sample.mask == 255).any()) == (name in layout.ignored)
        object_ = sample.mask == 1
        if name.endswith("#1") and layout.config in ("sbd", "pascal_voc"):
            expected = np.zeros(SHAPE, bool)
            expected[10:12, 2:6] = True  # the first instance of these fixtures
        else:
            expected = WHOLE
        np.testing.assert_array_equal(object_, expected & (sample.mask != 255))


@every_layout
def test_broken_sample_says_what_to_fix(layout: Layout, tmp_path: Path):
    layout.write(tmp_path)
    name = layout.breaks(tmp_path)
    dataset = opened(layout.config, tmp_path)
    assert name in dataset.names
    with pytest.raises(SampleError, match=layout.message):
        dataset.load(name)
    others = [n for n in dataset.names if not n.startswith(name.split("#")[0])]
    assert others, "a broken sample leaves the others usable"
    for other in others:
        dataset.load(other)


@every_layout
def test_root_without_a_part_is_refused_with_the_layout(layout: Layout, tmp_path: Path):
    layout.write(tmp_path)
    part = tmp_path / layout.first_part
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    with pytest.raises(UserError) as error:
        opened(layout.config, tmp_path)
    message = str(error.value)
    assert f"dataset.root={tmp_path} has no {layout.first_part}" in message
    assert "it holds:" in message and "Expected layout: " in message and "\n" not in message


@every_layout
def test_no_root_and_wrong_root_are_refused(layout: Layout, tmp_path: Path):
    with pytest.raises(UserError, match="needs its folder: dataset.root=DIR. Expected layout: "):
        opened(layout.config, None)
    with pytest.raises(UserError, match=r"dataset.root=.*nowhere: no such folder. Expected layout: "):
        opened(layout.config, tmp_path / "nowhere")


@every_layout
def test_digest_follows_the_content_and_the_selection(layout: Layout, tmp_path: Path):
    layout.write(tmp_path / "a")
    layout.write(tmp_path / "b")
    first = opened(layout.config, tmp_path / "a").digest()
    assert len(first) == 32 and int(first, 16) >= 0
    assert opened(layout.config, tmp_path / "b").digest() == first, "the place of the files makes no difference"
    assert opened(layout.config, tmp_path / "b", limit=1).digest() != first
    layout.breaks(tmp_path / "b")
    assert opened(layout.config, tmp_path / "b").digest() != first


def test_hqseg44k_binarisation_is_an_option_and_stands_in_the_note(tmp_path: Path):
    LAYOUTS_BY_NAME["hqseg44k"].write(tmp_path)
    loose, strict = opened("hqseg44k", tmp_path), opened("hqseg44k", tmp_path, above=128)
    assert (loose.note, strict.note) == (">0", ">128")
    soft = loose.load("COIFT/train_2").mask != strict.load("COIFT/train_2").mask
    assert soft.sum() == 5, "the soft edge of the fixture"
    assert loose.digest() != strict.digest()
    with pytest.raises(UserError, match="dataset.above=64: the field binarises HQSeg-44K at 0 or 128"):
        opened("hqseg44k", tmp_path, above=64)


def test_hqseg44k_parts_can_be_chosen(tmp_path: Path):
    LAYOUTS_BY_NAME["hqseg44k"].write(tmp_path)
    shutil.rmtree(tmp_path / "DIS5K")
    chosen = opened("hqseg44k", tmp_path, subsets=["COIFT", "HRSOD"])
    assert chosen.names == ["COIFT/train_2", "HRSOD/train_3"] and chosen.note == ">0, COIFT+HRSOD"
    with pytest.raises(UserError, match="unknown part 'COIF'. Did you mean 'COIFT'"):
        opened("hqseg44k", tmp_path, subsets=["COIF"])


def test_pascal_voc_names_its_split(tmp_path: Path):
    LAYOUTS_BY_NAME["pascal_voc"].write(tmp_path)
    assert opened("pascal_voc", tmp_path).note == "all instances of val"
    with pytest.raises(UserError, match="has no ImageSets/Segmentation/test.txt"):
        opened("pascal_voc", tmp_path, split="test")


def test_empty_split_file_is_refused(tmp_path: Path):
    LAYOUTS_BY_NAME["davis_focuscut"].write(tmp_path)
    (tmp_path / "list" / "val.txt").write_text("\n")
    with pytest.raises(UserError, match="val.txt: the split file is empty"):
        len(opened("davis_focuscut", tmp_path))


def test_sbd_damaged_file_says_so(tmp_path: Path):
    LAYOUTS_BY_NAME["sbd"].write(tmp_path)
    (tmp_path / "inst" / "2008_000002.mat").write_bytes(b"MATLAB 5.0, but not really")
    dataset = opened("sbd", tmp_path)
    with pytest.raises(SampleError, match="2008_000002.mat: cannot be read as a MATLAB file .*; fetch it again"):
        dataset.load("2008_000002")


LAYOUTS_BY_NAME = {layout.config: layout for layout in LAYOUTS}
