"""A short form of benchmarks/attack.py: every hostile file through the reader, a few of them through the command."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import attack  # noqa: E402
from benchmarks.attacks import Attack, checkpoints  # noqa: E402
from inter2former import weightfiles  # noqa: E402


def test_every_hostile_checkpoint_is_refused_or_read_without_harm(tmp_path):
    canary = tmp_path / "executed"
    paths = checkpoints.write_all(tmp_path / "inputs", canary)
    assert len(paths) >= 230
    read = set()
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                weightfiles.read(path)
            read.add(path.name)
        except weightfiles.WeightFileError as error:
            assert "\n" not in str(error)
    # Whole files of the wrong content; strict loading and the configuration's own checks refuse them later.
    known = {
        "whole.pth", "names.safetensors", *(f"config-{n}.safetensors" for n in ("nested", "list", "text", "sizes")),
        *(f"key-{n}.pth" for n in ("surrogate", "dunder", "lines")), "storage-untyped.pth", "two-kinds.pth",
        *(f"place-{n}.pth" for n in ("nothing-huge", "offset-at-end", "offset-beyond")),
        *(f"st-{n}.safetensors" for n in ("nothing-huge", "more-keys", "no-tensors", "empty-name")),
        *(f"zip-{n}.pth" for n in ("offset-shared", "count", "comment", "names", "in-zip")),
        "header-spaces.safetensors",
        *(path.name for path in paths if path.name.startswith(("config-of-", "value-"))),
    }  # fmt: skip
    assert read == known
    assert not canary.exists()


def test_the_table_tells_clear_traceback_executed_and_lost_apart(tmp_path, monkeypatch):
    """Four stand-ins for commands, with what each column is defined by."""
    canary, rows = tmp_path / "executed", tmp_path / "rows"
    rows.write_text("a\n")

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def outcome(program: str) -> str:
        (tmp_path / "stand_in_of_the_test.py").write_text(program)
        return attack.run(Attack("x", ("stand_in_of_the_test",), canary, (rows,)))[0]

    assert outcome("import sys; print('error: x', file=sys.stderr); sys.exit(2)") == "clear"
    assert outcome("raise KeyError(1)") == "traceback"
    assert outcome(f"import os; os.mkdir({str(canary)!r})") == "executed" and not canary.exists()
    assert outcome(f"open({str(rows)!r}, 'w').close()") == "lost"


def test_outcomes_on_disk_are_not_tried_again(tmp_path):
    item = Attack("x", (), tmp_path / "executed", harmless=True)
    calls = []

    def command(given: Attack) -> attack.Ended:
        calls.append(given.name)
        return attack.Ended(0, "")

    path = tmp_path / "record.jsonl"
    assert attack.Record(path, command).outcome("kind", item)[0] == "clear"
    path.write_text(path.read_text() + '["kind", "torn')
    assert attack.Record(path, command).outcome("kind", item)[0] == "clear" and calls == ["x"]
    assert attack.Record(path, command).outcome("other", item)[0] == "clear" and calls == ["x", "x"]
    assert attack.Record(None, command).outcome("kind", item)[0] == "clear" and len(calls) == 3


@pytest.mark.slow
def test_a_few_through_the_real_command(tmp_path):
    attacks = list(checkpoints.attacks(tmp_path))
    wanted = ("zip-load_from_bytes.pth as ritm_hrnet18s", "config-sizes.safetensors as inter2former_lite")
    for item in attacks:
        if item.name in wanted:
            column, last = attack.run(item)
            assert column == "clear", (item.name, last)
