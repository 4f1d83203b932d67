"""The doctor finds what is wrong with a data set, says what to do, and its exit code tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS, Layout
from mask_kinds import SHAPE, object_mask, save_image, save_values
from PIL import Image

from harness import doctor
from harness.datasets.checkup import examine
from harness.datasets.folder import Folder
from harness.errors import UserError
from harness.sample import Sample


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))


def folder(root: Path, count: int = 3) -> Path:
    for i in range(count):
        save_image(root / "images" / f"{i}.png", i)
        save_values(root / "masks" / f"{i}.png", 255 * object_mask())
    return root


def ask(*arguments: str, capsys) -> tuple[int, str]:
    code = doctor.run(list(arguments))
    return code, capsys.readouterr().out


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.config)
def test_healthy_and_broken_fixture_of_every_layout(layout: Layout, tmp_path: Path, capsys):
    layout.write(tmp_path / "data")
    arguments = (f"dataset={layout.config}", f"dataset.root={tmp_path / 'data'}")
    code, out = ask(*arguments, capsys=capsys)
    assert code == 0
    assert f"{len(layout.names)} usable of {len(layout.names)}" in out and "healthy" in out
    layout.breaks(tmp_path / "data")
    code, out = ask(*arguments, capsys=capsys)
    assert code == 1 and "Expected layout: " in out


def test_counts_sizes_values_bins_and_digest(tmp_path: Path):
    dataset = Folder(str(folder(tmp_path)), ignore=128)
    save_image(tmp_path / "images" / "big.png", 9, (100, 200))
    values = np.zeros((100, 200), np.uint8)
    values[:9, :20] = 255  # 0.9 %
    values[50:52] = 128
    save_values(tmp_path / "masks" / "big.png", values)
    found = examine(dataset)
    assert (found.selected, found.usable, found.ignoring) == (4, 4, 1)
    assert found.heights == (12, 12, 100) and found.widths == (16, 16, 200)
    assert found.size_bins == {"<1%": 1, "1-5%": 0, "5-20%": 3, ">20%": 0}  # 36 of 192 pixels: 19 %
    assert found.mask_values == {0: 4, 128: 1, 255: 4}
    assert found.digest == Folder(str(tmp_path), ignore=128).digest()
    assert found.healthy and found.warnings == []


def test_each_kind_of_problem_is_counted(tmp_path: Path, capsys):
    folder(tmp_path, 6)
    (tmp_path / "masks" / "0.png").unlink()
    save_values(tmp_path / "masks" / "1.png", np.zeros(SHAPE))
    save_values(tmp_path / "masks" / "2.png", np.ones((5, 5)))
    (tmp_path / "images" / "3.png").write_bytes(b"")
    code, out = ask("dataset=folder", f"dataset.root={tmp_path}", "--json", capsys=capsys)
    found = json.loads(out)
    assert code == 1 and found["usable"] == 2 and not found["healthy"]
    assert found["problem_counts"] == {
        "missing or ambiguous pair": 1,
        "mask without an object": 1,
        "mask and image of different size": 1,
        "unreadable file": 1,
    }
    _, text = ask("dataset=folder", f"dataset.root={tmp_path}", capsys=capsys)
    for kind in found["problem_counts"]:
        assert f"1 x {kind}" in text


def test_stray_masks_duplicates_soft_tiny_and_full_masks_are_warnings(tmp_path: Path):
    folder(tmp_path, 5)
    save_values(tmp_path / "masks" / "nobody.png", object_mask())
    save_image(tmp_path / "images" / "1.png", 0)  # the same as 0.png
    soft = np.linspace(0, 255, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    save_values(tmp_path / "masks" / "2.png", soft)
    tiny = np.zeros(SHAPE)
    tiny[4, 4] = 1
    save_values(tmp_path / "masks" / "3.png", tiny)
    save_values(tmp_path / "masks" / "4.png", np.ones(SHAPE))
    found = examine(Folder(str(tmp_path), name="mine"))
    assert found.healthy
    text = "\n".join(found.warnings)
    assert "masks without an image, not used (1):" in text and "nobody.png" in text
    assert "the same image under several names, counted several times (1)" in text and "1.png" in text
    assert (
        "masks of more than 3 values (object: above 0); read a JPEG or resized mask with dataset.above=128 (1): 2"
        in text
    )
    assert "objects of fewer than 25 pixels (1): 3" in text
    assert "objects that fill over 98% of the image (mask inverted?) (2)" in text


def test_several_objects_of_one_image_are_no_duplicates(tmp_path: Path):
    save_image(tmp_path / "images" / "a.png", shape=(40, 40))
    values = np.zeros((40, 40), np.uint8)
    values[2:12, 2:12], values[20:30, 20:30] = 1, 2
    save_values(tmp_path / "masks" / "a.png", values)
    found = examine(Folder(str(tmp_path), objects="values"))
    assert found.usable == 2 and found.warnings == []


def test_part_of_a_known_set_is_not_taken_for_the_whole(tmp_path: Path):
    found = examine(Folder(str(folder(tmp_path)), name="davis"))
    assert any("3 samples, but davis of the published tables has 345" in w for w in found.warnings)
    assert examine(Folder(str(tmp_path), name="davis", limit=2)).warnings == []


def test_problems_are_shortened_unless_asked_for(tmp_path: Path, capsys):
    folder(tmp_path, 14)
    for i in range(12):
        (tmp_path / "masks" / f"{i}.png").unlink()
    _, short = ask("dataset=folder", f"dataset.root={tmp_path}", capsys=capsys)
    _, long = ask("dataset=folder", f"dataset.root={tmp_path}", "--all", capsys=capsys)
    assert short.count("no mask") == 10 and "2 more (--all)" in short
    assert long.count("no mask") == 12


def test_no_sample_at_all_is_not_healthy(tmp_path: Path, capsys):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    code, out = ask("dataset=folder", f"dataset.root={tmp_path}", capsys=capsys)
    assert code == 1 and "no samples; check root, limit and shard" in out


def test_wrong_settings_are_the_users(tmp_path: Path):
    with pytest.raises(UserError, match="unknown dataset 'grabcat'. Did you mean 'grabcut'"):
        doctor.run(["dataset=grabcat"])
    with pytest.raises(UserError, match=r"dataset.root=.*: no such folder. Expected layout: "):
        doctor.run(["dataset=grabcut", f"dataset.root={tmp_path / 'nowhere'}"])
    with pytest.raises(UserError, match="dataset.shard=3/2"):
        doctor.run(["dataset=folder", f"dataset.root={folder(tmp_path)}", "dataset.shard=3/2"])


class Generated:
    """A data set that is not on disk: only the interface."""

    name = "mine"
    note = "generated"
    names = ("a", "b")

    def __len__(self) -> int:
        return 2

    def load(self, name: str) -> Sample:
        mask = np.zeros((30, 40), np.uint8)
        mask[5:20, 5:30] = 1
        return Sample(name, np.full((30, 40, 3), ord(name), np.uint8), mask)

    def digest(self) -> str:
        return "ab" * 16


def test_any_data_set_can_be_examined():
    found = examine(Generated())
    assert found.healthy and found.usable == 2 and found.expected_layout == "" and found.warnings == []


SHARED = {"grabcut": 50, "davis_val138": 138, "ecssd200": 200, "cracks60": 60, "duts_val250": 250}


@pytest.mark.parametrize("name", SHARED)
def test_shared_data_are_complete_and_a_spread_of_five_is_healthy(name: str):
    from goldens import shared_folder

    root = shared_folder() / "data" / name
    if not root.is_dir():
        pytest.skip(f"no {name} at {root} (set IS_BENCH_SHARED)")
    code = doctor.run([f"dataset={name}", f"dataset.root={root}", "dataset.limit=5"])
    from harness.planning.config import Config, build, plain

    dataset = build(plain(Config().compose([f"dataset={name}", f"dataset.root={root}"]).dataset), "dataset")
    assert code == 0 and len(dataset) == SHARED[name]


def test_jpeg_masks_are_noticed(tmp_path: Path):
    folder(tmp_path, 1)
    (tmp_path / "masks" / "0.png").unlink()
    Image.fromarray(255 * object_mask().astype(np.uint8)).save(tmp_path / "masks" / "0.jpg", quality=50)
    assert any("dataset.above=128" in w for w in examine(Folder(str(tmp_path))).warnings)
