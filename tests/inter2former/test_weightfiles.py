"""The reader of weight files: what it takes equals torch's own reader; what it refuses is refused in one line.

Expected tensors are the ones that were written, or what `torch.load` reads from a file that this test wrote itself.
"""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import struct
import sys
import time
import types
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from inter2former import weightfiles
from inter2former.weightfiles import WeightFileError, limits, read


def refused(path) -> str:
    """The one line with which a file is refused."""
    with warnings.catch_warnings(), pytest.raises(WeightFileError) as caught:
        warnings.simplefilter("ignore")
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


STATE = {
    "float": torch.arange(12.0).reshape(3, 4).t(),
    "half": torch.arange(5, dtype=torch.float16),
    "brain": torch.arange(5, dtype=torch.bfloat16),
    "double": torch.tensor(0.1, dtype=torch.float64),
    "long": torch.tensor(7),
    "bool": torch.tensor([True, False]),
    "byte": torch.arange(3, dtype=torch.uint8),
    "empty": torch.zeros(0, 3),
    "parameter": nn.Parameter(torch.ones(2)),
}
STATE["tied"] = STATE["float"]
STATE["view"] = STATE["float"].t()[1:, 2:]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("wrap", ["plain", "ordered", "wrapped", "parallel"])
def test_what_torch_writes_is_read_bit_by_bit(tmp_path, zipped, protocol, wrap):
    content = {
        "plain": STATE,
        "ordered": collections.OrderedDict(STATE),
        "wrapped": {"epoch": 3, "model": {"state_dict": STATE}, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        "parallel": {"state_dict": {f"module.{key}": value for key, value in STATE.items()}},
    }[wrap]
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    file = read(path)
    assert file.state.keys() == STATE.keys() and not file.dropped
    for key, value in STATE.items():
        got = file.state[key]
        assert got.dtype == value.dtype and got.stride() == value.stride() and torch.equal(got, value.detach()), key
    # Tied entries share their memory, as torch reads them.
    assert file.state["tied"].data_ptr() == file.state["float"].data_ptr()


def test_a_modules_state_and_own_memory(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    torch.save(module.state_dict(), tmp_path / "a.bin")
    state = read(tmp_path / "a.bin").state
    expected = torch.load(tmp_path / "a.bin", weights_only=True)
    assert list(state) == list(expected) and all(torch.equal(state[key], expected[key]) for key in expected)
    (tmp_path / "a.bin").write_bytes(b"")  # nothing is left mapped
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_the_content_decides_not_the_suffix(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    save_file({"a": torch.ones(2)}, str(tmp_path / "b.pth"))
    assert all(torch.equal(read(tmp_path / name).state["a"], torch.ones(2)) for name in ("a.safetensors", "b.pth"))


def test_a_header_whose_length_looks_like_a_pickle(tmp_path):
    for padding in range(256):  # among the lengths is one that begins with pickle's first byte, 0x80
        header = json.dumps({"a": entry()}).encode()
        header_file(tmp_path / "a.safetensors", header + b" " * padding, np.ones(2, "<f4").tobytes())
        assert torch.equal(read(tmp_path / "a.safetensors").state["a"], torch.ones(2))


def module_of(name: str, **members) -> types.ModuleType:
    module = types.ModuleType(name)
    for key, value in members.items():
        value.__module__, value.__qualname__ = name, key
        setattr(module, key, value)
    sys.modules[name] = module
    return module


def test_what_released_files_hold_beside_tensors_is_left_out_and_named(tmp_path):
    """RITM's and SimpleClick's configurations, mmengine's histories, argparse's options, numpy's numbers."""
    import argparse

    class EasyDict(dict):
        pass

    class HistoryBuffer:
        def __init__(self):
            self.values = np.arange(4.0)

    names = ["easydict_of_the_test", "mmengine_of_the_test"]
    module_of(names[0], EasyDict=EasyDict)
    module_of(names[1], HistoryBuffer=HistoryBuffer)
    content = {
        "state_dict": {"a": torch.arange(3.0)},
        "config": EasyDict(width=18, nested=EasyDict(x=1)),
        "message_hub": {"loss": HistoryBuffer()},
        "args": argparse.Namespace(batch=32),
        "best": np.float64(0.5),
    }
    try:
        torch.save(content, tmp_path / "weights.pth")
        torch.save(content, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    finally:
        for name in names:
            del sys.modules[name]
    for name in ("weights.pth", "legacy.pth"):
        with pytest.warns(weightfiles.DroppedWarning, match="easydict_of_the_test.EasyDict"):
            file = read(tmp_path / name)
        assert list(file.state) == ["a"] and torch.equal(file.state["a"], torch.arange(3.0))
        # Torch writes pickle protocol 2, where numpy's values are calls of numpy's own functions.
        assert {"easydict_of_the_test.EasyDict", "mmengine_of_the_test.HistoryBuffer", "argparse.Namespace"} < {
            *file.dropped
        }
        assert any("numpy" in name for name in file.dropped) and not file.hostile
    assert not any(name in sys.modules for name in names)


class Call:
    """An object whose pickle asks for a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def raw_call(module: str, name: str, argument: str) -> bytes:
    """Pickle of a call of a name that need not exist here, in instructions of protocol 2."""
    return (
        b"\x80\x02c"
        + f"{module}\n{name}\n".encode()
        + b"X"
        + struct.pack("<I", len(argument))
        + argument.encode()
        + b"\x85R."
    )


def archive(path, pickled: bytes, members=(), compression=zipfile.ZIP_STORED):
    """A torch archive around a pickle of ours."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
        for name, content in members:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle"])
def test_nothing_that_a_file_names_is_called(tmp_path, kind, monkeypatch):
    """`_load_from_bytes` unpickles without limits; `_rebuild` was a prefix that any module's function could have."""
    import os as system

    canary = tmp_path / "ran"
    inner = io.BytesIO()
    torch.save({"a": Call(system.mkdir, str(canary))}, inner)
    module_of("_rebuild_of_the_test", _rebuild_x=lambda path: system.mkdir(path))
    calls = {
        "command": Call(system.mkdir, str(canary)),
        "load from bytes": Call(torch.storage._load_from_bytes, inner.getvalue()),
        "eval": Call(eval, f"__import__('os').mkdir({str(canary)!r})"),
    }
    for name, call in calls.items():
        path = tmp_path / f"{name}.pth"
        content = {"state_dict": {"a": torch.ones(1), "b": call}}
        if kind == "plain pickle":
            path.write_bytes(pickle.dumps({"state_dict": {"b": call}}, 2))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
        message = refused(path)
        assert "called" in message or "plain pickle" in message, name
    for module, name in (("torch._utils", "_rebuild_x"), ("torch.storage", "_rebuild_x.__globals__"), ("os", "system")):
        refused(archive(tmp_path / "raw.pth", raw_call(module, name, f"mkdir {canary}")))
    assert not canary.exists()


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> bytes:
    """Instructions that name a storage."""
    text = b"(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX" + struct.pack("<I", len(key)) + key.encode()
    return text + b"X\x03\x00\x00\x00cpu\x8a\x08" + struct.pack("<q", count) + b"tQ"


def tensor(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int = 4) -> bytes:
    """Instructions of a tensor of 4 floats under the key 0."""

    def number(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    sizes = b"(" + b"".join(map(number, shape)) + b"t" + b"(" + b"".join(map(number, strides)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(count=count) + number(offset) + sizes + b"\x89}tR"


def state_of(tensor: bytes, key: bytes = b"X\x01\x00\x00\x00a") -> bytes:
    return b"\x80\x02}" + key + tensor + b"s."


FOUR = [("archive/data/0", np.arange(4, dtype="<f4").tobytes())]


def test_the_hand_made_archive_is_read(tmp_path):
    path = archive(tmp_path / "a.pth", state_of(tensor(1, (3,), (1,))), FOUR)
    assert read(path).state["a"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "pickled, cause",
    [
        (state_of(tensor(0, (5,), (1,))), "ends at number 5 of 4"),
        (state_of(tensor(2, (3,), (1,))), "ends at number 5 of 4"),
        (state_of(tensor(0, (1 << 40,), (0,))), "repeats the 4 numbers"),
        (state_of(tensor(0, (-1,), (1,))), "a size, stride or offset that is -1"),
        (state_of(tensor(-4, (1,), (1,))), "a size, stride or offset that is -4"),
        (state_of(tensor(0, (1,), (-1,))), "a size, stride or offset that is -1"),
        (state_of(tensor(0, (1, 1), (1,))), "2 sizes and 1 strides"),
        (state_of(tensor(0, (1,) * 40, (1,) * 40)), "16 dimensions"),
        (state_of(tensor(0, (8,), (1,), count=8)), "missing or cut off"),
        (state_of(tensor(0, (4,), (1,)), b"K\x07"), "7 (int), which is no name"),
        (state_of(tensor(0, (4,), (1,)), b"X\x00\x10\x00\x00" + b"k" * 4096), "name of 4,096 characters"),
        (b"\x80\x02" + b"]" * 4_000_000 + b".", "3,000,000 instructions"),
        (b"\x80\x02(lr\xff\xff\xff\x7f.", "no state dict"),
        (b"\x80\x05\x8e" + struct.pack("<Q", 1 << 60) + b"x.", "breaks off"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"x.", "breaks off"),
        (b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.", "no state dict"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02Pdevice\n.", "PERSID"),
        (b"\x80\x02h\x05.", "breaks off"),
        (b"\x80\x02R.", "breaks off"),
        (b"\x80\x02}", "breaks off"),
        (b"", "breaks off"),
    ],
)
def test_tensors_and_pickles_that_lie(tmp_path, pickled, cause):
    assert cause in refused(archive(tmp_path / "a.pth", pickled, FOUR))


def test_bombs_are_refused_before_anything_is_unpacked(tmp_path):
    started = time.process_time()
    good = state_of(tensor(0, (4,), (1,)))
    path = archive(tmp_path / "deflated.pth", good, [("archive/data/0", b"\0" * (64 << 20))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20 and "compressed members" in refused(path)
    many = archive(tmp_path / "many.pth", good, [*FOUR, *((f"archive/x{i}", b"") for i in range(limits.MOST_ENTRIES))])
    assert "members; at most" in refused(many)
    # Two entries of the table that point to the same bytes: the zip bomb without compression.
    content = archive(tmp_path / "a.pth", good, [("archive/data/0", b"\0" * 4000)]).read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.rindex(b"PK\x05\x06")
    table, tail = content[start:end], bytearray(content[end:])
    last = table[table.rindex(b"PK\x01\x02") :]
    extra = b"".join(last.replace(b"archive/data/0", f"archive/data/{i}".encode()) for i in range(1, 10))
    struct.pack_into("<HHI", tail, 8, 3 + 9, 3 + 9, len(table) + len(extra))
    (tmp_path / "overlap.pth").write_bytes(content[:start] + table + extra + tail)
    assert "would unpack to" in refused(tmp_path / "overlap.pth")
    # A list that is given to a million calls.
    big = b"\x80\x02(" + b"K\x01" * 1000 + b"lq\x00" + (b"c__builtin__\nset\nh\x00\x85R0") * 20_000 + b"."
    assert "instructions" in refused(archive(tmp_path / "calls.pth", big))
    assert time.process_time() - started < 60


def header_file(path, header: bytes, body: bytes = b"", length: int | None = None):
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + body)
    return path


def entry(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


@pytest.mark.parametrize(
    "header, cause",
    [
        ({"a": entry(), "b": entry()}, "overlaps a"),
        ({"a": entry(), "b": entry(data_offsets=[12, 20])}, "leaves a gap"),
        ({"a": entry(data_offsets=[0, 1 << 50], shape=[1 << 48])}, "tensors end at byte"),
        ({"a": entry(shape=[-2])}, "no proper shape"),
        ({"a": entry(shape=[1 << 70])}, "no proper shape"),
        ({"a": entry(shape=[1] * 40)}, "no proper shape"),
        ({"a": entry(shape=[3])}, "cannot lie in 8 bytes"),
        ({"a": entry(data_offsets=[8, 0])}, "cannot lie in -8 bytes"),
        ({"a": entry(data_offsets=[0])}, "no proper data_offsets"),
        ({"a": entry(dtype="F99")}, "unknown type F99"),
        ({"a": entry(dtype=["F32"])}, "unknown type list"),
        ({"a": {"dtype": "F32"}}, "no dtype, shape and data_offsets"),
        ({"a": 3}, "no dtype, shape and data_offsets"),
        ({"k" * 4096: entry()}, "name of 4,096 characters"),
        ({"a": entry(), "__metadata__": {"x": 1}}, "no texts"),
        ({"a": entry(), "__metadata__": [1]}, "no texts"),
        (b'{"a":' * 100_000 + b"}" * 100_000, "nested deeper than 32"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper than 32"),
        (b'{"a":1,"a":1}', "a name comes twice"),
        (b'{"a":NaN}', "NaN is no JSON number"),
        (b'{"a":' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"\xff":1}', "is not JSON"),
        (b"{", "damaged"),
    ],
)
def test_safetensors_headers_that_lie(tmp_path, header, cause):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    assert cause in refused(header_file(tmp_path / "a.safetensors", text, b"\0" * 8))


def test_safetensors_of_wrong_length(tmp_path):
    good = json.dumps({"a": entry()}).encode()
    assert "a header of 1,152," in refused(header_file(tmp_path / "a.safetensors", good, b"\0" * 8, 1 << 60))
    assert "tensors end at byte 8 of 4" in refused(header_file(tmp_path / "b.safetensors", good, b"\0" * 4))
    assert "tensors end at byte 8 of 9" in refused(header_file(tmp_path / "c.safetensors", good, b"\0" * 9))
    path = tmp_path / "d.safetensors"
    header_file(path, b"{" + b" " * (limits.MOST_HEADER + 10) + b"}")
    assert "at most 16,777,216" in refused(path)


def test_brackets_in_names_are_no_nesting():
    assert limits.parse_json(json.dumps({'a"[[\\': "[" * 100, "b\\\\": "{" * 100}), "x")['a"[[\\'] == "[" * 100
    deep = json.loads("[" * 32 + "]" * 32)
    assert limits.parse_json("[" * 32 + "]" * 32, "x") == deep
    with pytest.raises(WeightFileError, match="x is nested deeper"):
        limits.parse_json("[" * 33 + "]" * 33, "x")


def test_what_is_no_plain_file(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.pth")
    assert "is a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "fifo.pth")
    assert "FIFO, socket or device" in refused(tmp_path / "fifo.pth")
    assert "FIFO, socket or device" in refused("/dev/zero")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    assert "cannot be opened" in refused(tmp_path / "ring")
    assert "cannot be opened" in refused(tmp_path / ("x" * 300))
    assert "cannot be opened" in refused("a\0b")
    (tmp_path / "empty.pth").touch()
    assert "empty" in refused(tmp_path / "empty.pth")
    (tmp_path / "tar.pth").write_bytes(b"\0" * 257 + b"ustar" + b"\0" * 1000)
    assert "tar archive" in refused(tmp_path / "tar.pth")
    with zipfile.ZipFile(tmp_path / "pictures.pth", "w") as file:
        file.writestr("a.txt", "words")
    assert "torch's data.pkl" in refused(tmp_path / "pictures.pth")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    assert "TorchScript" in refused(tmp_path / "script.pt")


def test_a_huge_file_with_holes_is_not_taken_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(weightfiles, "most_tensor_bytes", lambda: 1 << 20)
    save_file({"a": torch.zeros(1 << 20)}, str(tmp_path / "a.safetensors"))
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert "GiB of tensors" in refused(tmp_path / name)


def test_cut_at_any_byte(tmp_path):
    """Whatever length a broken download has, it is refused in one line."""
    torch.save({"a": torch.arange(3.0)}, tmp_path / "zip")
    torch.save({"a": torch.arange(3.0)}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    save_file({"a": torch.arange(3.0)}, str(tmp_path / "safe"))
    for name in ("zip", "legacy", "safe"):
        content = (tmp_path / name).read_bytes()
        for length in range(0, len(content), 7):
            (tmp_path / "cut").write_bytes(content[:length])
            refused(tmp_path / "cut")


def test_any_changed_byte_ends_in_tensors_or_one_line(tmp_path):
    """Two thousand changed bytes; no other exception than the one line, and nothing is called."""
    torch.save({"a": torch.arange(3.0), "b": {"x": 1}}, tmp_path / "zip")
    torch.save({"a": torch.arange(3.0)}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    save_file({"a": torch.arange(3.0)}, str(tmp_path / "safe"), {"base": "b", "config": "{}"})
    random = np.random.default_rng(0)
    outcomes = collections.Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("zip", "legacy", "safe"):
            content = (tmp_path / name).read_bytes()
            for _ in range(400):
                changed = bytearray(content)
                changed[random.integers(len(content))] = random.integers(256)
                (tmp_path / "changed").write_bytes(changed)
                try:
                    outcomes["read"] += bool(read(tmp_path / "changed").state)
                except WeightFileError as error:
                    assert "\n" not in str(error)
                    outcomes["refused"] += 1
    assert outcomes["read"] > 100 and outcomes["refused"] > 200


@pytest.mark.parametrize(
    "bases, cause",
    [
        ({"a": "a"}, "ring or a long chain (a.safetensors -> a.safetensors)"),
        ({"a": "b", "b": "a"}, "a.safetensors -> b.safetensors -> a.safetensors"),
        ({"a": "b", "b": "c", "c": "d", "d": "e", "e": "f"}, "long chain"),
        ({"a": "../b"}, "no name of a file beside it"),
        ({"a": "/etc/passwd"}, "no name of a file beside it"),
        ({"a": ""}, "no name of a file beside it"),
        ({"a": "b"}, "put that file beside it"),
    ],
)
def test_bases(tmp_path, bases, cause):
    for name, base in bases.items():
        save_file({name: torch.zeros(1)}, str(tmp_path / f"{name}.safetensors"), {"base": base})
    assert cause in refused(tmp_path / "a.safetensors")


def test_names_in_messages_are_one_printable_line():
    assert limits.shown("a\nb\x1b[31m\ud800") == "a b\\x1b[31m\\ud800"
    assert limits.shown("x" * 1000) == "x" * 79 + "…"
