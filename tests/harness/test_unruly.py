"""One bad variant spoils nobody: what a model does wrong costs its own episodes, never those of the others.

`before` and `after` are discs that behave, `bad` (tests/harness/user_folder/unruly.py) does what `how` says.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_sweep import DETERMINISTIC, FOLDER, QUIET, sweep

from harness import sweep as command
from harness.clicking.loop import object_mask
from harness.errors import UserError

UNRULY = ["--config-dir", str(FOLDER), "+ablation=unruly", "dataset=squares", "measure=none", "report=false",
          "protocol.clicks=4", *QUIET]  # fmt: skip
SAMPLES = [f"square{i}" for i in range(4)]


def bad(how: str, where: str = "click", sample: str = "") -> list[str]:
    return [f"+ablation.variants.bad.{k}={v}" for k, v in (("how", how), ("where", where), ("sample", sample)) if v]


def run(out: Path, *arguments: str) -> int:
    """The command in this process."""
    return command.run([*UNRULY, f"out={out}", *arguments])


def rows(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "clicks.parquet")[["variant", *DETERMINISTIC[1:]]].reset_index(drop=True)


def failures(out: Path) -> dict[str, list[str]]:
    """Variant -> samples that failed."""
    frame = pd.read_csv(out / "failures.csv", keep_default_na=False)
    return {str(v): sorted(f["sample"]) for v, f in frame.groupby("variant")}


def first_error(out: Path) -> str:
    return str(pd.read_csv(out / "failures.csv")["error"].iloc[0])


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> pd.DataFrame:
    """Rows of a sweep in which nobody misbehaves: `bad` is then a disc like `before`."""
    out = tmp_path_factory.mktemp("good") / "out"
    assert run(out) == 0
    frame = rows(out)
    one, two = (frame[frame["variant"] == v].drop(columns="variant") for v in ("before", "bad"))
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True))
    return frame


def spoiled_only(out: Path, good: pd.DataFrame, samples: list[str] = SAMPLES) -> None:
    """Everything but these samples of `bad` is as it would be without it."""
    expected = good[(good["variant"] != "bad") | ~good["sample"].isin(samples)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows(out), expected)
    assert failures(out) == {"bad": samples}


@pytest.mark.parametrize(
    ("how", "where", "words"),
    [
        ("exits", "click", "SystemExit: 0"),
        ("exits", "encode", "SystemExit: 0"),
        ("exits", "build", "SystemExit: 0"),
        ("raises_base", "click", "Stop: no Exception"),
        ("raises_base", "build", "Stop: no Exception"),
        ("raises", "build", "RuntimeError: breaks"),
        ("complex_", "click", "an array of complex128"),
        ("masked", "click", "a masked array"),
        ("object_", "click", "an array of object"),
        ("text", "click", "an array of <U"),
        ("nans", "click", "NaN"),
    ],
)
def test_what_a_model_raises_or_answers_is_its_own_failure(how, where, words, good, tmp_path):
    """Before, sys.exit(0) ended the whole sweep with exit code 0, and a masked array got scores."""
    assert run(tmp_path / "out", *bad(how, where)) == 1
    spoiled_only(tmp_path / "out", good)
    assert words in first_error(tmp_path / "out")


def test_one_bad_sample_of_a_variant_costs_one_episode(good, tmp_path):
    assert run(tmp_path / "out", *bad("exits", sample="square2")) == 1
    spoiled_only(tmp_path / "out", good, ["square2"])


def test_a_keyboard_interrupt_inside_stays_the_users(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", *bad("interrupts", sample="square1"))


def test_infinities_of_both_signs_are_scores():
    """Their sum is NaN, which the quick look took for a NaN answer."""
    scores = np.array([[np.inf, -np.inf], [0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(object_mask(scores, 0.0, (2, 2)), [[True, False], [False, True]])
    with pytest.raises(ValueError, match="NaN"):
        object_mask(np.array([[np.nan, 1.0]]), 0.0, (1, 2))


@pytest.mark.parametrize("how", ["hangs", "hangs_and_swallows"])
def test_a_hanging_episode_is_ended(how, good, tmp_path):
    started = time.monotonic()
    assert run(tmp_path / "out", *bad(how, sample="square1"), "executor.episode_timeout_s=1") == 1
    spoiled_only(tmp_path / "out", good, ["square1"])
    assert "no answer within 1 s (executor.episode_timeout_s)" in first_error(tmp_path / "out")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("value", ["0", "-1", "soon", "true"])
def test_a_time_limit_that_is_none_is_refused(value, tmp_path):
    with pytest.raises(UserError, match="executor.episode_timeout_s"):
        run(tmp_path / "out", f"executor.episode_timeout_s={value}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "where", "words"),
    [
        ("segfaults", "click", "SIGSEGV"),
        ("aborts", "encode", "SIGABRT"),
        ("is_killed", "click", "SIGKILL"),
        ("segfaults", "build", "SIGSEGV"),
    ],
)
def test_a_crash_is_isolated_on_repeat_and_recorded(how, where, words, good, tmp_path):
    """The first run dies; before, every repetition died at the same place."""
    sample = "" if where == "build" else "square1"
    arguments = [*UNRULY, "out=out", *bad(how, where, sample)]
    assert sweep(*arguments, cwd=tmp_path, check=False).returncode < 0
    done = sweep(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    assert "done again in a process of its own" in done.stderr
    out = tmp_path / "out"
    spoiled_only(out, good, [sample] if sample else SAMPLES)
    assert words in first_error(out)
    # A third run tries the failed one again, apart from the others, and does not die of it either.
    before = {p.name: p.read_bytes() for p in (out / "cells").iterdir()}
    assert sweep(*arguments, cwd=tmp_path, check=False).returncode == 1
    after = {p.name: p.read_bytes() for p in (out / "cells").iterdir()}
    assert sum(before[name] != after[name] for name in before) == 1
    spoiled_only(out, good, [sample] if sample else SAMPLES)


@pytest.mark.slow
def test_a_model_that_ends_its_process_quietly_is_found_too(good, tmp_path):
    """os._exit(0) leaves no exit code: only that the step under way never ended tells of it."""
    arguments = [*UNRULY, "out=out", *bad("leaves", sample="square1")]
    sweep(*arguments, cwd=tmp_path, check=False)
    done = sweep(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    spoiled_only(tmp_path / "out", good, ["square1"])


def test_a_hang_below_python_costs_its_episode_only(good, tmp_path):
    """No signal gets through: the process starts itself again and goes on without that episode."""
    arguments = [*UNRULY, "out=out", *bad("hangs_natively", sample="square1"), "executor.episode_timeout_s=1"]
    done = sweep(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    spoiled_only(tmp_path / "out", good, ["square1"])
    assert "starts again without it" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", ["segfaults", "hangs_natively"])
def test_a_job_that_dies_takes_nobody_along(how, good, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])}
    settings = ["executor.name=processes", "executor.chunks=1", "executor.episode_timeout_s=3"]
    done = sweep(*UNRULY, "out=out", *bad(how, sample="square1"), *settings, cwd=tmp_path, check=False, env=environment)
    assert done.returncode == 1, done.stderr
    spoiled_only(tmp_path / "out", good, ["square1"])


@pytest.mark.slow
def test_jobs_end_with_an_interrupted_sweep(tmp_path):
    """Before, the processes of a stopped sweep went on for hours."""
    mark = f"spoiled-{os.getpid()}-{tmp_path.name}"
    arguments = [*UNRULY, f"out={tmp_path / mark}", *bad("hangs"), "executor.name=processes", "executor.chunks=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.sweep", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    folder = tmp_path / mark / "jobs" / "episodes"
    limit = time.monotonic() + 100
    while not any("underway" in p.read_text() for p in folder.glob("*.jsonl")) and time.monotonic() < limit:
        time.sleep(0.1)
    assert _processes(mark), "no job was started"
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    while _processes(mark) and time.monotonic() < limit:
        time.sleep(0.1)
    assert _processes(mark) == []


def _processes(mark: str) -> list[str]:
    """Command lines, other than this test's, that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in text and "harness.sweep" not in text:
                found.append(text)
    return found
