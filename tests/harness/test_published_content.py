"""The doctor beside the published content digests: any source, layout and lossless format; what differs is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from goldens import shared_folder
from PIL import Image

from harness.datasets import published
from harness.datasets.checkup import examine
from harness.datasets.folder import Folder
from harness.datasets.grabcut import GrabCut
from harness.fetching.manifests import Catalogue

SHARED = shared_folder()
GRABCUT = SHARED / "data" / "grabcut"
needs_data = pytest.mark.skipif(not GRABCUT.is_dir(), reason="../shared/data/grabcut is not here")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))


def some(target: Path, count: int = 4) -> list[Path]:
    """A copy of a few images with their masks."""
    images = sorted((GRABCUT / "data_GT").iterdir())[:count]
    for image in images:
        for path in (image, *(GRABCUT / "boundary_GT").glob(f"{image.stem}.*")):
            (target / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.parent.name)
    return images


@needs_data
def test_the_whole_set_equals_the_published_one():
    """The file that the package ships was made from this copy; 50 is the number of the field's tables."""
    found = examine(GrabCut(str(GRABCUT)))
    assert found.published == "equals the published GrabCut, 50 of 50"
    entry = Catalogue().get("data", "grabcut")
    assert entry.published is not None and found.digest == entry.published.digest
    assert published.said_by_digest(GrabCut(str(GRABCUT)), entry) == "equals the published GrabCut, 50 of 50"


@needs_data
@pytest.mark.parametrize("name", ["davis_val138", "ecssd200", "cracks60", "duts_val250", "duts_tr5000"])
@pytest.mark.slow
def test_digests_of_the_subsets_are_those_of_the_data(name: str):
    from harness.planning.config import Config, build, plain

    entry = Catalogue().get("data", name)
    dataset = build(plain(Config().load("dataset", name, {"root": str(SHARED / "data" / name)})), name)
    assert entry.published is not None
    assert (len(dataset), dataset.digest()) == (entry.published.samples, entry.published.digest)


@needs_data
def test_another_layout_other_names_and_other_lossless_files_are_equal(tmp_path: Path):
    for number, image in enumerate(some(tmp_path / "a")):
        mask = next((tmp_path / "a" / "boundary_GT").glob(f"{image.stem}.*"))
        for part, path in (("images", image), ("masks", mask)):
            (tmp_path / "b" / part).mkdir(parents=True, exist_ok=True)
            Image.open(path).save(tmp_path / "b" / part / f"renamed{number}.png")
    found = examine(Folder(str(tmp_path / "b"), above=128, ignore=128))
    assert found.published == "4 of the 50 samples of the published GrabCut, each equal"


@needs_data
@pytest.mark.parametrize("change", ["pixel of a mask", "pixel of an image", "ignored band", "broken"])
def test_what_differs_is_named(tmp_path: Path, change: str):
    masks = {i: next((tmp_path / "boundary_GT").glob(f"{i.stem}.*")) for i in some(tmp_path)}
    first, mask = next((i, m) for i, m in masks.items() if (np.array(Image.open(m)) == 128).any())  # nine have no band
    image = tmp_path / "data_GT" / first.name
    path = image if change == "pixel of an image" else mask
    values = np.array(Image.open(path))
    if change == "broken":
        path.write_bytes(b"x")
    else:
        if change == "ignored band":
            values[values == 128] = 0
        else:
            values[0, 0] = 255 - values[0, 0]
        path.unlink()
        Image.fromarray(values).save(path.with_suffix(".png"))
    found = examine(GrabCut(str(tmp_path))).published
    rest = "1 that cannot be used" if change == "broken" else f"1 other ({first.stem})"
    assert found == f"is not the published GrabCut: 3 of 50 samples equal, {rest}"


def test_data_of_another_name_and_content_have_no_sentence(tmp_path: Path):
    from mask_kinds import object_mask, save_image, save_values

    save_image(tmp_path / "images" / "a.png", 1)
    save_values(tmp_path / "masks" / "a.png", 255 * object_mask())
    assert examine(Folder(str(tmp_path))).published == ""
    named = examine(Folder(str(tmp_path), name="grabcut")).published
    assert named == "is not the published GrabCut: none of its 50 samples is here"


def test_every_published_set_says_what_it_is_and_has_as_many_samples():
    for entry, contents in published.sets():
        assert entry.published is not None and entry.published.what
        assert len(contents) == entry.published.samples
        assert all(len(c.file) == len(c.image) == len(c.mask) == published.DIGITS for c in contents.values())
