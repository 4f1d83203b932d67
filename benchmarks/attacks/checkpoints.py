"""Weight files that lie, are broken, huge or malicious, given to the systems that take weights and to the converter."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from benchmarks.attacks import Attack, _odd_files
from benchmarks.attacks._sweeps import rows, seed, whole
from benchmarks.attacks._weight_files import FLOATS, archive, tensor_state

SETTINGS = ("dataset.limit=1", "measure=none", "tracking.enabled=false", "report=false", "threads=1")
GOOD = ("variant=geodesic", "protocol.clicks=2")
EVERYWHERE = ("zip-load_from_bytes.pth", "old-system.pth", "outside.pth", "overlap.safetensors")
"""What every system gets: a payload in either format of torch, a tensor outside of its numbers, a header that lies."""


class Call:
    """An object whose pickle asks for a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def learned_systems() -> list[str]:
    """Names of the variants that take weights, from the packaged configurations."""
    return sorted(_learned())


@functools.cache
def _learned() -> dict[str, str]:
    """Variant that takes weights -> its class."""
    files = [f for f in (resources.files("sweeps") / "variant").iterdir() if f.name.endswith(".yaml")]
    settings = {f.name[:-5]: yaml.safe_load(f.read_text()) for f in files}
    return {name: values["_target_"] for name, values in settings.items() if "weights" in values}


def one_of_each_class() -> list[str]:
    """A variant of each class that takes weights, the smallest by name."""
    by_class: dict[str, str] = {}
    for name, target in sorted(_learned().items(), reverse=True):
        by_class[target] = name
    return sorted(by_class.values())


def raw_call(module: str, name: str, argument: str) -> bytes:
    """Pickle of a call by name; the name need not exist here."""
    text = argument.encode()
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X" + struct.pack("<I", len(text)) + text + b"\x85R."


