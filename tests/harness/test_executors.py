"""Jobs of the quality pass: episodes arrive as they end, and outlive the sweep that asked for them."""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.clicking import quality
from harness.clicking.quality import Work
from harness.executors import spool
from harness.executors import submit as executors
from harness.protocol import Protocol

CELLS = {"a": "cell-a", "b": "cell-b"}
SETTINGS = {"name": "processes", "chunks": 1}


def episode(sample: str, **more: Any) -> dict[str, Any]:
    return {"sample": sample, "clicks": [{"iou": 0.1 + 0.2}], **more}


def work(**todo: list[str]) -> Work:
    return Work({}, {}, Protocol("ritm", None), todo, None, CELLS)  # type: ignore[arg-type]


class Job:
    """A submitted call, in a thread."""

    def __init__(self, call: Callable[[], Any]):
        self._found: Any = None
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._found = call()
        except Exception as error:
            self._found = error

    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads in place of submitit's jobs, and no waiting between two looks."""

    class AutoExecutor:
        def __init__(self, **_: Any):
            pass

        def update_parameters(self, **_: Any) -> None:
            pass

        def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
            return Job(lambda: function(*arguments))

    fake = types.ModuleType("submitit")
    fake.AutoExecutor = AutoExecutor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setattr(executors, "_LOOK_EVERY_S", 0.01)


def clicking(monkeypatch: pytest.MonkeyPatch, run: Callable[[Work], Iterator[spool.Line]]) -> None:
    monkeypatch.setattr(quality, "run", run)


def test_episodes_arrive_before_their_job_ends(jobs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before, the progress bar stood still and nothing was on disk until a whole share was done."""
    first_is_here = threading.Event()

    def run(_: Work) -> Iterator[spool.Line]:
        yield "a", episode("x")
        assert first_is_here.wait(20), "the first episode was not given while the job ran"
        yield "b", episode("x")

    clicking(monkeypatch, run)
    found = executors.execute(SETTINGS, work(x=["a", "b"]), tmp_path, None, None)
    assert next(found) == ("a", episode("x"))
    first_is_here.set()
    assert list(found) == [("b", episode("x"))]
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_lost_job_fails_only_what_it_did_not_do(jobs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(_: Work) -> Iterator[spool.Line]:
        yield "a", episode("x")
        raise RuntimeError("node lost")

    clicking(monkeypatch, run)
    found = list(executors.execute(SETTINGS, work(x=["a", "b"], y=["a"]), tmp_path, None, None))
    assert found[0] == ("a", episode("x"))
    assert [(v, e["sample"], "node lost" in e["error"]) for v, e in found[1:]] == [("b", "x", True), ("a", "y", True)]


def test_a_killed_sweep_leaves_its_episodes_to_the_next(
    jobs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writer = spool.Writer(tmp_path / "jobs" / "episodes" / "killed.jsonl", CELLS)
    writer.add("a", episode("x", mark="of the killed run"))
    writer.add("b", episode("y", error="failed before"))
    writer.close()
    other = spool.Writer(tmp_path / "jobs" / "episodes" / "other.jsonl", {"a": "another cell"})
    other.add("a", episode("y", mark="of another cell"))
    other.close()
    asked: dict[str, list[str]] = {}

    def run(share: Work) -> Iterator[spool.Line]:
        asked.update({name: list(variants) for name, variants in share.todo.items()})
        yield from ((v, episode(name)) for name, variants in share.todo.items() for v in variants)

    clicking(monkeypatch, run)
    found = list(executors.execute(SETTINGS, work(x=["a"], y=["a", "b"]), tmp_path, None, None))
    assert found[0] == ("a", episode("x", mark="of the killed run"))
    assert asked == {"y": ["a", "b"]}
    assert found[1:] == [("a", episode("y")), ("b", episode("y"))]
    assert list(executors.execute(SETTINGS, work(), tmp_path, None, None)) == []


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    path = tmp_path / "job.jsonl"
    reader = spool.Reader(path, CELLS)
    assert list(reader.new()) == []
    line = json.dumps({"cell": "cell-a", "variant": "a", "episode": episode("x")}) + "\n"
    path.write_text(line + line[:9])
    assert list(reader.new()) == [("a", episode("x"))]
    assert list(reader.new()) == []
    path.write_text(line + line)
    assert list(reader.new()) == [("a", episode("x"))]
