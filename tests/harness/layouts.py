"""Writes a tiny data set in each standard layout: the configuration's name, its fixture and what it must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mask_kinds import SHAPE, object_mask, save_image, save_values
from PIL import Image
from scipy.io import savemat

WHOLE = object_mask()


@dataclass(frozen=True)
class Layout:
    """A layout as the tests see it.

    Attributes:
        config: name of the YAML file in sweeps/dataset.
        write: makes the fixture under a folder.
        names: samples that it must list, in order.
        ignored: samples with ignored pixels.
        breaks: removes or damages something; returns the sample that must then fail.
        message: regular expression of the error of that sample.
        first_part: folder or file without which the root is refused.
    """

    config: str
    write: Callable[[Path], None]
    names: tuple[str, ...]
    ignored: tuple[str, ...]
    breaks: Callable[[Path], str]
    message: str
    first_part: str


def _band(values: np.ndarray, value: int) -> np.ndarray:
    """Values with a column that is ignored, outside the object."""
    values = values.copy()
    values[:, 13] = value
    return values


def grabcut(root: Path) -> None:
    for i, ending in enumerate((".jpg", ".bmp")):
        save_image(root / "data_GT" / f"n{i}{ending}", i)
        values = 255 * WHOLE.astype(np.uint8)
        save_values(root / "boundary_GT" / f"n{i}.bmp", _band(values, 128) if i == 0 else values)


def _grabcut_small_values(root: Path) -> str:
    save_values(root / "boundary_GT" / "n1.bmp", WHOLE)
    return "n1"


def berkeley(root: Path) -> None:
    for i, stem in enumerate(("12003", "24063")):
        save_image(root / "images" / f"{stem}.jpg", i)
    save_values(root / "masks" / "12003.png", 255 * WHOLE)
    save_values(root / "masks" / "24063#1.png", 255 * WHOLE)
    save_values(root / "masks" / "24063#2.png", _band(255 * WHOLE.astype(np.uint8), 128))
    save_image(root / "images" / "35049#1.jpg", 5)  # the other form: an image per mask
    save_values(root / "masks" / "35049#1.png", 255 * WHOLE)


def _berkeley_without_image(root: Path) -> str:
    (root / "images" / "24063.jpg").unlink()
    return "24063#2"


def davis(root: Path) -> None:
    save_image(root / "img" / "a_0.jpg", 0)
    Image.fromarray(255 * WHOLE.astype(np.uint8)).convert("RGB").save(_made(root / "gt" / "a_0.png"))
    save_image(root / "img" / "b_3.jpg", 1)
    colours = np.zeros((*SHAPE, 3), np.uint8)
    colours[WHOLE] = (0, 38, 0)
    Image.fromarray(colours).save(root / "gt" / "b_3.png")


def _other_size(root: Path) -> str:
    save_values(root / "gt" / "b_3.png", np.ones((24, 32)))
    return "b_3"


def focuscut(root: Path) -> None:
    for i, name in enumerate(("bear-1", "cow-2", "unlisted")):
        save_image(root / "img" / f"{name}.jpg", i)
        save_values(root / "gt" / f"{name}.png", _band(WHOLE.astype(np.uint8), 255))
    _made(root / "list" / "val.txt").write_text("cow-2\nbear-1\n\n")


def _focuscut_from_ritm(root: Path) -> str:
    save_values(root / "gt" / "bear-1.png", 255 * WHOLE)
    return "bear-1"


def sbd(root: Path) -> None:
    for i, name in enumerate(("2008_000002", "2008_000009")):
        save_image(root / "img" / f"{name}.jpg", i)
        numbers = 2 * WHOLE.astype(np.uint8)
        numbers[10:12, 2:6] = 1
        save_sbd(root / "inst" / f"{name}.mat", numbers)
    _made(root / "val.txt").write_text("2008_000002\n2008_000009\n")


def save_sbd(path: Path, numbers: np.ndarray) -> None:
    """A file as SBD ships them: a struct GTinst with Segmentation, Boundaries and Categories."""
    fields = {"Segmentation": numbers, "Boundaries": np.zeros((1, 1)), "Categories": np.array([[15], [9]])}
    savemat(_made(path), {"GTinst": fields})


def _sbd_wrong_folder(root: Path) -> str:
    savemat(root / "inst" / "2008_000009.mat", {"GTcls": {"Segmentation": WHOLE.astype(np.uint8)}})
    return "2008_000009"


def pascal_voc(root: Path) -> None:
    save_image(root / "JPEGImages" / "2007_000033.jpg", 0)
    numbers = np.where(WHOLE, 2, 0).astype(np.uint8)
    numbers[10:12, 2:6] = 1
    made = Image.fromarray(_band(numbers, 255), mode="P")
    made.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [5] * 756 + [224, 224, 192])
    made.save(_made(root / "SegmentationObject" / "2007_000033.png"))
    _made(root / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000033\n2007_000042\n")
    save_image(root / "JPEGImages" / "2007_000042.jpg", 1)
    made.save(root / "SegmentationObject" / "2007_000042.png")


def _voc_without_mask(root: Path) -> str:
    (root / "SegmentationObject" / "2007_000042.png").unlink()
    return "2007_000042"


HQ_FOLDERS = {
    "DIS-VD": "DIS5K/DIS-VD/im DIS5K/DIS-VD/gt",
    "ThinObject5K": "thin_object_detection/ThinObject5K/images_test thin_object_detection/ThinObject5K/masks_test",
    "COIFT": "thin_object_detection/COIFT/images thin_object_detection/COIFT/masks",
    "HRSOD": "thin_object_detection/HRSOD/images thin_object_detection/HRSOD/masks_max255",
}


def hqseg44k(root: Path) -> None:
    for i, folders in enumerate(HQ_FOLDERS.values()):
        images, masks = folders.split()
        save_image(root / images / f"train_{i}.jpg", i)
        values = 255 * WHOLE.astype(np.uint8)
        values[WHOLE & (np.arange(SHAPE[1]) == 4)] = 100  # a soft edge: object at > 0, not at > 128
        save_values(root / masks / f"train_{i}.png", values)


def _hq_damaged(root: Path) -> str:
    (root / "thin_object_detection/COIFT/masks/train_2.png").write_bytes(b"not a picture")
    return "COIFT/train_2"


def folder(root: Path) -> None:
    for i in range(2):
        save_image(root / "images" / f"photo {i}.jpeg", i)
        save_values(root / "masks" / f"photo {i}.PNG", WHOLE)


def _folder_empty_mask(root: Path) -> str:
    save_values(root / "masks" / "photo 1.PNG", np.zeros(SHAPE))
    return "photo 1"


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _img_gt(config: str) -> Layout:
    return Layout(config, davis, ("a_0", "b_3"), (), _other_size, "mask is 32x24, image b_3.jpg is 16x12; export", "gt")


LAYOUTS = (
    Layout(
        "grabcut", grabcut, ("n0", "n1"), ("n0",), _grabcut_small_values,
        r"n1.bmp: no object pixel \(object: above 128, ignored: 128\); its values are 0, 1: store the object as 255",
        "boundary_GT",
    ),
    Layout(
        "berkeley", berkeley, ("12003", "24063#1", "24063#2", "35049#1"), ("24063#2",), _berkeley_without_image,
        r"24063#2: no image images/24063\.\*; add it, or leave this sample out", "masks",
    ),
    _img_gt("davis"),
    _img_gt("coco_mval"),
    *(_img_gt(name) for name in ("davis_val138", "ecssd200", "cracks60", "duts_val250")),
    Layout(
        "davis_focuscut", focuscut, ("bear-1", "cow-2"), ("bear-1", "cow-2"), _focuscut_from_ritm,
        "its values are 0 and 255, and 255 is ignored in FocusCut's package; .* dataset=davis", "list/val.txt",
    ),
    Layout(
        "sbd", sbd, ("2008_000002#1", "2008_000002#2", "2008_000009#1", "2008_000009#2"), (), _sbd_wrong_folder,
        "2008_000009.mat: no field GTinst.Segmentation .it holds: GTcls.; take the files of SBD's folder inst", "inst",
    ),
    Layout(
        "pascal_voc", pascal_voc, ("2007_000033#1", "2007_000033#2", "2007_000042#1", "2007_000042#2"),
        ("2007_000033#1", "2007_000033#2", "2007_000042#1", "2007_000042#2"), _voc_without_mask,
        "2007_000042.jpg: no mask SegmentationObject/2007_000042.png; add it, or remove the image",
        "ImageSets/Segmentation/val.txt",
    ),
    Layout(
        "hqseg44k", hqseg44k, ("COIFT/train_2", "DIS-VD/train_0", "HRSOD/train_3", "ThinObject5K/train_1"), (),
        _hq_damaged, "train_2.png: cannot be decoded as a mask .*; fetch or export it again",
        "thin_object_detection/HRSOD/masks_max255",
    ),
    Layout(
        "folder", folder, ("photo 0", "photo 1"), (), _folder_empty_mask,
        "photo 1.PNG: no object pixel .*the mask is all 0: annotate the object, or remove the pair", "masks",
    ),
)  # fmt: skip
