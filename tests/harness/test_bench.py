"""The one entry point: it names every command, and hands the rest of the arguments on."""

from __future__ import annotations

import importlib
import sys

import pytest

from harness import bench


def test_it_lists_its_commands_without_loading_one(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["is-bench"])
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"{name} was loaded"))
    bench.main()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ")} == set(bench.COMMANDS)


def test_an_unknown_command_names_the_nearest(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["is-bench", "swep"])
    with pytest.raises(SystemExit) as end:
        bench.main()
    assert end.value.code == 2 and "sweep" in capsys.readouterr().err


def test_every_command_has_a_main_and_gets_the_other_arguments(monkeypatch):
    for name, (module, _) in bench.COMMANDS.items():
        seen = []
        monkeypatch.setattr(importlib.import_module(module), "main", lambda: seen.append(list(sys.argv)))  # noqa: B023
        monkeypatch.setattr(sys, "argv", ["is-bench", name, "out=x"])
        bench.main()
        assert seen == [["is-bench", "out=x"]], name
