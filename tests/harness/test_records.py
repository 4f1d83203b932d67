"""Records that travel: what is written is read back the same, and what is no such record is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from harness.latency import records
from harness.latency.contention import Load
from harness.latency.process import ChildFailed, ChildProcess
from harness.latency.records import Boundary, Built, Command, Failure, Job, Round, Timing, Warmed
from harness.records import BadRecord, UnknownSchema, require_schema
from harness.results.measured import Measured, Measurement, Stamp
from harness.results.store import Store

JOB = Job({"_target_": "a.B", "size": [1, 2]}, 2, (0, 1), "w.npz", path=("here",), protocol="p", encodes=3)
ROUND = Round((Timing(0, "1-5%", 1, 2.5, 0.25), Timing(1, ">20%", 0, 7.0, parts={"other": 7.0})), Load(1, 2, 3, 0.5))
WARMED = Warmed("recorded episodes", (Boundary(0, 1, 0.25),), 10.0, True, 0.5, 3, 99.0)


def test_jobs_commands_and_answers_survive_the_pipe():
    assert records.read_job(records.line(JOB)) == JOB
    for command in (Command("warm", limit_s=1.5), Command("round", parts=True), Command("stop")):
        assert records.read_command(records.line(command)) == command
    for answer in (Built("untrained", 3.5), WARMED, ROUND):
        assert records.read_answer(type(answer), records.line(answer)) == answer
    assert records.read_answer(Round, records.line(Failure("no"))) == Failure("no")


def changed(record, **fields):
    return json.dumps({**json.loads(records.line(record)), **fields})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (changed(ROUND, schema=2), "record format 2 is not known here (1 is)"),
        (changed(ROUND, schema=True), "record format True is not known here (1 is)"),
        (json.dumps({"timings": [], "load": {}}), "record format None is not known here (1 is)"),
        (changed(ROUND, timings=[{"image": 0}]), "timings: no 'size_bin'"),
        (changed(ROUND, load=3), "load: not a record but int"),
        (changed(ROUND, colour="red"), "unknown field 'colour'"),
        ("Segmentation fault", "not JSON"),
        ("[1]", "not a record but list"),
    ],
)
def test_an_answer_that_is_none_is_refused(text, reason):
    with pytest.raises(BadRecord) as error:
        records.read_answer(Round, text)
    assert reason in str(error.value)


def test_a_command_is_one_of_four():
    with pytest.raises(BadRecord, match="do: 'sing' is not one of 'build', 'warm', 'round', 'stop'"):
        records.read_command(changed(Command("stop"), do="sing"))


def test_parts_are_numbers():
    with pytest.raises(BadRecord, match="timings: parts: 'long' is not a number"):
        bad = {"image": 0, "size_bin": "", "click": 0, "ms": 1.0, "parts": {"decoder": "long"}}
        records.read_answer(Round, changed(ROUND, timings=[bad]))


def test_an_unknown_number_names_the_known_ones():
    assert require_schema({}, (1, 2), missing=1) == 1
    with pytest.raises(UnknownSchema, match=r"record format 3 is not known here \(1 and 2 are\)"):
        require_schema({"schema": 3}, (1, 2), missing=1)


STAMP = Stamp("v", "all_on", "m", "s", "p", "d", "node", "2.9", "c")


def test_a_stamp_says_in_words_what_changed():
    now = replace(STAMP, code="other", torch="3.0", base=None)
    assert now.changes(STAMP) == ["the base variant", "the code", "the torch version"]
    assert STAMP.changes(STAMP) == []


def test_measurements_survive_the_folder(tmp_path):
    """The form of schema 2, as folders of before have it: a stage names only what it depends on."""
    timed = replace(STAMP, timing_version=2, threads=(1, 2), cpus=(0, 1))
    store = Store(tmp_path)
    entries = {
        "flops": Measurement(STAMP, True, "f", "id", "2026-01-02T03:04:05+00:00", 0.5),
        "latency": Measurement(timed, False, "l", "id"),
    }
    for name, entry in entries.items():
        Measured(store).keep(name, entry)
    written = json.loads((tmp_path / "measured.json").read_text())
    assert written["schema"] == 2 and set(written) == {"flops", "latency", "schema"}
    assert "threads" not in written["flops"]["stamp"] and written["latency"]["stamp"]["threads"] == [1, 2]
    assert Measured(store).stages == entries
    store.close()


@pytest.mark.parametrize("broken", [{"file": 3}, {"stamp": {"code": "c"}}, {"colour": "red"}])
def test_a_measurement_that_is_none_is_set_aside(broken, tmp_path):
    store = Store(tmp_path, tell := [].append)
    entry = {**Measurement(STAMP, True, "f", "id").record(), **broken}
    (tmp_path / "measured.json").write_text(json.dumps({"schema": 2, "flops": entry}))
    assert Measured(store).stages == {} and tell.__self__
    assert "'flops' is no stamp of a measurement" in tell.__self__[0]
    store.close()


def test_a_folder_of_the_first_form_is_measured_again(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "measured.json").write_text(json.dumps({"flops": "0123456789abcdef"}))
    measured = Measured(store)
    assert measured.old == {"flops"} and measured.stages == {}
    store.close()


def test_a_child_that_answers_in_another_form_is_a_row_that_says_so(tmp_path, monkeypatch):
    """A child of another version: it answers every line with schema 9."""
    code = "import sys\nfor _ in sys.stdin: print('{\"schema\": 9}', flush=True)"
    start = subprocess.Popen
    monkeypatch.setattr(
        "harness.latency.process.subprocess.Popen", lambda _, **how: start([sys.executable, "-c", code], **how)
    )
    child = ChildProcess(JOB, tmp_path, "child", 20.0)
    try:
        with pytest.raises(ChildFailed, match="answer is not understood: record format 9 is not known here"):
            child.round()
    finally:
        child.kill()


def test_the_child_reads_its_job_before_anything_heavy_is_imported():
    """It must pin itself first: numpy and torch take their threads when they are imported."""
    code = (
        "import sys, harness.latency.child; print([m for m in ('numpy', 'torch', 'cv2', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
