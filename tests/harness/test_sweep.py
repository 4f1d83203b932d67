"""The whole way on a user's own segmenter, data set and ablation (tests/harness/user_folder), as commands."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parent / "user_folder"
BASIC = ["--config-dir", str(FOLDER), "+ablation=radius", "dataset=squares", "measure=none", "report=false"]
QUIET = ["tracking.enabled=false"]
DETERMINISTIC = [
    "variant",
    "dataset",
    "sample",
    "click",
    "y",
    "x",
    "positive",
    "iou",
    "biou",
    "object_share",
    "error",
]


def sweep(*arguments: str, cwd: Path, check: bool = True, **kw) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "harness.sweep", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **kw,
    )
    if check:
        assert done.returncode == 0, done.stderr + done.stdout
    return done


def clicks(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "clicks.parquet")[DETERMINISTIC].reset_index(drop=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """An undisturbed run in a folder that has nothing to do with the project."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    sweep(*BASIC, *QUIET, "out=out", cwd=cwd)
    return cwd / "out"


def test_a_finished_command_that_is_repeated_says_so(finished):
    done = sweep(*BASIC, *QUIET, "out=out", cwd=finished.parent)
    assert "nothing was missing; rows, tables and report: " in done.stdout and "done in" not in done.stdout


def test_rows_agree_with_a_loop_written_for_this_test(finished):
    """Reference: RITM's rule in plain numpy with SciPy's distance transform, and discs drawn by definition."""
    from scipy.ndimage import distance_transform_edt

    rows = clicks(finished)
    for variant, radius in (("wide", 12), ("narrow", 6)):
        for i in range(4):
            mask = np.zeros((64, 64), bool)
            mask[10 : 30 + i, 12 : 34 + 2 * i] = True
            prediction, taken, ious = np.zeros_like(mask), np.zeros_like(mask), []
            yy, xx = np.mgrid[:64, :64]
            for _ in range(20):
                far = [
                    distance_transform_edt(np.pad(e, 1))[1:-1, 1:-1] * ~taken
                    for e in (mask & ~prediction, prediction & ~mask)
                ]
                if max(f.max() for f in far) == 0:
                    break
                positive = far[0].max() > far[1].max()
                y, x = np.unravel_index(np.argmax(far[0 if positive else 1]), mask.shape)
                taken[y, x] = True
                prediction = np.where((yy - y) ** 2 + (xx - x) ** 2 <= radius**2, positive, prediction)
                ious.append((prediction & mask).sum() / (prediction | mask).sum())
            mine = rows[(rows["variant"] == variant) & (rows["sample"] == f"square{i}")].sort_values("click")
            assert mine["click"].tolist() == list(range(1, len(mine) + 1))
            np.testing.assert_allclose(mine["iou"], ious[: len(mine)], rtol=0, atol=1e-12)


def test_files_of_a_sweep(finished):
    summary = pd.read_csv(finished / "summary.csv")
    assert {"variant", "dataset", "metric", "value", "low", "high", "samples", "protocol"} <= set(summary.columns)
    compare = pd.read_csv(finished / "compare.csv")
    assert {"variant", "base", "dataset", "metric", "difference", "low", "high", "p_value", "samples"} <= set(
        compare.columns
    )
    assert set(compare["base"]) == {"wide"}
    rows = pd.read_parquet(finished / "clicks.parquet")
    assert set(rows["weights_status"]) == {"no weights"}
    assert set(rows["dataset_note"]) == {"toy"}
    assert (finished / "config.yaml").exists() and (finished / "failures.csv").exists()


def test_noc_in_the_summary_is_that_of_the_rows(finished):
    """Definition: first click with IoU >= 0.85, 20 where there is none, averaged over samples."""
    summary = pd.read_csv(finished / "summary.csv").query("metric == 'noc85'")
    if "size_bin" in summary:
        summary = summary[summary["size_bin"] == "all"]
    for variant, rows in clicks(finished).groupby("variant"):
        reached = rows[rows["iou"] >= 0.85].groupby("sample")["click"].min()
        expected = reached.reindex(rows["sample"].unique()).fillna(20).mean()
        assert summary.set_index("variant").loc[variant, "value"] == pytest.approx(expected, abs=1e-12)


def test_repeating_a_finished_sweep_does_nothing_and_changes_no_row(finished):
    before = {p.name: p.read_bytes() for p in (finished / "cells").iterdir()}
    sweep(*BASIC, *QUIET, "out=out", cwd=finished.parent)
    assert {p.name: p.read_bytes() for p in (finished / "cells").iterdir()} == before


