"""Resuming: only what is missing is built and done, and whatever changed since is said.

The code under test here is a copy of the user's folder, so that it can be edited between two runs.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_sweep import DETERMINISTIC, FOLDER, QUIET

from harness import sweep as command
from harness.errors import UserError
from harness.planning import code
from harness.planning.identity import require_stable
from harness.results.machines import Machines
from harness.results.store import Store


class Folder:
    """A sweep of the user's folder, in this process."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]):
        self.source, self.out, self._capsys = root / "mine", root / "out", capsys
        shutil.copytree(FOLDER, self.source, ignore=shutil.ignore_patterns("__pycache__"))

    def run(self, *arguments: str) -> str:
        """What it says on standard error."""
        for cached in (code._source, code._top, code._tree, code._reach, code._normal_form, code.of):
            cached.cache_clear()  # a sweep's code does not change while it runs
        for name in ("toy_systems", "unruly"):
            sys.modules.pop(name, None)
        sys.path[:] = [p for p in sys.path if not Path(p, "toy_systems.py").exists()]
        self._capsys.readouterr()
        basic = ["+ablation=radius", "dataset=squares", "report=false", "protocol.clicks=3", *QUIET]
        chosen = [a for a in basic if a.split("=")[0] not in {b.split("=")[0] for b in arguments}]
        measure = [] if any(a.startswith("measure") for a in arguments) else ["measure=none"]
        self.code = command.run(["--config-dir", str(self.source), *chosen, *measure, f"out={self.out}", *arguments])
        return " ".join(self._capsys.readouterr().err.split())

    def edit(self, old: str, new: str) -> None:
        path = self.source / "toy_systems.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def rows(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "clicks.parquet")

    def cells(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (self.out / "cells").iterdir()}


@pytest.fixture
def folder(tmp_path, capsys, monkeypatch) -> Folder:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    return Folder(tmp_path, capsys)


def test_a_variant_that_cannot_be_built_on_resume_keeps_what_it_had(folder):
    """Before, an error line was added for every sample, and the last line won."""
    folder.run("dataset.bad=square1")
    before = folder.rows()
    folder.edit("self.encoded = 0", "raise RuntimeError('no memory')")
    folder.run()
    assert folder.code == 1
    pd.testing.assert_frame_equal(folder.rows(), before)
    failures = pd.read_csv(folder.out / "failures.csv")
    assert list(failures["sample"]) == ["square1"] and "no memory" in failures["error"][0]


def test_a_variant_that_misses_nothing_is_not_built(folder):
    folder.run()
    before = folder.cells()
    folder.edit("self.encoded = 0", "raise RuntimeError('no memory')")
    folder.run()
    assert folder.code == 0 and folder.cells() == before


def test_other_code_is_said_and_kept(folder):
    folder.run("dataset.bad=square1")
    folder.edit("<= self.owner.radius**2", "<= (self.owner.radius + 1) ** 2")
    said = folder.run()
    assert "2 of 2 cells hold episodes made by other code" in said and "code=redo makes them again" in said
    digests = folder.rows().groupby("sample")["code"].unique()
    assert digests["square1"][0] != digests["square0"][0] and all(len(d) == 1 for d in digests)


def test_other_code_is_done_again_if_asked_and_nothing_is_thrown_away(folder):
    folder.run()
    before, old = folder.cells(), folder.rows()
    folder.edit("<= self.owner.radius**2", "<= (self.owner.radius + 1) ** 2")
    assert "made again (code=redo)" in folder.run("code=redo")
    assert {name: data for name, data in folder.cells().items() if name.endswith(".older")} == {
        f"{name}.older": data for name, data in before.items()
    }
    new = folder.rows()
    assert len(new) == len(old) and set(new["code"]).isdisjoint(old["code"])
    assert not new["iou"].equals(old["iou"])


def test_a_comment_or_docstring_is_no_other_code(folder):
    folder.run()
    before = folder.cells()
    folder.edit("    def encode(self, image):\n", '    def encode(self, image):\n        """Shape."""  # a comment\n')
    folder.edit("import time\n", "\n\nimport time\n")
    assert "other code" not in folder.run() and folder.cells() == before


