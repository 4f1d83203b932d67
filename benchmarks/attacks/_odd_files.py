"""More weight files that lie: archives, formats of other programs, folders, devices, bases and configurations."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.attacks._weight_files import FLOATS, archive, call, pickles, tables, tensor_state


def other_formats(command: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what people give for a weight file by mistake, or to be unpacked."""
    pickled = pickle.dumps({"a": 1}, 2)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(pickled)
            tar.addfile(member, io.BytesIO(pickled))
    yield "torch-0.1.pth", stream.getvalue()
    yield "script.pth", f"import os; os.system({command!r})\n".encode()
    zeros = bytes(1 << 24)
    yield "zeros.pth.gz", gzip.compress(zeros)
    yield "zeros.pth.bz2", bz2.compress(zeros)
    yield "zeros.pth.xz", lzma.compress(zeros)
    yield "7z.pth", b"7z\xbc\xaf\x27\x1c" + bytes(100)
    yield "zstd.pth", b"\x28\xb5\x2f\xfd" + bytes(100)
    yield "hdf5.h5", b"\x89HDF\r\n\x1a\n" + bytes(500)
    yield "gguf.bin", b"GGUF" + bytes(500)
    yield "onnx.bin", b"\x08\x07\x12\x07pytorch" + bytes(500)
    yield "lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(3))
    yield "numpy.npz", stream.getvalue()
    stream = io.BytesIO()
    np.save(stream, np.array([command], object), allow_pickle=True)
    yield "numpy.npy", stream.getvalue()
    for protocol in (0, 1):
        yield f"protocol-{protocol}.pth", pickle.dumps({"a": 1.0}, protocol)
    yield "signed.pth", b"PK\x05\x06" + bytes(18)
    yield "zip-start.pth", b"PK\x03\x04" + bytes(40)


