"""Settings name values of the mask file; opacity and orientation of a mask count; sizes are checked before decoding.

Expected masks come from the arrays that the files are written from.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from mask_kinds import SHAPE, image, object_mask, save_image
from PIL import Image, ImageOps

from harness.datasets.checkup import examine
from harness.datasets.doubts import refuse_whole_images
from harness.datasets.folder import Folder
from harness.errors import SampleError, UserError

BAND = np.zeros(SHAPE, bool)
BAND[9] = True


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))


def written(root: Path, mask: Image.Image | np.ndarray | bytes, ending: str = ".png", **saving) -> Path:
    """A folder of one image and this mask."""
    save_image(root / "images" / "a.png")
    (root / "masks").mkdir(exist_ok=True)
    path = root / "masks" / f"a{ending}"
    if isinstance(mask, bytes):
        path.write_bytes(mask)
    elif isinstance(mask, np.ndarray):
        assert cv2.imwrite(str(path), mask)
    else:
        mask.save(path, **saving)
    return root


def palette(values: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    table = np.full((256, 3), 9, np.uint8)
    for index, colour in colours.items():
        table[index] = colour
    made = Image.fromarray(values.astype(np.uint8)).convert("P")
    made.putpalette(table.ravel().tolist())
    made.frombytes(values.astype(np.uint8).tobytes())
    return made


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits (PNG specification, 11.2), which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    per = 8 // bits
    padded = np.pad(values, ((0, 0), (0, -width % per))).reshape(height, -1, per)
    packed = (padded << np.arange(per - 1, -1, -1) * bits).sum(2).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


VOC = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 255: (224, 224, 192)}


def expected(object_: np.ndarray, ignored: np.ndarray | None = None) -> np.ndarray:
    mask = object_.astype(np.uint8)
    if ignored is not None:
        mask[ignored] = 255
    return mask


@pytest.mark.parametrize("ending", [".png", ".gif", ".bmp", ".tif"])
def test_a_palette_file_is_read_by_index_where_a_value_is_named(ending: str, tmp_path: Path):
    values = np.select([object_mask(), BAND], [1, 255])
    options = {"optimize": False} if ending == ".gif" else {}
    root = str(written(tmp_path, palette(values, VOC), ending, **options))
    np.testing.assert_array_equal(Folder(root, ignore=255).load("a").mask, expected(object_mask(), BAND))
    np.testing.assert_array_equal(Folder(root, equals=255).load("a").mask, BAND)
    np.testing.assert_array_equal(Folder(root, equals=1, ignore=255).load("a").mask, expected(object_mask(), BAND))
    with pytest.raises(SampleError, match=r"palette file, read as colours: try dataset.indices=true"):
        Folder(root, equals=15, indices=False).load("a")


def test_a_value_that_no_mask_has_is_a_warning(tmp_path: Path):
    """A GIF writer that renumbers the colours makes the void 2: nothing is ignored, and the doctor says so."""
    root = written(tmp_path, palette(np.select([object_mask(), BAND], [1, 2]), VOC))
    assert "dataset.ignore=255: no mask has this value." in examine(Folder(str(root), ignore=255)).warnings
    assert examine(Folder(str(root), ignore=2)).warnings == []


def test_classes_of_a_palette_are_told_apart(tmp_path: Path):
    values = np.select([object_mask(), BAND], [15, 1])
    root = str(written(tmp_path, palette(values, VOC)))
    np.testing.assert_array_equal(Folder(root, equals=15).load("a").mask, object_mask())
    np.testing.assert_array_equal(Folder(root).load("a").mask, object_mask() | BAND)


def test_a_palette_that_can_mean_either_is_refused_with_the_setting(tmp_path: Path):
    values = np.select([object_mask(), BAND], [2, 1])
    root = str(written(tmp_path, palette(values, {0: (0, 0, 0), 1: (128,) * 3, 2: (255,) * 3})))
    for settings in ({"ignore": 128}, {"above": 128}, {"equals": 255}):
        with pytest.raises(SampleError, match="dataset.indices=true or dataset.indices=false"):
            Folder(root, **settings).load("a")
    mask = Folder(root, ignore=128, above=128, indices=False).load("a").mask
    np.testing.assert_array_equal(mask, expected(object_mask(), BAND))
    np.testing.assert_array_equal(Folder(root, ignore=1, indices=True).load("a").mask, expected(object_mask(), BAND))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", ["palette", "grey"])
def test_values_of_few_bits_are_those_of_the_file(bits: int, kind: str, tmp_path: Path):
    most = 2**bits - 1
    values = most * object_mask().astype(np.uint8)
    if kind == "palette":
        made = palette(values, {0: (9, 9, 9), 1: (0, 50, 50), most: (50, 0, 0)})
        root = str(written(tmp_path, made, bits=bits))
        with Image.open(tmp_path / "masks" / "a.png") as stored:
            assert stored.mode == "P" and stored.tile[0][3].startswith("P" if bits > 1 else "P;1")
    else:
        root = str(written(tmp_path, grey_png(values, bits)))
    np.testing.assert_array_equal(Folder(root, equals=most).load("a").mask, object_mask())
    np.testing.assert_array_equal(Folder(root, ignore=255, equals=most).load("a").mask, object_mask())
    np.testing.assert_array_equal(Folder(root, background=0).load("a").mask, object_mask())
    np.testing.assert_array_equal(Folder(root, above=most - 1, indices=True).load("a").mask, object_mask())


def test_white_of_one_bit_is_1_and_255(tmp_path: Path):
    root = str(written(tmp_path, Image.fromarray(object_mask())))
    for settings in ({"equals": 1}, {"equals": 255}, {"above": 128}, {"ignore": 255}, {"ignore": 128, "above": 128}):
        np.testing.assert_array_equal(Folder(root, **settings).load("a").mask, object_mask())


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_values_of_16_bits_are_not_scaled(ending: str, channels: int, tmp_path: Path):
    values = np.select([object_mask(), BAND], [1000, 65535], 7).astype(np.uint16)
    root = str(written(tmp_path, values if channels == 1 else np.dstack([values] * 3), ending))
    np.testing.assert_array_equal(Folder(root, equals=1000).load("a").mask, object_mask())
    mask = Folder(root, above=999, ignore=65535).load("a").mask
    np.testing.assert_array_equal(mask, expected(object_mask(), BAND))
    assert Folder(root).load("a").mask.all(), "7 is above 0"
    assert "masks of 16 bits; dataset.above=128 counts in their own values" in " ".join(
        examine(Folder(root, above=128)).warnings
    )


def test_fractions_are_compared_as_they_are(tmp_path: Path):
    root = str(written(tmp_path, Image.fromarray(np.where(object_mask(), 1.0, 0.25).astype(np.float32)), ".tif"))
    np.testing.assert_array_equal(Folder(root, equals=1).load("a").mask, object_mask())
    np.testing.assert_array_equal(Folder(root, above=0.5).load("a").mask, object_mask())
    np.testing.assert_array_equal(Folder(root, background=0.25).load("a").mask, object_mask())


def test_colours_are_values_too(tmp_path: Path):
    rgb = np.where(object_mask()[..., None], (184, 61, 245), (0, 215, 255)).astype(np.uint8)
    root = written(tmp_path, Image.fromarray(rgb))
    with pytest.raises(UserError, match=r"fills the whole image .* dataset.background=\[0,215,255\]"):
        refuse_whole_images(Folder(str(root)))
    for settings in ({"background": [0, 215, 255]}, {"equals": [184, 61, 245]}):
        dataset = Folder(str(root), **settings)
        refuse_whole_images(dataset)
        np.testing.assert_array_equal(dataset.load("a").mask, object_mask())
    with pytest.raises(UserError, match="dataset.background='blue': give a value of the mask file"):
        Folder(str(root), background="blue")


def test_a_coloured_background_of_a_palette_is_refused_with_the_fix(tmp_path: Path):
    root = written(tmp_path, palette(object_mask(), {0: (68, 1, 84), 1: (253, 231, 37)}))
    with pytest.raises(UserError, match="whole image of every sample .* dataset.indices=true"):
        refuse_whole_images(Folder(str(root)))
    found = examine(Folder(str(root)))
    assert not found.healthy and [kind for kind, _ in found.problems] == ["whole image as object"]
    assert examine(Folder(str(root), indices=True)).healthy
    np.testing.assert_array_equal(Folder(str(root), indices=True).load("a").mask, object_mask())


def test_one_whole_image_among_others_is_a_warning(tmp_path: Path):
    root = written(tmp_path, Image.fromarray(np.full(SHAPE, 255, np.uint8)))
    save_image(root / "images" / "b.png", 1)
    Image.fromarray(object_mask()).save(root / "masks" / "b.png")
    refuse_whole_images(Folder(str(root)))
    assert examine(Folder(str(root))).healthy


CUT = np.dstack([image(), 255 * object_mask()]).astype(np.uint8)
DRAWN = np.dstack([np.where(object_mask()[..., None], (0, 0, 0), (255, 255, 255)), 255 * object_mask()]).astype(
    np.uint8
)


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("rgba", [CUT, DRAWN], ids=["cut-out", "black on transparent"])
def test_transparent_pixels_are_no_object(rgba: np.ndarray, ending: str, tmp_path: Path):
    made = Image.fromarray(rgba)
    options = {"lossless": True, "exact": True} if ending == ".webp" else {}
    root = written(tmp_path, made, ending, **options)
    np.testing.assert_array_equal(Folder(str(root)).load("a").mask, object_mask())


def test_grey_with_opacity_and_colours_named_transparent(tmp_path: Path):
    grey = np.dstack([np.where(object_mask(), 0, 255), 255 * object_mask()]).astype(np.uint8)
    written(tmp_path, Image.fromarray(grey, "LA"))
    np.testing.assert_array_equal(Folder(str(tmp_path)).load("a").mask, object_mask())
    # Index 3, which is white, is transparent.
    made = palette(np.where(object_mask(), 1, 3), {1: (200, 0, 0), 3: (255, 255, 255)})
    written(tmp_path, made, transparency=3)
    for settings in ({}, {"indices": True}, {"equals": 1}):
        np.testing.assert_array_equal(Folder(str(tmp_path), **settings).load("a").mask, object_mask())


def test_a_label_map_keeps_its_values_where_it_can_be_seen(tmp_path: Path):
    """White object on black, and a transparent margin: black is background, not object."""
    white = np.where(object_mask(), 255, 0)
    written(tmp_path, Image.fromarray(np.dstack([white, white, white, np.where(BAND, 0, 255)]).astype(np.uint8)))
    np.testing.assert_array_equal(Folder(str(tmp_path)).load("a").mask, object_mask() & ~BAND)
    labels = np.select([object_mask(), BAND], [15, 7], 1)
    opacity = np.where(labels == 1, 0, 255)
    written(tmp_path, Image.fromarray(np.dstack([labels, opacity]).astype(np.uint8), "LA"))
    np.testing.assert_array_equal(Folder(str(tmp_path), equals=15).load("a").mask, object_mask())
    np.testing.assert_array_equal(Folder(str(tmp_path)).load("a").mask, object_mask() | BAND)


def test_an_ignored_index_stays_ignored_where_it_is_transparent(tmp_path: Path):
    written(tmp_path, palette(np.select([object_mask(), BAND], [1, 255]), VOC), transparency=255)
    np.testing.assert_array_equal(Folder(str(tmp_path), ignore=255).load("a").mask, expected(object_mask(), BAND))


def turned(pixels: np.ndarray, orientation: int) -> Image.Image:
    """Pixels stored so that Pillow's exif_transpose, an independent reading of the tag, gives them back."""
    for way in (None, *Image.Transpose):
        made = Image.fromarray(pixels) if way is None else Image.fromarray(pixels).transpose(way)
        made.getexif()[0x0112] = orientation
        if np.array_equal(np.asarray(ImageOps.exif_transpose(made)), pixels):
            return made
    raise AssertionError(orientation)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
