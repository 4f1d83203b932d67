"""Conversion: tensors come out bit by bit, nothing runs, and the process that reads can do no harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]


def convert(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.convert", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


class Attack:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_tensors_bit_by_bit_and_what_was_left_out(tmp_path):
    values = {
        "turned": torch.arange(12.0).reshape(3, 4).t(),
        "brain": torch.arange(5, dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 2),
        "complex": torch.ones(2, dtype=torch.complex64),
    }
    content = {"state_dict": {**values, "tied": values["turned"]}, "hook": Attack(tmp_path / "ran")}
    torch.save(content, tmp_path / "a.pth")
    done = convert(str(tmp_path / "a.pth"))
    assert done.returncode == 0, done.stderr
    with safe_open(str(tmp_path / "a.safetensors"), "pt") as file:
        assert set(file.keys()) == {*values, "tied"} - {"complex"}
        for name in file.keys():  # noqa: SIM118
            expected = content["state_dict"][name]
            assert file.get_tensor(name).dtype == expected.dtype and torch.equal(file.get_tensor(name), expected), name
    assert "6 tensors" in done.stderr and "posix.mkdir" in done.stderr and "complex (complex64)" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "a.safetensors"]


@pytest.mark.parametrize(
    "content, arguments, cause",
    [
        (b"words", (), "no weight file"),
        (None, (), "does not exist"),
        (b"words", ("out=b.txt",), "name it *.safetensors"),
        (b"words", ("out=nowhere/b.safetensors",), "no folder"),
        (b"words", ("out=a.safetensors",), "exists already"),
        (b"words", ("b.pth",), "which file?"),
    ],
)
def test_one_line_and_nothing_left_behind(tmp_path, content, arguments, cause):
    (tmp_path / "a.safetensors").touch()
    if content is not None:
        (tmp_path / "c.pth").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    done = convert(str(tmp_path / "c.pth"), *(text.replace("out=", f"out={tmp_path}/") for text in arguments))
    assert done.returncode == 2 and cause in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="confinement is Linux's")
def test_the_confined_process_can_read_and_compute_only(tmp_path):
    """Each attempt after `confine` must fail; reading and what was open before go on."""
    (tmp_path / "readable").write_text("words")
    program = f"""
import json, os, socket, subprocess, torch
from inter2former.weightfiles.confinement import confine
kept = open({str(tmp_path / "kept")!r}, "w")
words = confine(1 << 30, 1 << 20, 60)
attempts = {{
    "connect": lambda: socket.create_connection(("127.0.0.1", 9)),
    "socket": lambda: socket.socket(),
    "program": lambda: subprocess.run(["/bin/true"]),
    "fork": os.fork,
    "write": lambda: open({str(tmp_path / "new")!r}, "w"),
    "append": lambda: open({str(tmp_path / "readable")!r}, "a"),
    "update": lambda: os.open({str(tmp_path / "readable")!r}, os.O_RDWR),
    "rename": lambda: os.rename({str(tmp_path / "readable")!r}, {str(tmp_path / "other")!r}),
    "remove": lambda: os.remove({str(tmp_path / "readable")!r}),
    "folder": lambda: os.mkdir({str(tmp_path / "folder")!r}),
    "kill": lambda: os.kill(os.getppid(), 0),
    "memory": lambda: bytearray(8 << 30),
}}
outcome = {{}}
for name, attempt in attempts.items():
    try:
        attempt()
        outcome[name] = "done"
    except (OSError, MemoryError) as error:
        outcome[name] = type(error).__name__
kept.write(open({str(tmp_path / "readable")!r}).read() + str(int(torch.ones(1000).sum())))
kept.close()
print(json.dumps([words, outcome]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    words, outcome = json.loads(done.stdout)
    assert (tmp_path / "kept").read_text() == "words1000"
    if not any("no other programs" in word for word in words):
        pytest.skip(f"no seccomp here: {words}")
    assert "done" not in outcome.values(), outcome
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "readable"]