def test_killed_sweeps_end_with_the_rows_of_an_undisturbed_one(finished, tmp_path):
    """SIGKILL at random moments, again and again, until a repetition gets through."""
    draw = random.Random(5)
    arguments = [
        sys.executable,
        "-m",
        "harness.sweep",
        *BASIC,
        *QUIET,
        "out=out",
        "+ablation.variants.wide.delay_ms=15",
    ]
    lines = 0
    for _ in range(4):
        process = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _wait_for_lines(tmp_path / "out" / "cells", lines + 1, process)
        time.sleep(draw.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines = _lines(tmp_path / "out" / "cells")
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(clicks(tmp_path / "out"), clicks(finished))


def _lines(folder: Path) -> int:
    return sum(p.read_bytes().count(b"\n") for p in folder.glob("*.jsonl"))


def _wait_for_lines(folder: Path, count: int, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 60
    while _lines(folder) < count and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)


def test_a_bad_sample_and_a_breaking_model_are_failures_and_the_sweep_goes_on(tmp_path):
    done = sweep(
        *BASIC,
        *QUIET,
        "out=out",
        "dataset.bad=square1",
        "+ablation.variants.narrow.fail_on=second",
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    failures = pd.read_csv(tmp_path / "out" / "failures.csv", keep_default_na=False)
    bad = failures[failures["sample"] == "square1"]
    assert bad["variant"].tolist() == ["all"] and "mask of another size" in bad["error"].iloc[0]
    broken = failures[failures["variant"] == "narrow"]
    assert sorted(broken["sample"]) == ["square0", "square2", "square3"]
    assert all("breaks at its second click" in e for e in broken["error"])
    assert sorted(clicks(tmp_path / "out")["sample"].unique()) == ["square0", "square2", "square3"]
    # Mended, the same folder gets only what was missing: the broken episodes ran under another configuration, so the
    # wide cell is repeated for its bad sample alone.
    wide = next(
        p
        for p in (tmp_path / "out" / "cells").iterdir()
        if json.loads(p.read_text().splitlines()[0])["variant"] == "wide"
    )
    assert sum('"error":""' in line for line in wide.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+ablation=raduis"], "Did you mean 'radius'?"),
        (["+ablation=radius", "variants=[wid]"], "unknown variant 'wid'. Did you mean 'wide'?"),
        (["+ablation=radius", "ablation.variants.wide.radius=-1"], "radius=-1 must be positive; try 12"),
        (
            ["+ablation=radius", "+ablation.variants.wide.raduis=3"],
            "no setting 'raduis'. Did you mean 'radius'?",
        ),
        # Rows may have been delivered; a line that says so would stand before the error.
        (
            ["+ablation=radius", "ablation.variants.wide.radius=-1", "tracking.enabled=true"],
            "radius=-1 must be positive; try 12",
        ),
        (["+ablation=radius", "protocol.clicks=0"], "clicks"),
        (["+ablation=radius", "dataset.count=0"], "has no samples"),
        (["+ablation=radius", "dataset=grabcut"], "root"),
        (["+ablation=radius", "dataset=grabcut", "dataset.root=/does/not/exist"], "/does/not/exist"),
        (["+ablation=radius", "out=/proc/none"], "cannot write to out="),
        (["+ablation=radius", "executor.name=slrum"], "Did you mean 'slurm'?"),
        ([], "nothing to run"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(arguments, message, tmp_path):
    tail = [
        a
        for a in ["dataset=squares", "measure=none", "report=false", *QUIET]
        if a.split("=")[0] not in {b.split("=")[0] for b in arguments}
    ]
    done = sweep("--config-dir", str(FOLDER), *arguments, *tail, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr + done.stdout
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_dry_run_prints_the_cells_and_writes_nothing(tmp_path):
    done = sweep(*BASIC, "dry_run=true", cwd=tmp_path)
    assert "wide" in done.stdout and "narrow" in done.stdout and "squares" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_lists_what_there_is(tmp_path):
    done = sweep("--help", "--config-dir", str(FOLDER), cwd=tmp_path)
    for word in ("+ablation=dha", "radius", "squares", "grabcut", "ritm", "exit codes"):
        assert word in done.stdout


def test_variants_with_one_encoder_key_share_one_encoding(tmp_path):
    """encode_ms is one number per image and encoder: equal for all that share it."""
    sweep(*BASIC, *QUIET, "out=shared", cwd=tmp_path)
    rows = pd.read_parquet(tmp_path / "shared" / "clicks.parquet")
    assert (rows.groupby("sample")["encode_ms"].nunique() == 1).all()


def test_processes_executor_gives_the_same_rows(finished, tmp_path):
    sweep(
        *BASIC,
        *QUIET,
        "out=out",
        "executor.name=processes",
        "executor.chunks=2",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
    )
    pd.testing.assert_frame_equal(clicks(tmp_path / "out"), clicks(finished))


def test_several_data_sets_in_one_sweep(tmp_path):
    sweep(
        *BASIC,
        *QUIET,
        "out=out",
        "datasets={small: {dataset: squares, size: 56}, large: {dataset: squares, size: 96}}",
        cwd=tmp_path,
    )
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert set(summary["dataset"]) == {"small", "large"}