def zips(folder: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Names of archives that lie about their members, and what writes them."""
    good = tensor_state(0, (4,), (1,))

    def changed(change: Callable[[bytearray], None], members: Any = FLOATS) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            archive(path, good, members)
            data = bytearray(path.read_bytes())
            change(data)
            path.write_bytes(bytes(data))

        return write

    def central(position: int, value: bytes) -> Callable[[bytearray], None]:
        def change(data: bytearray) -> None:
            place = data.rindex(b"PK\x01\x02") + position
            data[place : place + len(value)] = value

        return change

    def end(position: int, value: bytes) -> Callable[[bytearray], None]:
        def change(data: bytearray) -> None:
            place = data.rindex(b"PK\x05\x06") + position
            data[place : place + len(value)] = value

        return change

    yield "zip-size", changed(central(20, struct.pack("<II", 1 << 30, 1 << 30)))
    yield "zip-offset", changed(central(42, struct.pack("<I", 1 << 31)))
    yield "zip-offset-shared", changed(central(42, struct.pack("<I", 0)))
    yield "zip-encrypted", changed(central(8, struct.pack("<H", 1)))
    yield "zip-method", changed(central(10, struct.pack("<H", 99)))
    yield "zip-count", changed(end(8, struct.pack("<HH", 65_535, 65_535)))
    yield "zip-directory", changed(end(12, struct.pack("<I", 0xFFFFFFF0)))
    yield "zip-start-beyond", changed(end(16, struct.pack("<I", 0xFFFFFFF0)))
    yield "zip-comment", changed(end(20, struct.pack("<H", 65_535)))
    for name, kind in {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}.items():
        yield (
            f"zip-{name}",
            lambda path, kind=kind: archive(  # type: ignore[misc]
                path, good, [("archive/data/0", bytes(32 << 20))], kind
            ),
        )
    yield "zip-names", lambda path: archive(path, good, [*FLOATS, ("../../../../x", b"x"), ("/etc/x", b"")])
    yield "zip-twice", lambda path: archive(path, good, [*FLOATS, ("other/data.pkl", good)])
    yield "zip-script", lambda path: archive(path, good, [*FLOATS, ("archive/constants.pkl", b"\x80\x02).")])
    yield "zip-big-endian", lambda path: archive(path, good, [*FLOATS, ("archive/byteorder", b"big")])
    yield "zip-in-zip", lambda path: archive(path, good, [("archive/data/0", (folder / "zip-size.pth").read_bytes())])
    yield "zip-behind-pickle", lambda path: (
        archive(path, good, FLOATS), path.write_bytes(call("os", "mkdir", "x") + b"." + path.read_bytes()), None
    )[-1]  # fmt: skip


def odd_places(folder: Path, canary: Path) -> Iterator[Path]:
    """What is no plain file, and what is far larger than it looks."""
    for name, start in {"sparse.pth": b"PK\x03\x04", "sparse-old.pth": b"\x80\x02\x8a\x0a", "sparse.bin": b"x"}.items():
        path = folder / name
        path.write_bytes(start)
        os.truncate(path, 1 << 40)
        yield path
    path = folder / "header-100-mb.safetensors"
    path.write_bytes(struct.pack("<Q", 100 << 20) + b'{"a":')
    os.truncate(path, 101 << 20)
    yield path
    path = folder / "header-spaces.safetensors"
    path.write_bytes(struct.pack("<Q", 15 << 20) + b"{" + b" " * ((15 << 20) - 2) + b"}")
    yield path
    server = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    try:
        os.chdir(folder)  # the name of a socket has at most 107 bytes
        server.bind("socket.pth")
    finally:
        os.chdir(before)
        server.close()
    yield folder / "socket.pth"
    for name, target in {
        "zero": "/dev/zero",
        "memory": "/proc/self/mem",
        "input": "/dev/stdin",
        "random": "/dev/urandom",
    }.items():
        (folder / f"{name}.pth").symlink_to(target)
        yield folder / f"{name}.pth"
    trees: dict[str, Callable[[Path], object]] = {
        "tree-fifo": lambda path: os.mkfifo(path / "model.safetensors"),
        "tree-two": lambda path: [(path / f"{i}.pth").write_bytes(b"x") for i in range(2)],
        "tree-shards": lambda path: (path / "model.safetensors.index.json").write_text("[" * 100_000),
        "tree-zero": lambda path: (path / "model.pth").symlink_to("/dev/zero"),
        "tree-ring": lambda path: (path / "inner").symlink_to(path),
        "tree-code": lambda path: [
            (path / "config.json").write_text('{"auto_map": {"AutoModel": "payload.Model"}}'),
            (path / "payload.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n"),
            (path / "pytorch_model.bin").write_bytes(b"\x80\x02" + call("os", "mkdir", str(canary)) + b"."),
        ],
    }  # fmt: skip
    for name, make in trees.items():
        (folder / name).mkdir()
        make(folder / name)
        yield folder / name


def bases(folder: Path) -> Iterator[Path]:
    """Files that lean on others that are not there, on rings, chains, devices and outside."""
    names = {f"base-ring-{i}": f"base-ring-{(i + 1) % 3}" for i in range(3)}
    names |= {f"base-chain-{i}": f"base-chain-{i + 1}" for i in range(8)}
    names |= {"base-absolute": "/etc/passwd", "base-empty": "", "base-dot": ".", "base-long": "x" * 5000,
              "base-lines": "a\nb\x1b[31m", "base-fifo": "base-a-fifo", "base-folder": "base-a-folder"}  # fmt: skip
    for name, base in names.items():
        save_file({name: torch.ones(1)}, str(folder / f"{name}.safetensors"), {"base": base})
    os.mkfifo(folder / "base-a-fifo.safetensors")
    (folder / "base-a-folder.safetensors").mkdir()
    return iter([folder / f"{name}.safetensors" for name in names if name not in ("base-ring-1", "base-ring-2")])


def configurations(folder: Path, canary: Path) -> Iterator[Path]:
    """Inter2Former's own files whose stored configuration asks for networks that no machine can build."""
    for name, config in {
        "dim": {"preset": "lite", "dim": 10**9}, "depth": {"preset": "lite", "depth": 10**9},
        "blocks": {"preset": "lite", "blocks": 10**9}, "heads": {"preset": "lite", "heads": 0},
        "experts": {"preset": "lite", "experts": 10**7}, "preset": {"preset": "../../x"}, "preset-list": {"preset": []},
        "radius": {"preset": "lite", "click_radius": 1e300}, "multiple": {"preset": "lite", "multiple": 0},
        "nested": {"preset": "lite", "dim": [[1]]}, "true": {"preset": "lite", "dim": True},
        "target": {"preset": "lite", "_target_": "os.mkdir", "path": str(canary)},
    }.items():  # fmt: skip
        path = folder / f"config-of-{name}.safetensors"
        save_file({"a": torch.ones(1)}, str(path), {"config": json.dumps(config), "format": "inter2former"})
        yield path
    for name, value in {"nan": float("nan"), "infinity": float("inf")}.items():
        path = folder / f"value-{name}.safetensors"
        save_file({"a": torch.full((2,), value)}, str(path))
        yield path


def write_all(folder: Path, canary: Path) -> list[Path]:
    """Write every file into an existing folder; a payload would make the folder `canary`."""
    paths = []

    def at(name: str) -> Path:
        paths.append(folder / name)
        return paths[-1]

    command = f"mkdir {canary}"
    for name, pickled in pickles(command, str(canary)):
        archive(at(f"{name}.pth"), pickled, FLOATS)
    for name, content in (*((f"{n}.safetensors", c) for n, c in tables()), *other_formats(command)):
        at(name).write_bytes(content)
    for name, write in zips(folder):
        write(at(f"{name}.pth"))
    return [*paths, *odd_places(folder, canary), *bases(folder), *configurations(folder, canary)]
