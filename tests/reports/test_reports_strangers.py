"""Reports of runs from anybody: nothing of them is run, what cannot be read is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import UserError
from reports import __main__ as command
from reports.pages import assemble

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from simulated import run_folder

    return run_folder(tmp_path_factory.mktemp("runs") / "small", ["near", "colourful"], ["shapes"], count=2)


@pytest.fixture()
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "downloaded"))


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take most of the time of a page, and nothing here is about them."""
    monkeypatch.setattr(assemble, "all_plots", lambda run: [])


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_the_payload_of_a_downloaded_run_is_named_and_not_run(copy: Path, tmp_path: Path) -> None:
    """The attack of the issue: a data set, and a variant with one inside, whose `_target_` touches a file."""
    canary = tmp_path / "ran"
    call = {"_target_": "os.mkdir", "path": str(canary)}

    def hostile(config: dict[str, Any]) -> None:
        config["datasets"]["shapes"]["config"] = call
        config["variants"]["near"] = {"_target_": "baselines.grabcut.OpenCVGrabCut", "iterations": call}

    assert command.run([f"run={changed(copy, hostile)}"]) == 0
    assert not canary.exists()
    page = (copy / "report" / "index.html").read_text()
    assert "not built: class os.mkdir of the run&#39;s own configuration; give --config-dir DIR" in page


def test_the_users_folder_in_the_same_command(copy: Path, tmp_path: Path) -> None:
    """The simulated classes lie beside these tests: with that folder the episodes are replayed, without it named."""
    assert command.run([f"run={copy}", "--config-dir", str(HERE), f"out={tmp_path / 'with'}"]) == 0
    assert (tmp_path / "with" / "index.html").read_text().count('class="player"') >= 2
    assert command.run([f"run={copy}", f"out={tmp_path / 'without'}"]) == 0
    page = (tmp_path / "without" / "index.html").read_text()
    assert 'class="player"' not in page and "not built: class simulated.Shapes" in page


def test_the_environment_is_not_told(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that asks for a variable's value as a path: not read; where the user allows it, not shown."""
    monkeypatch.setenv("A_SECRET", "/no/such/hunter2-folder")

    def curious(config: dict[str, Any]) -> None:
        config["datasets"]["shapes"]["config"] = {
            "_target_": "harness.datasets.folder.Folder", "root": "${oc.env:A_SECRET}"
        }  # fmt: skip

    changed(copy, curious)
    for allowed in ([], ["environment=A_SECRET"]):
        assert command.run([f"run={copy}", *allowed]) == 0
        for file in (copy / "report").glob("*.*"):
            assert b"hunter2" not in file.read_bytes(), file
        page = (copy / "report" / "index.html").read_text()
        assert ("no such" if allowed else "give environment=A_SECRET to allow it") in page


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    return "\n".join([*lines, *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "!!python/object/apply:os.mkdir [{canary}]"),
        ("config.yaml", "a: !!python/object/apply:os.mkdir [{canary}]"),
        ("config.yaml", bomb()),
        ("config.yaml", "a: &a [*a]"),
        ("config.yaml", "a: " + "[" * 20_000),
        ("config.yaml", "a: b\n" * 3_000_000),
        ("config.yaml", "- a"),
        ("machine.json", "[" * 100_000),
        ("machine.json", "[1]"),
        ("machine.json", " " * (9 << 20) + "{{}}"),
    ],
    ids=["object", "nested object", "bomb", "ring", "deep", "large", "list", "deep json", "list json", "large json"],
)
def test_files_that_are_no_plain_values(copy: Path, tmp_path: Path, name: str, content: str) -> None:
    (copy / name).write_text(content.replace("{canary}", str(tmp_path / "ran")))
    with pytest.raises(UserError, match=name):
        command.run([f"run={copy}", "episodes=0"])
    assert not (tmp_path / "ran").exists()


ODD: list[Any] = [None, 3, "text", [1], [[]], {"a": [{"b": 1}]}, float("nan"), {"config": 5}, {"config": {"root": {}}}]


@pytest.mark.parametrize("key", ["ablation", "variants", "datasets", "protocol", "command", "schema"])
def test_any_value_in_any_place_still_gives_a_page(copy: Path, key: str) -> None:
    from reports.pages import page
    from reports.read import frames

    inside = [dict.fromkeys(("name", "title", "base", "shapes", "near"), value) for value in ODD]
    for whole in [*ODD, *inside]:
        changed(copy, lambda config, whole=whole: config.__setitem__(key, whole))  # type: ignore[misc]
        (copy / "machine.json").write_text(json.dumps({"commit": whole, "cpus": whole}))
        run = frames.read(copy)
        assert "<html" in page.render(run, [], [])
