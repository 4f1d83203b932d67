"""Images, masks and names that are broken, cut, huge by their header or of another kind, among good ones.

One data set holds many of them, as real ones do: its good samples must have the rows that they have alone, and
`failures.csv` must name each bad one.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

from benchmarks.attacks import Attack
from benchmarks.attacks._sweeps import USER_FOLDER, failed, rows, seed, sweep, whole

SHAPE = (24, 32)
GOOD = ("a_good", "z_good")
BOMB = zlib.compress(bytes(1 << 26))


def picture() -> np.ndarray:
    """(24, 32, 3) uint8 noise."""
    return np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def mask() -> np.ndarray:
    """(24, 32) uint8, 255 in the object."""
    values = np.zeros(SHAPE, np.uint8)
    values[5:15, 6:20] = 255
    return values


def encoded(pixels: np.ndarray, kind: str = "png") -> bytes:
    """A file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG (ISO/IEC 15948, 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, pixels: bytes = b"", between: bytes = b"", bits: int = 8, colour: int = 0) -> bytes:
    """A PNG whose header says this size, whatever its pixels are."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + between + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(width: int, height: int, strip: int = 8, count: int = 1) -> bytes:
    """A TIFF of eight-bit grey with these numbers in its tags."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, strip), (277, 1), (278, height)]
    entries = b"".join(struct.pack("<HHII", tag, 4, count if tag == 273 else 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def broken(canary: Path, good: bytes) -> dict[str, bytes]:
    """Files that are no image of the right size, from a good PNG; a payload would make the folder `canary`."""
    rows_, columns = SHAPE
    jpeg = bytearray(encoded(picture(), "jpeg"))
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = struct.pack(">HH", 65500, 65500)
    bounds = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 {columns} {rows_}\n%%EndComments\n"
    postscript = f"{bounds}(%pipe%mkdir {canary}) (w) file\n"
    script = f"<svg xmlns='http://www.w3.org/2000/svg' width='{columns}' height='{rows_}'><script>x</script></svg>"
    bitmap = bytearray(encoded(picture(), "bmp"))
    negative = bitmap.copy()
    negative[18:26] = struct.pack("<ii", -(1 << 31), -(1 << 31))
    bitmap[18:26] = struct.pack("<ii", 1 << 30, 1 << 30)
    return {
        "empty": b"",
        "zeros": bytes(len(good)),
        "cut-header": good[:20],
        "cut-half": good[: len(good) // 2],
        "page": b"<!DOCTYPE html><title>404</title>",
        "text": "not an image\n".encode("utf-16"),
        "pickle": b"\x80\x04cos\nsystem\nX\x05\x00\x00\x00false\x85R.",
        "gzip": gzip.compress(good),
        "numpy": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(118),
        "huge-png": png(60_000, 60_000),
        "largest-png": png((1 << 31) - 1, (1 << 31) - 1),
        "wide-png": png(1 << 30, 1),
        "bomb-png": png(30_000, 30_000, bytes(1 << 20)),
        "no-size-png": png(0, 0),
        "other-bits-png": png(columns, rows_, bits=7),
        "other-colour-png": png(columns, rows_, colour=5),
        "text-bomb-png": png(columns, rows_, between=chunk(b"zTXt", b"a\0\0" + BOMB)),
        "profile-bomb-png": png(columns, rows_, between=chunk(b"iCCP", b"a\0\0" + BOMB)),
        "huge-jpeg": bytes(jpeg),
        "huge-bmp": bytes(bitmap),
        "negative-bmp": bytes(negative),
        "huge-tiff": tiff(200_000, 200_000),
        "outside-tiff": tiff(columns, rows_, strip=1 << 31),
        "many-strips-tiff": tiff(columns, rows_, count=(1 << 32) - 1),
        "own-directory-tiff": b"II*\0" + struct.pack("<I", 4),
        "huge-ppm": b"P6 999999 999999 255\n",
        "long-number-ppm": b"P6 " + b"9" * 100_000,
        "huge-gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";",
        "cut-webp": encoded(picture(), "webp")[:60],
        "postscript": postscript.encode(),
        "svg": script.encode(),
        "other-size": encoded(np.full((3, 5, 3), 255, np.uint8)),
    }


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def pairs(root: Path, names: Iterable[str]) -> None:
    """Good images with good masks."""
    for name in names:
        write(root / "images" / f"{name}.png", encoded(picture()))
        write(root / "masks" / f"{name}.png", encoded(mask()))


def no_plain_files() -> dict[str, Callable[[Path], None]]:
    """Name -> what makes a path that is no plain file."""
    return {
        "folder": lambda path: path.mkdir(),
        "fifo": lambda path: os.mkfifo(path),
        "ring": lambda path: path.symlink_to(path.name),
        "dangling": lambda path: path.symlink_to("nowhere"),
        "device": lambda path: path.symlink_to("/dev/zero"),
    }


def write_set(root: Path, part: str, canary: Path) -> list[str]:
    """A data set whose images or masks (`part`) are broken, among good ones; names of the bad ones."""
    contents = broken(canary, encoded(picture() if part == "images" else mask()))
    if part == "masks":
        contents |= {"no-object": encoded(np.zeros(SHAPE, np.uint8))}
    odd = no_plain_files()
    missing = ["absent"] if part == "masks" else []  # a mask without an image is no sample
    pairs(root, [*GOOD, *contents, *odd, *missing])
    for name, content in contents.items():
        write(root / part / f"{name}.png", content)
    for name in missing:
        (root / part / f"{name}.png").unlink()
    for name, make in odd.items():
        (root / part / f"{name}.png").unlink()
        make(root / part / f"{name}.png")
    return [*contents, *odd, *missing]


def write_names(root: Path) -> int:
    """Good pairs under names that are hard to read, write or print; how many."""
    names = [
        b"latin-\xe9", b"\xff\xfe", b"line\nbreak", b"escape\x1b[31m", b"[bold][link=x]", b"$\\frac{$", b"a,b;\"c'",
        b" lead", b"007", b"1e5", b"nan", b"None", b"=cmd|' C calc'!A0", b"%s{x}", b"<b>&amp;",
        b"\xe2\x80\xaeright", b"x" * 200,
        b"#1", b"~", b"\\", b"..a", b"\xf0\x9f\x92\xa3",
    ]  # fmt: skip
    pairs(root, GOOD)
    for name in names:
        for part, content in (("images", encoded(picture())), ("masks", encoded(mask()))):
            with open(os.fsencode(root / part) + b"/" + name + b".png", "wb") as file:
                file.write(content)
    return len(names)


def write_matlab(root: Path) -> list[str]:
    """SBD's layout with `.mat` files of other kinds; names of the bad images."""
    stream = io.BytesIO()
    numbers = (mask() > 0).astype(np.uint8)
    savemat(stream, {"GTinst": {"Segmentation": numbers, "Categories": np.array([1])}})
    good = stream.getvalue()

    def saved(value: object, name: str = "GTinst") -> bytes:
        stream = io.BytesIO()
        savemat(stream, {name: value})
        return stream.getvalue()

    contents = {
        "empty": b"",
        "page": b"<!DOCTYPE html>",
        "zeros": bytes(512),
        "cut": good[:-60],
        "header": good[:128],
        "hdf5": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(384) + b"\x89HDF\r\n\x1a\n",
        "other-field": saved({"Segmentation": numbers}, "GTcls"),
        "number": saved(3.0),
        "text": saved("x"),
        "cells": saved({"Segmentation": np.array([[numbers, "a"]], object)}),
        "complex": saved({"Segmentation": numbers * 1j}),
        "nan": saved({"Segmentation": np.where(numbers > 0, np.nan, 0.0)}),
        "three-axes": saved({"Segmentation": np.ones((3, 4, 5), np.uint8)}),
        "structs": saved(np.array([(1,), (2,)], [("Segmentation", object)])),
        "other-size": saved({"Segmentation": np.ones((3, 5), np.uint8)}),
    }
    for name, content in {**contents, **dict.fromkeys(GOOD, good)}.items():
        write(root / "img" / f"{name}.jpg", encoded(np.full((*SHAPE, 3), 90, np.uint8), "jpeg"))
        write(root / "inst" / f"{name}.mat", content)
    write(root / "val.txt", "".join(f"{n}\n" for n in (*GOOD, *contents)).encode())
    return [f"{name}#1" if name == "other-size" else name for name in contents]  # its one instance could be listed


def attacks(folder: Path) -> Iterator[Attack]:
    """The data sets, through the sweep with clicks and with measuring; then sets with nothing good in them."""
    canary, mine = folder / "executed", folder / "mine"
    shutil.copytree(USER_FOLDER, mine, ignore=shutil.ignore_patterns("__pycache__"))
    pairs(folder / "good", GOOD)
    data = ("variant=disc", "dataset=folder", "dataset.name=toy")
    seed(sweep(mine, folder / "alone", *data, f"dataset.root={folder / 'good'}"))
    good = rows(folder / "alone")
    for part in ("images", "masks"):
        bad = write_set(folder / part, part, canary)
        yield _attack(f"broken {part}", folder, (*data, f"dataset.root={folder / part}"), good, bad)
        yield Attack(
            f"broken {part}, doctor", ("harness.doctor", "dataset=folder", f"dataset.root={folder / part}"),
            canary, failed_rows=True,
        )  # fmt: skip
        out = folder / "runs" / f"measuring {part}"
        arguments = sweep(mine, out, *data, f"dataset.root={folder / part}", "measure=quick", "measure.samples=1")
        yield Attack(
            f"broken {part}, measuring", tuple(a for a in arguments if a != "measure=none"), canary,
            missing=whole(out, good), failed_rows=True,
        )  # fmt: skip
    count = write_names(folder / "names")
    settings = (*data, f"dataset.root={folder / 'names'}")
    out = folder / "runs" / "names"
    yield Attack(
        "names", sweep(mine, out, *settings), canary, missing=whole(out, good), harmless=True, failed_rows=True,
        inputs=count,
    )  # fmt: skip
    yield from _matlab(folder, mine)
    for name in ("images", "masks"):
        root = folder / f"nothing good in {name}"
        shutil.copytree(folder / "good", root)
        for path in (root / name).iterdir():
            path.write_bytes(b"")
        yield Attack(root.name, sweep(mine, folder / "runs" / root.name, *data, f"dataset.root={root}"), canary,
                     failed_rows=True)  # fmt: skip


def _matlab(folder: Path, mine: Path) -> Iterator[Attack]:
    data = ("variant=disc", "dataset=sbd", f"dataset.root={folder / 'sbd'}")
    bad = write_matlab(folder / "sbd")
    write(folder / "sbd" / "good.txt", "".join(f"{n}\n" for n in GOOD).encode())
    seed(sweep(mine, folder / "sbd alone", *data, "dataset.split=good"))
    out = folder / "runs" / "sbd"
    yield Attack(
        "MATLAB files", sweep(mine, out, *data), folder / "executed", missing=whole(out, rows(folder / "sbd alone")),
        unsaid=failed(out, [("disc", name) for name in bad]), failed_rows=True, inputs=len(bad),
    )  # fmt: skip


def _attack(name: str, folder: Path, settings: tuple[str, ...], good: pd.DataFrame, bad: list[str]) -> Attack:
    out = folder / "runs" / name
    expected = [("disc", sample) for sample in bad]
    return Attack(
        name, sweep(folder / "mine", out, *settings), folder / "executed", missing=whole(out, good),
        unsaid=failed(out, expected), failed_rows=True, inputs=len(bad),
    )  # fmt: skip
