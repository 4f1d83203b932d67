"""Replays of a run from anybody have an end: after a time, a size, a crash. What was finished before is shown.

The classes here stand in for a run that lies: they hang, fill memory or die where an episode is replayed.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from harness.planning.disk import Trust
from reports.episodes import apart
from reports.read.frames import read

HOSTILE = """
import os, time
from simulated import *  # the classes that the run names

class Hangs(NearestClick):
    def encode(self, image):
        while True:
            time.sleep(1)

class Fills(NearestClick):
    def encode(self, image):
        self.kept = []
        while True:
            self.kept.append(bytearray(50 << 20))

class Dies(NearestClick):
    def encode(self, image):
        os.kill(os.getpid(), 11)
"""


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory):
    """A run whose second variant is of a class that misbehaves, and the folder of the classes."""
    from simulated import run_folder

    folder = tmp_path_factory.mktemp("apart")
    here = Path(__file__).resolve().parent
    segmenter = yaml.safe_load(
        (run_folder(folder / "first", ["near"], ["shapes"], count=2) / "config.yaml").read_text()
    )
    name = segmenter["variants"]["near"]["_target_"].rpartition(".")[2]
    (folder / "classes").mkdir()
    (folder / "classes" / "simulated.py").write_text((here / "simulated.py").read_text())
    (folder / "classes" / "hostile.py").write_text(HOSTILE.replace("NearestClick", name))

    def make(target: str | None):
        run = run_folder(folder / str(target), ["near", "colourful"], ["shapes"], count=2)
        config = yaml.safe_load((run / "config.yaml").read_text())
        if target:
            config["variants"]["colourful"]["_target_"] = f"hostile.{target}"
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        return read(run), Trust(folder / "classes" if target else here)

    return make


def test_what_is_replayed_apart_is_what_is_replayed_here(run_of) -> None:
    run, trust = run_of(None)
    told, problems = apart.stories(run, 30, trust)
    from reports.episodes import gallery

    expected, _ = gallery.stories(run, 30, trust)
    assert problems == [] and len(told) == len(expected) >= 2
    for here, there in zip(expected, told, strict=True):
        assert here.choice == there.choice
        for one, other in zip(here.episodes, there.episodes, strict=True):
            assert one.note == other.note
            assert [(s.click, s.iou) for s in one.steps] == [(s.click, s.iou) for s in other.steps]
            assert all((a.mask == b.mask).all() for a, b in zip(one.steps, other.steps, strict=True))


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("Hangs", "replaying was ended after 8 s"),
        ("Fills", "more than 0.6 GiB of memory"),
        ("Dies", "ended by SIGSEGV"),
    ],
)
def test_replays_that_do_not_end(run_of, target: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, trust = run_of(target)
    monkeypatch.setattr(apart, "limit_s", lambda budget_s: 8.0 if target == "Hangs" else 60.0)
    monkeypatch.setattr(apart, "memory_limit", lambda: int(0.6 * 2**30))
    began = time.monotonic()
    told, problems = apart.stories(run, 30, trust)
    assert time.monotonic() - began < 60
    # Stories of the good variant alone come first; the one that compares both never ends.
    assert [story.choice.variants for story in told] == [("near",)] * len(told) and told
    assert len(problems) == 1 and why in problems[0]


def test_names_of_a_server_lead_nowhere_else(tmp_path: Path) -> None:
    """A server that answers with paths upwards, as run id and as artifacts."""
    from types import SimpleNamespace

    from reports.read import mlflow_source

    asked = []

    class Server:
        def list_artifacts(self, run_id: str, folder: str) -> list[SimpleNamespace]:
            names = [
                "tables/a.csv",
                "tables/../../b.csv",
                "../c.csv",
                "/d.csv",
                "tables/deep/e.csv",
                "tables/..",
                "f.csv",
            ]
            return [SimpleNamespace(path=name) for name in names]

        def download_artifacts(self, run_id: str, name: str, folder: str) -> str:
            asked.append(name)
            path = Path(folder) / Path(name).name
            path.write_text("x")
            return str(path)

    into = tmp_path / "into"
    info = SimpleNamespace(run_name="../../x", run_id="../../../../y")
    folder = mlflow_source._download(Server(), SimpleNamespace(info=info), into)
    assert folder.parent == into and asked == ["tables/a.csv"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.csv"]
