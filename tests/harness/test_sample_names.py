"""Names of files: not UTF-8, nearly equal, with blanks and dots, and lists of them in every encoding."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import numpy as np
import pytest
from mask_kinds import SHAPE, object_mask, save_image, save_values
from PIL import Image

from harness.datasets.checkup import examine
from harness.datasets.facts import FileFacts, content_hash
from harness.datasets.folder import Folder
from harness.datasets.loader import prefetch
from harness.datasets.pascal_voc import PascalVoc
from harness.datasets.sbd import Sbd
from harness.datasets.split_list import read_split
from harness.errors import SampleError, UserError
from harness.text import printable, sample_name


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))


def pairs(root: Path, *names: str | tuple[str, str], ending: str = ".png") -> Path:
    """Images and masks of these stems; a tuple: (image with ending, mask with ending)."""
    for seed, name in enumerate(names):
        image, mask = (f"{name}{ending}", f"{name}.png") if isinstance(name, str) else name
        save_image(root / "images" / "x.png", seed)
        save_values(root / "masks" / "y.png", object_mask())
        os.rename(root / "images" / "x.png", root / "images" / image)
        os.rename(root / "masks" / "y.png", root / "masks" / mask)
    return root


ODD = {
    os.fsdecode(b"caf\xe9"): "caf\\xe9",
    "two\nlines": "two\\nlines",
    "a\ttab": "a\\ttab",
    "bell\x07": "bell\\x07",
    "quotes \"'`$": "quotes \"'`$",
    "blank ": "blank ",
    "é": "é",
    "e\u0301": "é",
    "日本 (1)": "日本 (1)",
    "x" * 250: "x" * 250,
    "[b] %s {0}": "[b] %s {0}",
}


@pytest.mark.parametrize("stem", ODD)
def test_every_file_name_is_a_sample(stem: str, tmp_path: Path):
    data = Folder(str(pairs(tmp_path / "data", stem)))
    assert data.names == [ODD[stem]] and sample_name(stem) == ODD[stem]
    ((name, sample),) = prefetch(data, data.names)
    assert sample.name == name and (sample.mask == object_mask()).all()
    data.digest().encode()
    found = examine(data)
    assert found.healthy
    # What goes into tables, data bases and JSON.
    for text in (name, *found.warnings, repr(found.record())):
        text.encode("utf-8")


def test_errors_quote_such_names_on_one_line(tmp_path: Path):
    bad = tmp_path / os.fsdecode(b"data \xff\n")
    data = Folder(str(pairs(bad, os.fsdecode(b"caf\xe9"))))
    assert data.name == "data \\xff\\n"
    next((bad / "masks").iterdir()).unlink()
    ((_, error),) = prefetch(Folder(str(bad)), data.names)
    assert isinstance(error, SampleError) and "caf\\xe9.png: no mask" in str(error) and "\n" not in str(error)
    str(error).encode()
    with pytest.raises(UserError, match=r"no such folder"):
        Folder(str(bad / os.fsdecode(b"\xfe")))


def test_facts_of_such_a_file_are_remembered(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"\xe9")
    path.write_bytes(b"1")
    for calls in ([], None):
        with FileFacts(tmp_path / "facts.sqlite") as facts:
            assert facts.get(path, "k", (lambda p: content_hash(p)) if calls == [] else None) == content_hash(path)


def test_printable_leaves_ordinary_text_alone():
    for text in ("", "a b", "naïve 日本 \u00a0", "C:\\new"):
        assert printable(text) == text


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("caf\u00e9.jpg", "cafe\u0301.png"),
        ("cafe\u0301.jpg", "caf\u00e9.png"),
        ("IMG_0001.JPG", "img_0001.PNG"),
        ("a.jfif", "a.png"),
        ("a.jpe", "a.png"),
        ("a.jp2", "a.TIF"),
        ("a.avif", "a.gif"),
        ("a.dib", "a.pbm"),
    ],
)
def test_nearly_equal_names_and_rare_endings_are_pairs(image: str, mask: str, tmp_path: Path):
    data = Folder(str(pairs(tmp_path, (image, mask))))
    assert data.names == [sample_name(Path(image).stem)] and not data.listed.stray
    assert data.entries[data.names[0]].problem is None


def test_an_exact_name_goes_before_one_in_another_case(tmp_path: Path):
    pairs(tmp_path, ("a.png", "a.png"), ("B.png", "b.png"))
    save_image(tmp_path / "images" / "A.png")
    data = Folder(str(tmp_path))
    assert [(n, data.entries[n].mask is not None) for n in data.names] == [("A", False), ("B", True), ("a", True)]


def test_a_suffix_is_a_setting_and_the_message_names_it(tmp_path: Path):
    pairs(tmp_path, ("1.png", "1_mask.png"), ("11.png", "11_mask.png"))
    with pytest.raises(SampleError, match=r"the nearest is 1_mask.png: .* dataset.mask_suffix=_mask"):
        Folder(str(tmp_path)).load("1")
    data = Folder(str(tmp_path), mask_suffix="_mask")
    assert data.names == ["1", "11"] and not data.listed.stray
    assert all((data.load(n).mask == object_mask()).all() for n in data.names)


def test_the_nearest_free_mask_is_named_and_no_other(tmp_path: Path):
    pairs(tmp_path, ("street 1.png", "steet 1.png"), ("street 2.png", "street 2.png"), ("zoo.png", "car.png"))
    data = Folder(str(tmp_path))
    with pytest.raises(SampleError, match="the nearest is steet 1.png: rename it if that is its mask"):
        data.load("street 1")
    with pytest.raises(SampleError, match=r"no mask masks/zoo.\*; add it, or remove the image"):
        data.load("zoo")


def test_an_image_whose_ending_is_not_read_is_named(tmp_path: Path):
    pairs(tmp_path, "a")
    save_values(tmp_path / "masks" / "b.png", object_mask())
    (tmp_path / "images" / "b.heic").write_bytes(b"")
    assert "b.heic is there, but .heic is none of the endings read" in Folder(str(tmp_path)).listed.stray[0]


def voc(root: Path, names: list[str], split: bytes) -> PascalVoc:
    for name in names:
        save_image(root / "JPEGImages" / f"{name}.jpg")
        save_values(root / "SegmentationObject" / f"{name}.png", object_mask())
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(split)
    return PascalVoc(str(root))


PLAIN = ["p1", "p2"]
ENCODED = {
    "utf-8": b"p1\np2\n",
    "bom, crlf": codecs.BOM_UTF8 + b"p1\r\np2\r\n",
    "utf-16 le": codecs.BOM_UTF16_LE + "p1\r\np2\r\n".encode("utf-16-le"),
    "utf-16 be": codecs.BOM_UTF16_BE + "p1\np2".encode("utf-16-be"),
    "utf-16 le without a mark": "p1\np2\n".encode("utf-16-le"),
    "utf-16 be without a mark": "p1\np2\n".encode("utf-16-be"),
    "utf-32": codecs.BOM_UTF32_LE + "p1\np2\n".encode("utf-32-le"),
    "cr": b"p1\rp2\r",
    "empty lines": b"\n\np1\n   \np2\n\n",
    "comments": b"# val, 2 images\np1\n# p3\np2\n",
    "twice": b"p1\np2\np1\n",
    "endings": b"p1.jpg\np2.png\n",
    "paths": b"JPEGImages/p1.jpg\n/data/VOC/JPEGImages/p2.jpg\n",
    "windows paths": b"JPEGImages\\p1.jpg\r\nJPEGImages\\p2.jpg\r\n",
    "columns": b"p1 1\np2 -1\n",
    "wide columns": b"p1\t1\np2  -1\n",
    "pairs of paths": b"/JPEGImages/p1.jpg /SegmentationObject/p1.png\n/JPEGImages/p2.jpg /SegmentationObject/p2.png\n",
    "commas": b"p1,cat\np2,dog\n",
    "end of file mark": b"p1\r\np2\r\n\x1a",
}


@pytest.mark.parametrize("form", ENCODED)
def test_every_form_of_a_list_gives_its_names(form: str, tmp_path: Path):
    data = voc(tmp_path, PLAIN, ENCODED[form])
    assert data.names == ["p1#1", "p2#1"]


@pytest.mark.parametrize(
    "names",
    [
        ["photo 1", "photo 2"],
        ["clip.v1.0001", "clip.v1.0002"],
        ["a.jpg", "b.png"],
        ["#1", "#2"],
        ["x, y", "x"],
        [" edge", "edge "],
        ["naïve", "日本"],
    ],
)
def test_a_name_as_it_stands_wins_if_there_is_such_a_file(names: list[str], tmp_path: Path):
    data = voc(tmp_path, names, "\n".join(names).encode())
    assert sorted({n.rpartition("#")[0] for n in data.names}) == sorted(names)
    for name in data.names:
        assert data.load(name).mask.any()


@pytest.mark.parametrize("on_disk", ["café", os.fsdecode(b"caf\xe9"), "cafe\u0301", "CAFÉ"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_list_in_latin_1_finds_its_files(on_disk: str, encoding: str, tmp_path: Path):
    split = "café".encode(encoding)
    data = voc(tmp_path, ["plain"], b"plain\n" + split)
    pairs(tmp_path / "x", on_disk)
    os.rename(next((tmp_path / "x" / "images").iterdir()), tmp_path / "JPEGImages" / f"{on_disk}.png")
    os.rename(next((tmp_path / "x" / "masks").iterdir()), tmp_path / "SegmentationObject" / f"{on_disk}.png")
    assert len(data.names) == 2 and all(data.load(n).mask.shape == SHAPE for n in data.names)


def test_names_that_no_file_has_stay_apart(tmp_path: Path):
    """Two lines are two samples, missing or not: a list never shrinks without a word."""
    data = voc(tmp_path, ["other"], b"photo 1\nphoto 2\nclip.v1.1\nclip.v1.2\n2007_000032  1\n")
    assert data.names == ["2007_000032", "clip.v1.1", "clip.v1.2", "photo 1", "photo 2"]
    with pytest.raises(SampleError, match=r"photo 1: no image"):
        data.load("photo 1")


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0\0", bytes(range(256)), b"p1\n\x01\x02", b"\xff\xfep"])
def test_what_is_no_text_is_refused_in_one_line(data: bytes, tmp_path: Path):
    (tmp_path / "val.txt").write_bytes(data)
    with pytest.raises(UserError, match=r"val.txt: is no text file; .* Save it as UTF-8") as error:
        read_split(tmp_path / "val.txt")
    assert "\n" not in str(error.value)


MATLAB = {
    "v7.3": (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM\x89HDF\r\n\x1a\n", "MATLAB 7.3"),
    "cut": (None, "cannot be read as a MATLAB file|no field GTinst.Segmentation"),
    "text": (b"<html>", "cannot be read as a MATLAB file"),
    "empty": (b"", "cannot be read as a MATLAB file"),
    "other struct": ({"GTcls": {"Segmentation": np.ones(SHAPE)}}, "it holds: GTcls"),
    "other field": ({"GTinst": {"Boundaries": np.ones(SHAPE)}}, "no field GTinst.Segmentation"),
    "text in it": ({"GTinst": {"Segmentation": np.array([["a", "b"]] * 2)}}, "no field GTinst.Segmentation"),
    "cells in it": ({"GTinst": {"Segmentation": np.array([[1, "x"], [2, 3]], object)}}, "no field GTinst"),
    "complex": ({"GTinst": {"Segmentation": np.full(SHAPE, 1j)}}, "no field GTinst.Segmentation"),
    "a number": ({"GTinst": 5}, "no field GTinst.Segmentation"),
}


@pytest.mark.parametrize("kind", MATLAB)
def test_a_matlab_file_of_another_kind_fails_alone(kind: str, tmp_path: Path):
    from scipy.io import savemat

    content, message = MATLAB[kind]
    for name in ("good", "bad"):
        save_image(tmp_path / "img" / f"{name}.jpg")
        (tmp_path / "inst").mkdir(exist_ok=True)
        savemat(tmp_path / "inst" / f"{name}.mat", {"GTinst": {"Segmentation": object_mask().astype(np.uint8)}})
    bad = tmp_path / "inst" / "bad.mat"
    if isinstance(content, dict):
        savemat(bad, content)
    else:
        bad.write_bytes(bad.read_bytes()[:200] if content is None else content)
    (tmp_path / "val.txt").write_text("good\nbad\n")
    data = Sbd(str(tmp_path))
    assert data.names == ["bad", "good#1"] and len(data.digest()) == 32
    with pytest.raises(SampleError, match=rf"bad.mat.*({message})") as error:
        data.load("bad")
    assert "\n" not in str(error.value)
    assert data.load("good#1").mask.any()


def test_soft_edges_are_named_and_small_objects_can_be_left_out(tmp_path: Path):
    """Two discs of 100 and 200, smoothed: Pillow's Gaussian makes the values between."""
    from PIL import ImageFilter

    y, x = np.mgrid[:60, :80]
    discs = [(x - 20) ** 2 + (y - 30) ** 2 < 150, (x - 58) ** 2 + (y - 30) ** 2 < 200]
    values = np.select(discs, [100, 200])
    save_image(tmp_path / "images" / "a.png", shape=(60, 80))
    (tmp_path / "masks").mkdir()
    soft = Image.fromarray(values.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    soft.save(tmp_path / "masks" / "a.png")
    found = examine(Folder(str(tmp_path), objects="values"))
    kinds = dict(found.problems)
    assert not found.healthy and "of them only a rim one or two pixels wide" in kinds["soft edges read as objects"]
    large = Folder(str(tmp_path), objects="values", smallest=130)
    assert large.names == ["a#100", "a#200"] and examine(large).healthy
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    assert examine(Folder(str(tmp_path), objects="values")).healthy
    with pytest.raises(SampleError, match="pixels, fewer than dataset.smallest=4000"):
        Folder(str(tmp_path), smallest=4000).load("a")
