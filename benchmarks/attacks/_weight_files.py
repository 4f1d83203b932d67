"""Pickles and safetensors that lie: names of every version of torch, numbers that overlap or lie elsewhere."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLOATS = [("archive/data/0", bytes(16))]
REBUILD = (
    "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor", "_rebuild_sparse_tensor",
    "_rebuild_sparse_csr_tensor", "_rebuild_nested_tensor", "_rebuild_meta_tensor_no_storage",
    "_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor", "_rebuild_wrapper_subclass",
    "_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_xla_tensor", "_rebuild_hpu_tensor",
)  # fmt: skip
"""Functions of torch._utils by which versions from 0.1 to 2.9 make tensors."""


def archive(path: Path, pickled: bytes, members: Any = (), compression: int = zipfile.ZIP_STORED) -> None:
    """A torch archive around a pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
        for name, content in members:
            file.writestr(name, content)


def numbers(values: tuple[int, ...]) -> bytes:
    """Pickled tuple of eight-byte integers."""
    return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"


def storage(kind: bytes = b"FloatStorage", count: int = 4, key: bytes = b"0", module: bytes = b"torch") -> bytes:
    """Pickled persistent id of numbers in the file."""
    name = b"(U\x07storagec" + module + b"\n" + kind + b"\nU" + bytes([len(key)]) + key
    return name + b"U\x03cpu\x8a\x08" + struct.pack("<q", count) + b"tQ"


def tensor_state(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...], key: bytes = b"U\x01a", numbers_: bytes | None = None
) -> bytes:
    """Pickle of a state dict with one tensor over four floats."""
    place = b"\x8a\x08" + struct.pack("<q", offset) + numbers(shape) + numbers(strides)
    held = storage() if numbers_ is None else numbers_
    return b"\x80\x02}" + key + b"ctorch._utils\n_rebuild_tensor_v2\n(" + held + place + b"\x89}tRs."


def text(value: str) -> bytes:
    """Pickled text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def call(module: str, name: str, *arguments: str) -> bytes:
    """Pickled call by name, without the pickle's head and end."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"tR"


def beside(value: bytes) -> bytes:
    """Pickle of a state dict: a good tensor, and a value beside it."""
    return tensor_state(0, (4,), (1,))[:-1] + text("x") + value + b"s."


def header(entries: dict[str, Any], room: int = 16) -> bytes:
    """A safetensors file of this header and so many bytes behind it."""
    written = json.dumps(entries).encode()
    return struct.pack("<Q", len(written)) + written + bytes(room)