def write_all(folder: Path, canary: Path) -> list[Path]:
    """Write every hostile file; a payload would make the folder `canary`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = f"mkdir {canary}"
    inner = io.BytesIO()
    torch.save({"a": Call(os.mkdir, str(canary))}, inner)
    calls = {
        "system": Call(os.system, command),
        "mkdir": Call(os.mkdir, str(canary)),
        "eval": Call(eval, f"__import__('os').mkdir({str(canary)!r})"),
        "exec": Call(exec, f"__import__('os').mkdir({str(canary)!r})"),
        "load_from_bytes": Call(torch.storage._load_from_bytes, inner.getvalue()),
        "unpickle": Call(pickle.loads, pickle.dumps(Call(os.mkdir, str(canary)))),
    }
    paths = []

    def at(name: str) -> Path:
        paths.append(folder / name)
        return paths[-1]

    for name, call in calls.items():
        torch.save({"state_dict": {"a": torch.ones(1)}, "x": call}, at(f"zip-{name}.pth"))
        torch.save({"a": torch.ones(1), "x": call}, at(f"old-{name}.pth"), _use_new_zipfile_serialization=False)
        at(f"pickle-{name}.pth").write_bytes(pickle.dumps(call, 2))
    names = [("torch._utils", "_rebuild_x"), ("torch.storage", "_rebuild_x.__globals__"), ("torch", "os.system")]
    for index, (module, name) in enumerate([*names, ("numpy", "f2py.diagnose.os.system"), ("torch.hub", "os.system")]):
        archive(at(f"prefix-{index}.pth"), raw_call(module, name, command))
    good = tensor_state(0, (4,), (1,))
    archive(at("deflated.pth"), good, [("archive/data/0", bytes(64 << 20))], zipfile.ZIP_DEFLATED)
    archive(at("many.pth"), good, [*FLOATS, *((f"archive/x{i}", b"") for i in range(70_000))])
    archive(at("steps.pth"), b"\x80\x02" + b"]" * 4_000_000 + b".")
    archive(at("memo.pth"), b"\x80\x02Nr\xff\xff\xff\x7f.")
    archive(at("length.pth"), b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"x.")
    archive(at("outside.pth"), tensor_state(2, (4,), (1,)), FLOATS)
    archive(at("repeated.pth"), tensor_state(0, (1 << 40,), (0,)), FLOATS)
    archive(at("negative.pth"), tensor_state(0, (-1,), (1,)), FLOATS)
    archive(at("integer.pth"), tensor_state(0, (4,), (1,), b"K\x07"), FLOATS)
    archive(at("cut-numbers.pth"), good)
    headers: dict[str, bytes] = {
        "nested": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "overlap": _header(a=[0, 8], b=[0, 8]),
        "outside": _header(a=[0, 1 << 40]),
        "dtype": _header(a=[0, 8]).replace(b"F32", b"F99"),
        "shape": _header(a=[0, 8]).replace(b"[2]", b"[-2]"),
        "text": b"{",
    }
    for name, header in headers.items():
        at(f"{name}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    at("length.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    metadata = {
        "config-nested": {"config": "[" * 100_000 + "]" * 100_000},
        "config-list": {"config": "[1]"},
        "config-text": {"config": "{"},
        "config-sizes": {"config": json.dumps({"preset": "lite", "dim": -1, "blocks": "many"})},
        "base-itself": {"base": "base-itself"},
        "base-outside": {"base": "../../etc/passwd"},
        "base-ring-a": {"base": "base-ring-b"},
        "base-ring-b": {"base": "base-ring-a"},
    }
    for name, texts in metadata.items():
        save_file({"a": torch.ones(1)}, str(at(f"{name}.safetensors")), texts)
    save_file({"a\n\x1b[31m[/b]": torch.ones(1)}, str(at("names.safetensors")))
    torch.save({"a": torch.ones(100)}, at("whole.pth"))
    at("cut.pth").write_bytes((folder / "whole.pth").read_bytes()[:600])
    at("empty.pth").touch()
    at("page.pth").write_text("<!DOCTYPE html>")
    at("tar.pth").write_bytes(bytes(257) + b"ustar" + bytes(1000))
    os.mkfifo(at("fifo.pth"))
    at("ring.pth").symlink_to("ring.pth")
    at("folder").mkdir()
    more = _odd_files.write_all(folder, canary)
    return [*paths, *more, folder / "absent.pth", Path("/usr"), Path("/dev/zero")]


def _header(**offsets: list[int]) -> bytes:
    return json.dumps({n: {"dtype": "F32", "shape": [2], "data_offsets": o} for n, o in offsets.items()}).encode()


def reader_of(path: Path, number: int) -> str:
    """The system that gets a file: stored configurations and bases mean something to one, the rest goes round."""
    if path.name.startswith(("config-", "base-")):
        return "inter2former_lite"
    systems = one_of_each_class()
    return systems[number % len(systems)]


def attacks(folder: Path) -> Iterator[Attack]:
    """Every hostile file in a folder that holds rows, for one system and for some for all; some for the converter."""
    canary, out = folder / "executed", folder / "out"
    paths = write_all(folder / "inputs", canary)
    again = ("harness.sweep", *GOOD, f"out={out}", *SETTINGS)
    seed(again)
    good, stored = rows(out), tuple((out / "cells").iterdir())
    for number, path in enumerate(paths):
        for system in learned_systems():
            arguments = ("harness.sweep", f"variant={system}", f"variant.weights={path}", f"out={out}", *SETTINGS)
            yield Attack(
                f"{path.name} as {system}", arguments, canary, stored, warm=True,
                again=system != reader_of(path, number) and path.name not in EVERYWHERE,
            )  # fmt: skip
    (folder / "converted").mkdir()
    for number, path in enumerate(paths):
        target = folder / "converted" / f"{number}.safetensors"
        yield Attack(
            f"{path.name} converted", ("harness.convert", str(path), f"out={target}"), canary, harmless=True, warm=True,
            again=number % 8 > 0 and path.name not in EVERYWHERE,
        )  # fmt: skip
    # The table of rows is that of the last command; the good one's rows come back from its cells.
    yield Attack("the good sweep again", again, canary, stored, missing=whole(out, good), harmless=True, warm=True)