def test_a_mask_is_turned_by_its_own_orientation(orientation: int, ending: str, tmp_path: Path):
    mask = np.zeros((48, 64), np.uint8)
    mask[8:40, 8:24] = 255
    mask[8:16, 8:48] = 255
    photo = np.dstack([mask, mask // 2, np.full_like(mask, 9)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if ending == ".webp" else {"quality": 95} if ending == ".jpg" else {}
    for folder, pixels in (("images", photo), ("masks", mask)):
        (tmp_path / folder).mkdir()
        turned(pixels, orientation).convert("RGB").save(tmp_path / folder / f"a{ending}", exif=exif, **options)
    sample = Folder(str(tmp_path), above=128).load("a")
    np.testing.assert_array_equal(sample.mask, mask // 255)
    np.testing.assert_array_equal(sample.image[..., 0] > 128, mask > 0)
    assert not any("EXIF" in warning for warning in examine(Folder(str(tmp_path), above=128)).warnings)


def test_an_image_that_is_turned_alone_is_a_warning(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 3
    written(tmp_path, Image.fromarray(object_mask()))
    Image.fromarray(image()).save(tmp_path / "images" / "a.png", exif=exif)
    assert "images turned by their EXIF orientation, whose masks carry none: do both fit? (1): a." in (
        examine(Folder(str(tmp_path))).warnings
    )


def test_files_that_are_read_otherwise_than_before_have_another_digest(tmp_path: Path):
    """Digests of plain files stay what they were (so a sweep resumes); the others are measured again."""
    plain = Folder(str(written(tmp_path / "plain", Image.fromarray(object_mask()))), name="d")
    rule = '{"above": 0, "equals": null, "ignore": null, "indices": false}'
    whole = hashlib.blake2b(rule.encode(), digest_size=16)
    whole.update(b"\na\nNone")
    for folder in ("images", "masks"):
        content = (tmp_path / "plain" / folder / "a.png").read_bytes()
        whole.update(hashlib.blake2b(content, digest_size=16).hexdigest().encode())
    assert plain.digest() == whole.hexdigest()
    assert plain.reading_of(tmp_path / "plain" / "masks" / "a.png") == ""
    cut = Folder(str(written(tmp_path / "cut", Image.fromarray(CUT))))
    assert cut.reading_of(tmp_path / "cut" / "masks" / "a.png") == "opacity"
    deep = Folder(str(written(tmp_path / "deep", np.full(SHAPE, 500, np.uint16))), equals=500)
    assert deep.reading_of(tmp_path / "deep" / "masks" / "a.png") == "stored values"


def empty_png(width: int, height: int) -> bytes:
    png = bytearray(grey_png(np.zeros((1, 8), np.uint8), 1))
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


@pytest.mark.parametrize("size", [(40000, 40000), (2_000_000, 200), (1 << 15, 1 << 14)])
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_file_above_the_limit_is_refused_by_its_header(folder: str, size: tuple[int, int], tmp_path: Path):
    written(tmp_path, Image.fromarray(object_mask()))
    (tmp_path / folder / "a.png").write_bytes(empty_png(*size))
    with pytest.raises(SampleError, match=rf"a.png: {size[0]}x{size[1]} px, more than the 268435456 pixels") as error:
        Folder(str(tmp_path)).load("a")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["float", "cut", "text", "folder"])
def test_an_image_of_another_kind_says_what_to_do(kind: str, tmp_path: Path):
    written(tmp_path, Image.fromarray(object_mask()))
    path = tmp_path / "images" / "a.png"
    data = path.read_bytes()
    path.unlink()
    if kind == "float":
        Image.fromarray(np.ones(SHAPE, np.float32)).save(tmp_path / "images" / "a.tif")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(data[: len(data) // 2] if kind == "cut" else b"<html>404</html>")
    with pytest.raises(SampleError, match=r"a\.(tif|png): ") as error:
        Folder(str(tmp_path)).load("a")
    assert ("floating-point" in str(error.value)) == (kind == "float") and "remove" in str(error.value)


@pytest.mark.parametrize("kind", ["cmyk", "animated", "16 bits"])
def test_images_of_rare_kinds_are_read(kind: str, tmp_path: Path):
    written(tmp_path, Image.fromarray(object_mask()))
    (tmp_path / "images" / "a.png").unlink()
    if kind == "cmyk":
        Image.fromarray(image()).convert("CMYK").save(tmp_path / "images" / "a.tif")
    elif kind == "animated":
        first, second = Image.fromarray(image()), Image.fromarray(image(1))
        first.save(tmp_path / "images" / "a.webp", save_all=True, append_images=[second], lossless=True)
    else:
        cv2.imwrite(str(tmp_path / "images" / "a.png"), 257 * image()[..., ::-1].astype(np.uint16))
    np.testing.assert_array_equal(Folder(str(tmp_path)).load("a").image, image())