def entry(shape: list[Any], offsets: list[Any], dtype: str = "F32", **more: Any) -> dict[str, Any]:
    """One tensor of a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def pickles(command: str, canary: str) -> Iterator[tuple[str, bytes]]:
    """Names and pickles of archives with four floats."""
    evil = call("os", "mkdir", canary)
    for name in REBUILD:
        yield f"{name}-odd", beside(f"ctorch._utils\n{name}\n".encode() + b"(" + evil + b"tR")
        yield f"{name}-function", beside(f"ctorch._utils\n{name}\n".encode() + b"(cos\nmkdir\n" + text(canary) + b"tR")
    from_type = b"ctorch._tensor\n_rebuild_from_type_v2\n"
    yield "from-type", beside(from_type + b"(cos\nmkdir\nctorch\nTensor\n(" + text(canary) + b"t}tR")
    deep = 2000
    yield "from-type-deep", beside(
        (from_type + b"(") + (b"ctorch._tensor\n_rebuild_from_type_v2\nctorch\nTensor\n(") * deep
        + b"cos\nmkdir\nctorch\nTensor\n(" + text(canary) + b"t}" + b"t}" * deep + b"tR"
    )  # fmt: skip
    yield "dotted", beside(b"\x8c\x05torch\x8c\x19_utils._rebuild_tensor_v2\x93(" + evil + b"tR")
    yield "dotted-builtins", beside(call("builtins", "eval.__call__", f"__import__('os').mkdir({canary!r})"))
    yield "getattr", beside(b"cbuiltins\ngetattr\n(cos\n__name__\n" + text("mkdir") + b"tR(" + text(canary) + b"tR")
    yield "reduce-of-reduce", beside(b"coperator\nattrgetter\n(" + text("mkdir") + b"tR(cos\n__dict__\ntR")
    yield "class-new", beside(b"csubprocess\nPopen\n(" + text(command) + b"t\x81")
    yield "class-new-ex", beside(b"csubprocess\nPopen\n(" + text(command) + b"t}\x92")
    yield "class-obj", beside(b"(csubprocess\nPopen\n" + text(command) + b"o")
    yield "class-inst", beside(b"(" + text(command) + b"isubprocess\nPopen\n")
    yield "build", beside(b"ctorch.nn\nModule\n)\x81}" + text("__setstate__") + b"cos\nsystem\ns" + b"b")
    yield "extension", b"\x80\x02\x82\x01."
    yield "persistent-text", b"Pstorage\n."
    yield "protocol-9", b"\x80\x09}."
    yield "buffer", b"\x80\x05\x97."
    yield "long-number", b"\x80\x02\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b"."
    yield "long-digits", b"I" + b"9" * 1_000_000 + b"\n."
    yield "negative-length", b"\x80\x02\x8b" + struct.pack("<i", -5) + b"."
    yield "holds-itself", b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s."
    yield "list-of-itself", b"\x80\x02]q\x00h\x00a."
    yield "pairs-of-pairs", b"\x80\x02N" + b"q\x00h\x00\x86" * 200 + b"."
    yield "key-of-pairs", b"\x80\x02}" + b"N" + b"q\x00h\x00\x86" * 60 + b"K\x01s."
    yield "marks", b"\x80\x02" + b"(" * 1_000_000 + b"t."
    yield "pops", b"\x80\x02000."
    yield "no-end", b"\x80\x02}"
    yield "empty-state", b"\x80\x02}."
    for name, key in {
        "none": b"N", "bytes": b"C\x01a", "pair": b"NN\x86", "true": b"\x88", "large": b"\x8a\x0a" + b"\x7f" * 10,
        "surrogate": b"X\x03\x00\x00\x00\xed\xa0\x80", "long": text("k" * 5000), "dunder": text("__class__"),
        "lines": text("a\nb\x1b[31m[/b]\u202e"),
    }.items():  # fmt: skip
        yield f"key-{name}", tensor_state(0, (4,), (1,), key)
    for name, held in {
        "negative": storage(count=-4), "endless": storage(count=(1 << 62)), "unknown": storage(b"QInt8Storage"),
        "untyped": storage(b"UntypedStorage", 16, module=b"torch.storage"), "elsewhere": storage(key=b"../../x"),
        "no-tuple": b"K\x07Q", "function": storage(b"load"), "other-module": storage(b"system", module=b"os"),
    }.items():  # fmt: skip
        yield f"storage-{name}", tensor_state(0, (4,), (1,), numbers_=held)
    for name, (offset, shape, strides) in {
        "offset-negative": (-1, (1,), (1,)), "stride-negative": (3, (4,), (-1,)), "stride-huge": (0, (2,), (1 << 61,)),
        "product": (0, (1 << 31, 1 << 31, 1 << 31), (0, 0, 0)), "nothing-huge": (0, (0, 1 << 62), (1, 1)),
        "strides-missing": (0, (4,), ()), "many-sides": (0, (1,) * 100, (1,) * 100), "repeats": (0, (2, 4), (0, 1)),
        "offset-at-end": (4, (0,), (1,)), "offset-beyond": (1 << 61, (0,), (1,)),
    }.items():  # fmt: skip
        yield f"place-{name}", tensor_state(offset, shape, strides)
    two = tensor_state(0, (4,), (1,))[:-1]
    other = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(b"DoubleStorage", 2) + b"K\x00" + numbers((2,))
    yield "two-kinds", two + text("b") + other + numbers((1,)) + b"\x89}tRs."


def tables(half: int = 1 << 61) -> Iterator[tuple[str, bytes]]:
    """Names and contents of safetensors files."""
    yield "st-same", header({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, 12)
    yield "st-gap", header({"a": entry([2], [8, 16])})
    yield "st-behind", header({"a": entry([2], [0, 8])}, 4096)
    yield "st-huge", header({"a": entry([half], [0, half * 4])})
    yield "st-overflow", header({"a": entry([half, 8], [0, 0])})
    yield "st-nothing-huge", header({"a": entry([0, half], [0, 0])}, 0)
    yield "st-nothing-larger", header({"a": entry([0, (1 << 62) - 1, (1 << 62) - 1], [0, 0])}, 0)
    yield "st-negative", header({"a": entry([2], [-8, 0])})
    yield "st-turned", header({"a": entry([2], [8, 0])})
    yield "st-float", header({"a": entry([2.0], [0, 8])})
    yield "st-true", header({"a": entry([True, 2], [0, 8])})
    yield "st-text", header({"a": entry(["2"], ["0", "8"])})
    yield "st-three", header({"a": entry([2], [0, 8, 16])})
    yield "st-dtype", header({"a": entry([2], [0, 8], [])})  # type: ignore[arg-type]
    yield "st-deep-shape", header({"a": entry([1] * 5000, [0, 4])})
    yield "st-more-keys", header({"a": entry([4], [0, 16], more=[1], strides=[0])})
    yield "st-list", header([entry([2], [0, 8])])  # type: ignore[arg-type]
    yield "st-no-tensors", header({"__metadata__": {"a": "b"}}, 0)
    yield "st-metadata-number", header({"__metadata__": {"a": 1}, "a": entry([4], [0, 16])})
    yield "st-metadata-list", header({"__metadata__": [], "a": entry([4], [0, 16])})
    yield "st-long-name", header({"k" * 100_000: entry([4], [0, 16])})
    yield "st-odd-name", header({"a\u0000\u202e\ud83d": entry([4], [0, 16])})
    yield "st-empty-name", header({"": entry([4], [0, 16])})
    yield "st-many", header({f"t{i}": entry([0], [0, 0]) for i in range(70_000)}, 0)
    yield "st-nan", header({"a": entry([4], [0, 16])}).replace(b"[4]", b"NaN")
    yield "st-utf-16", struct.pack("<Q", 40) + '{"__metadata__":{}}'.encode("utf-16-le") + bytes(2)
    yield "st-twice", struct.pack("<Q", 16) + b'{"a":{},"a":{} }' + bytes(8)
    yield "st-digits", struct.pack("<Q", 10_006) + b'{"a":' + b"9" * 10_000 + b"}"