def test_a_choice_that_is_none_is_refused(folder):
    with pytest.raises(UserError, match="code='forget'.*Allowed: keep, redo"):
        folder.run("code=forget")


def test_code_follows_imports_of_its_project_alone(tmp_path, monkeypatch):
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "__init__.py").write_text("")
    (tmp_path / "mypackage" / "model.py").write_text("import numpy\ndef make():\n    from . import parts\n")
    (tmp_path / "mypackage" / "parts.py").write_text("SIZE = 3\n")
    (tmp_path / "mypackage" / "unused.py").write_text("SIZE = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {p.name for p in code._reach("mypackage.model")} == {"__init__.py", "model.py", "parts.py"}
    assert code.module_of("mypackage.model.Model.build") == "mypackage.model"
    assert not code.of(("mypackage.model",)).dirty or code._dirty([Path(code.__file__)])


def test_rows_and_cells_name_their_machine(folder):
    folder.run()
    machine = json.loads((folder.out / "machine.json").read_text())
    assert set(folder.rows()["machine"]) == {machine["id"]}
    entry = json.loads((folder.out / "cells.json").read_text())[0]
    assert [origin["machine"] for origin in entry["origins"]] == [machine["id"]]


def test_machine_is_looked_up_each_time_and_the_earlier_ones_stay(tmp_path, monkeypatch):
    """Before, the first run's commit and packages stood there for ever."""
    store = Store(tmp_path)
    Machines(store).write()
    first = json.loads((tmp_path / "machine.json").read_text())
    monkeypatch.setattr("harness.machine.describe.commit", lambda: "another commit")
    Machines(store).write()
    second = json.loads((tmp_path / "machine.json").read_text())
    assert second["commit"] == "another commit" and second["id"] != first["id"]
    assert [entry["id"] for entry in second["earlier"]] == [first["id"]]
    monkeypatch.undo()
    Machines(store).write()
    third = json.loads((tmp_path / "machine.json").read_text())
    assert third["id"] == first["id"] and [e["id"] for e in third["earlier"]] == [second["id"]]
    store.close()


@pytest.mark.parametrize("name", ["machine.json", "measured.json"])
@pytest.mark.parametrize("data", [b"\0\0\0", b"", b"{torn", b"[1]", b'{"schema": 99}', b"\xff\xfe", b'{"flops": 3}'])
def test_damaged_state_is_set_aside_and_made_again(name, data, folder):
    folder.out.mkdir()
    (folder.out / name).write_bytes(data)
    said = folder.run("measure=none", "measure.latency=false", *(["measure.flops=true"] if name[1] == "e" else []))
    assert f"{name}: " in said and f"set aside as {name}.damaged" in said
    assert (folder.out / f"{name}.damaged").read_bytes() == data
    assert json.loads((folder.out / name).read_text())["schema"] == 2


class Nameless:
    """An annotator that says nothing of itself, or another thing at every start."""

    def __init__(self, says=None):
        if says is not None:
            self.record = says

    def start(self, sample):
        raise AssertionError("never asked")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (None, "has no record()"),
        (lambda: {"name": repr(Nameless())}, "memory address"),
        (lambda: {"name": Nameless()}, "not plain JSON"),
        (lambda: {"name": "mine", "at": object().__hash__() + len(sys.argv.append("x") or sys.argv)}, "every call"),
    ],
)
def test_an_annotator_without_a_stable_record_is_refused(says, words, monkeypatch):
    from harness.planning.plan import _require_stable
    from harness.protocol import Protocol

    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises(UserError) as caught:
        _require_stable(Protocol("mine", Nameless(says)))
    assert words in str(caught.value) and "record()" in str(caught.value)


def test_a_data_set_without_a_stable_digest_is_refused(folder):
    folder.edit('return f"squares-{len(self.names)}-{self.size}"', "return str(self)")
    with pytest.raises(UserError, match=r"data set 'squares' \(Squares\).*memory address"):
        folder.run()


def test_plain_records_are_stable():
    require_stable({"name": "x", "of": [1, 0.5, None, True]}, "it", "mend it")


def test_repeating_gives_the_same_rows(folder):
    folder.run()
    before = folder.rows()
    folder.run()
    pd.testing.assert_frame_equal(folder.rows()[DETERMINISTIC], before[DETERMINISTIC])
