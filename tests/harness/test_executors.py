"""Jobs of the quality pass: episodes arrive as they end, outlive the sweep, and a job that dies takes nobody along."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.clicking import quality
from harness.clicking.limits import Guard
from harness.clicking.quality import Work
from harness.clicking.records import ClickRow, Episode, Result, Weights
from harness.executors import jobs as watching
from harness.executors import spool
from harness.executors import submit as executors
from harness.executors.jobs import Watched
from harness.protocol import Protocol

CELLS = {"a": "cell-a", "b": "cell-b"}
SETTINGS = {"name": "processes", "chunks": 1}
MACHINE = {"id": "m1", "cpu_model": "c"}


def episode(sample: str, iou: float = 0.1 + 0.2) -> Episode:
    return Episode(sample, 4, 5, 0.25, ">20%", 2.5, clicks=(ClickRow(1, 2, 3, True, iou, iou, 1.5, 0.5),))


def work(**todo: list[str]) -> Work:
    return Work({"a": {}, "b": {}}, {}, Protocol("ritm", None), todo, None, CELLS)  # type: ignore[arg-type]


def execute(share: Work, out: Path, said: list[str] | None = None) -> Iterator[Result]:
    watched = Watched((said if said is not None else []).append, lambda machine: None)
    return executors.execute(SETTINGS, share, out, executors.Built({}, None), watched)


def pairs(results: list[Result]) -> list[tuple[str, str, str]]:
    return [(r.variant, r.episode.sample, r.episode.error) for r in results]


class Job:
    """A submitted call, in a thread."""

    started: list[Job] = []

    def __init__(self, call: Callable[[], Any]):
        self._result: Any = None
        self.cancelled = False
        self._thread = threading.Thread(target=self._run, args=(call,))
        Job.started.append(self)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._result = call()
        except Exception as error:
            self._result = error

    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def cancel(self, check: bool) -> None:
        self.cancelled = True


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads in place of submitit's jobs, and no waiting between two looks."""

    class AutoExecutor:
        def __init__(self, **_: Any):
            pass

        def update_parameters(self, **_: Any) -> None:
            pass

        def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
            return Job(lambda: function(*arguments[:-1], None))

    fake = types.ModuleType("submitit")
    fake.AutoExecutor = AutoExecutor  # type: ignore[attr-defined]
    Job.started.clear()
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setattr(watching, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(watching, "_LAST_LINES_S", 0.2)


def clicking(monkeypatch: pytest.MonkeyPatch, run: Callable[[Work, Guard], Iterator[Result]]) -> None:
    monkeypatch.setattr(quality, "run", lambda share, guard: run(share, guard))


def test_episodes_arrive_before_their_job_ends(jobs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before, the progress bar stood still and nothing was on disk until a whole share was done."""
    first_is_here = threading.Event()

    def run(_: Work, __: Guard) -> Iterator[Result]:
        yield Result("a", episode("x"), Weights("released", "d", 3))
        assert first_is_here.wait(20), "the first episode was not given while the job ran"
        yield Result("b", episode("x"))

    clicking(monkeypatch, run)
    results = execute(work(x=["a", "b"]), tmp_path)
    first = next(results)
    assert (first.variant, first.episode, first.weights) == ("a", episode("x"), Weights("released", "d", 3))
    assert first.machine != ""
    first_is_here.set()
    assert [(r.variant, r.episode) for r in results] == [("b", episode("x"))]
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_lost_job_fails_only_what_it_did_not_do(jobs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(_: Work, __: Guard) -> Iterator[Result]:
        yield Result("a", episode("x"))
        raise RuntimeError("node lost")

    clicking(monkeypatch, run)
    found = list(execute(work(x=["a", "b"], y=["a"]), tmp_path))
    assert found[0].episode == episode("x")
    assert [(v, s, "node lost" in error) for v, s, error in pairs(found[1:])] == [("a", "y", True), ("b", "x", True)]
    assert not any(r.episode.fatal for r in found)


def test_a_job_that_dies_of_an_episode_loses_only_that_one(
    jobs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The pair under way is done again alone, the rest variant by variant; only alone is it recorded as failed."""
    shares: list[dict[str, list[str]]] = []

    def run(share: Work, guard: Guard) -> Iterator[Result]:
        shares.append({name: list(variants) for name, variants in share.todo.items()})
        for name, variants in share.todo.items():
            for variant in variants:
                with guard.step(variant, name):
                    if (variant, name) == ("a", "y"):
                        raise RuntimeError("crashed")
                yield Result(variant, episode(name))

    clicking(monkeypatch, run)
    found = list(execute(work(x=["a", "b"], y=["a", "b"], z=["a", "b"]), tmp_path))
    bad = [r for r in found if r.episode.error]
    assert [(r.variant, r.episode.sample, r.episode.fatal) for r in bad] == [("a", "y", True)]
    assert "crashed" in bad[0].episode.error
    good = sorted((r.variant, r.episode.sample) for r in found if not r.episode.error)
    assert good == [("a", "x"), ("a", "z"), ("b", "x"), ("b", "y"), ("b", "z")]
    # The jobs run side by side, so that their order is not known.
    assert sorted(shares[1:], key=str) == [{"y": ["a"]}, {"y": ["b"], "z": ["b"]}, {"z": ["a"]}]


def test_jobs_are_cancelled_when_the_sweep_ends(jobs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    over = threading.Event()

    def run(_: Work, __: Guard) -> Iterator[Result]:
        yield Result("a", episode("x"))
        over.wait(20)

    clicking(monkeypatch, run)
    with contextlib.closing(execute(work(x=["a", "b"]), tmp_path)) as results:  # type: ignore[type-var]
        next(results)
        assert not Job.started[0].cancelled
    over.set()
    assert Job.started[0].cancelled


def spooled(folder: Path, job: str, cells: dict[str, str], *results: Result, whole: bool = True) -> None:
    writer = spool.Writer(folder, job, cells, MACHINE)
    for result in results:
        writer.add(result)
    writer.close(whole)


def test_a_killed_sweep_leaves_its_episodes_to_the_next(
    jobs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "jobs" / "episodes"
    left = Result("a", episode("x", 0.7), Weights("released"))
    spooled(folder, "killed", CELLS, left, Result("b", Episode("y", error="failed before")))
    spooled(folder, "other", {"a": "another-cell"}, Result("a", episode("y", 0.8)))
    asked: dict[str, list[str]] = {}

    def run(share: Work, _: Guard) -> Iterator[Result]:
        asked.update({name: list(variants) for name, variants in share.todo.items()})
        yield from (Result(v, episode(name)) for name, variants in share.todo.items() for v in variants)

    clicking(monkeypatch, run)
    found = list(execute(work(x=["a"], y=["a", "b"]), tmp_path))
    assert (found[0].episode, found[0].weights, found[0].machine) == (left.episode, left.weights, "m1")
    assert asked == {"y": ["a", "b"]}
    assert [(r.variant, r.episode) for r in found[1:]] == [("a", episode("y")), ("b", episode("y"))]
    # Before, `clear` took every file along: what other cells had finished was lost.
    assert [path.name for path in folder.glob("*.jsonl")] == ["another-cell.other.jsonl"]
    assert list(execute(work(), tmp_path)) == []


def test_files_that_a_live_job_may_still_write_stay(tmp_path: Path) -> None:
    """The writer of both is this process, which lives; only one of its jobs said that it is done."""
    spooled(tmp_path, "alive", CELLS, Result("a", episode("x")), whole=False)
    spooled(tmp_path, "ended", CELLS, Result("b", episode("x")))
    found = [r for r, _ in spool.left_over(tmp_path, CELLS, lambda text: None)]
    assert [(r.variant, r.episode) for r in found] == [("a", episode("x")), ("b", episode("x"))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell-a.alive.jsonl", "cell-b.alive.jsonl"]


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    spooled(tmp_path, "job", {"a": "cell-a"}, Result("a", episode("x")), Result("a", episode("y")), whole=False)
    path = tmp_path / "cell-a.job.jsonl"
    whole = path.read_bytes()
    path.unlink()
    reader = spool.Reader(path, "cell-a", "a", lambda text: None)
    assert list(reader.new()) == []
    path.write_bytes(whole[:-9])
    assert [r.episode for r in reader.new()] == [episode("x")]
    assert list(reader.new()) == []
    path.write_bytes(whole)
    assert [r.episode for r in reader.new()] == [episode("y")]


@pytest.mark.parametrize("bad", [b"\0\0\0\0", b"", b'{"episode": {"sa', b"[1]", b"\xff"])
def test_a_damaged_line_of_a_job_is_set_aside_and_named(bad: bytes, tmp_path: Path) -> None:
    spooled(tmp_path, "job", {"a": "cell-a"}, Result("a", episode("x")), Result("a", episode("y")))
    path = tmp_path / "cell-a.job.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = bad  # where x was
    path.write_bytes(b"\n".join(lines))
    said: list[str] = []
    found = [r for r, _ in spool.left_over(tmp_path, CELLS, said.append)]
    assert [r.episode for r in found] == [episode("y")]
    assert len(said) == 1 and "cell-a.job.jsonl, line 2" in said[0]
    assert (tmp_path / "cell-a.job.jsonl.damaged").read_bytes() == bad + b"\n"


@pytest.mark.parametrize(
    ("change", "words"), [({"variant": "b"}, "of variant 'b'"), ({"schema": 9}, "record format 9 is not known here")]
)
def test_a_file_of_another_variant_or_version_is_set_aside_whole(change: dict, words: str, tmp_path: Path) -> None:
    spooled(tmp_path, "job", {"a": "cell-a"}, Result("a", episode("x")))
    path = tmp_path / "cell-a.job.jsonl"
    header, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(header), **change}) + "\n" + "".join(rest))
    said: list[str] = []
    assert list(spool.left_over(tmp_path, {"a": "cell-a"}, said.append)) == []
    assert len(said) == 1 and "line 1" in said[0] and words in said[0]
    assert [p.name for p in tmp_path.iterdir()] == ["cell-a.job.jsonl.damaged"]


def test_a_damaged_first_line_costs_no_episode(tmp_path: Path) -> None:
    """The file's name holds the key of the cell."""
    spooled(tmp_path, "job", {"a": "cell-a"}, Result("a", episode("x")))
    path = tmp_path / "cell-a.job.jsonl"
    path.write_bytes(b"\0\0\n" + path.read_bytes().split(b"\n", 1)[1])
    said: list[str] = []
    assert [r.episode for r, _ in spool.left_over(tmp_path, {"a": "cell-a"}, said.append)] == [episode("x")]
    assert "line 1" in said[0]


def test_lines_of_a_job_are_what_the_schema_says(tmp_path: Path) -> None:
    spooled(tmp_path, "job", {"a": "cell-a"}, Result("a", episode("x"), Weights("released", "d", 3)))
    header, line, end = map(json.loads, (tmp_path / "cell-a.job.jsonl").read_text().splitlines())
    assert (header["schema"], header["cell"], header["variant"], header["machine"]) == (1, "cell-a", "a", MACHINE)
    assert Episode.read(line["episode"]) == episode("x")
    assert line["weights"] == {"weights_status": "released", "weights_digest": "d", "parameters": 3}
    assert end == {"end": True}
