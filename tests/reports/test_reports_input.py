"""Runs that are empty, failed, tiny, old, unfinished or broken: a sensible page, or one clear line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

import reports
from harness.errors import UserError
from harness.planning.disk import Trust
from reports import __main__ as command
from reports.pages import history
from reports.pages.assemble import FORMATS, build
from reports.read import frames
from reports.tables import quality


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def emptied(folder: Path) -> None:
    """A sweep that was begun and has no row yet."""
    pd.read_parquet(folder / "clicks.parquet").iloc[:0].to_parquet(folder / "clicks.parquet")
    for name in ("summary.csv", "compare.csv", "latency.csv", "flops.csv"):
        head = (folder / name).read_text().splitlines()[0]
        (folder / name).write_text(head + "\n")
    (folder / "latency_parts.csv").write_text("\n")


def failed(folder: Path) -> None:
    """A sweep in which everything failed."""
    for name in ("clicks.parquet", "summary.csv", "compare.csv", "latency.csv", "flops.csv", "latency_parts.csv"):
        (folder / name).unlink()
    (folder / "latency_samples.parquet").unlink()
    row = {
        "stage": "clicks",
        "variant": "near",
        "dataset": "shapes",
        "sample": "a<b>&",
        "error": "ValueError: <script>x</script>",
    }
    pd.DataFrame([row]).to_csv(folder / "failures.csv", index=False)


def aged(folder: Path) -> None:
    """Rows as design.md asks for them at least, without what came later."""
    clicks = pd.read_parquet(folder / "clicks.parquet")
    later = [
        "size_bin",
        "protocol",
        "weights_status",
        "dataset_note",
        "weights_digest",
        "parameters",
        "cell",
        "height",
        "width",
    ]
    clicks.drop(columns=later).to_parquet(folder / "clicks.parquet")
    for name, columns in {"summary.csv": ["size_bin", "invalid"], "compare.csv": ["size_bin"]}.items():
        frame = pd.read_csv(folder / name)
        frame[frame["size_bin"] == "all"].drop(columns=columns).to_csv(folder / name, index=False)
    (folder / "config.yaml").unlink()
    (folder / "machine.json").unlink()


def only_timed(folder: Path) -> None:
    """A sweep of `+ablation=latency`: no clicks, no quality."""
    for name in ("clicks.parquet", "summary.csv", "compare.csv"):
        (folder / name).unlink()


def test_empty_run(copy: Path) -> None:
    emptied(copy)
    page = text_of(reports.build(copy))
    assert "This run has no results yet" in page
    assert "<img" not in page


def test_failures_only(copy: Path) -> None:
    failed(copy)
    page = text_of(reports.build(copy))
    assert "everything failed" in page
    assert "ValueError: &lt;script&gt;x" in page and "<script>x" not in page
    assert "clicks.parquet is missing" in page


def test_only_timed(copy: Path) -> None:
    only_timed(copy)
    page = text_of(reports.build(copy))
    assert "no quality was measured" in page and 'id="table-latency"' in page and 'id="plot-latency_size"' in page


@pytest.mark.parametrize("state", [emptied, failed, aged, only_timed])
def test_every_table_and_comparison_of_such_a_run(
    copy: Path, folder: Path, tmp_path: Path, state: Callable[[Path], None]
) -> None:
    state(copy)
    run, whole = frames.read(copy), frames.read(folder)
    for make in quality.ALL.values():
        made = make(run)
        for name, form in FORMATS.items():
            assert form(made).strip(), (made.name, name)
    for number, pair in enumerate(((run, whole), (whole, run), (run, run))):
        page = text_of(history.compare(*pair, tmp_path / f"c{number}"))
        assert "Nothing got worse" in page or "not compared" in page
        assert text_of(history.history(pair, tmp_path / f"h{number}")[0]).count("<h1>") == 1


def test_one_sample(tmp_path: Path) -> None:
    from simulated import run_folder

    folder = run_folder(tmp_path / "one", variants=("near", "colourful"), datasets=("shapes",), count=1)
    page = text_of(reports.build(folder, trust=Trust(Path(__file__).resolve().parent)))
    assert ": 1 sample</span>" in page and "<dd>1 sample, simulated" in page
    assert (folder / "report" / "iou_shapes.png").stat().st_size > 5000
    assert "Worst sample of near" in page and "Median sample of near" not in page


def test_older_schema(copy: Path) -> None:
    aged(copy)
    page = text_of(build(copy, None, 0))
    assert "comes from an older version" in page and "weights_status" in page
    assert "config.yaml is missing" in page
    run = frames.read(copy)
    assert run.status("near") == "not recorded" and not run.ranked("near")
    assert run.protocol() == "not recorded"


def test_contended_times_are_named(copy: Path) -> None:
    frame = pd.read_csv(copy / "latency.csv").assign(contended="other load 1.66 CPUs")
    frame.to_csv(copy / "latency.csv", index=False)
    assert any("other load 1.66 CPUs" in note and "doubtful" in note for note in frames.read(copy).notes)


def test_newer_schema_is_named(copy: Path) -> None:
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump({**config, "schema": frames.NEWEST_SCHEMA + 1}))
    assert any(f"schema {frames.NEWEST_SCHEMA + 1}" in note for note in frames.read(copy).notes)


def test_unfinished_run_is_read_from_its_cells(copy: Path) -> None:
    whole = frames.read(copy)
    rows = whole.clicks[(whole.clicks["variant"] == "near") & (whole.clicks["dataset"] == "shapes")]
    first = rows[rows["sample"] == rows["sample"].iloc[0]]
    keys = ["click", "y", "x", "positive", "iou", "biou", "online_ms", "simulate_ms"]
    header = {"variant": "near", "dataset": "shapes", "dataset_note": "simulated", "protocol": "ritm", "cell": "c"}
    line = first.iloc[0][["sample", "height", "width", "object_share", "size_bin", "encode_ms"]].to_dict()
    episode = {**line, "error": "", "weights_status": "no weights", "clicks": first[keys].to_dict("records")}
    bad = {"sample": "bad", "error": "SampleError: unreadable"}
    for file in copy.glob("*.parquet"):
        file.unlink()
    for name in ("summary.csv", "compare.csv", "failures.csv"):
        (copy / name).unlink()
    (copy / "cells").mkdir()
    lines = [json.dumps(x, default=lambda v: v.item()) for x in (header, episode, bad)]
    (copy / "cells" / "c.jsonl").write_text("\n".join(lines) + "\n" + '{"sample": "half a li')
    run = frames.read(copy)
    assert list(run.clicks["iou"]) == list(first["iou"])
    assert list(run.failures["sample"]) == ["bad"]
    value = run.summary.set_index(["metric", "size_bin"]).loc[("miou1", "all"), "value"]
    assert value == pytest.approx(first["iou"].iloc[0])
    assert any("has not finished" in note for note in run.notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run=/nowhere/at/all"], ["/nowhere/at/all", "no such folder"]),
        (["runn=x"], ["runn", "Did you mean 'run'"]),
        (["x"], ["'x'", "key=value"]),
        (["table=main"], ["run=DIR"]),
        (["run={folder}", "table=mian"], ["mian", "Did you mean 'main'"]),
        (["run={folder}", "table=main", "format=pdf"], ["pdf", "csv, md, tex"]),
        (["run={folder}", "episodes=many"], ["many", "seconds"]),
        (["compare", "{folder}"], ["needs two folders"]),
        (["history", "{folder}"], ["two or more"]),
        (["run={empty}"], ["no sweep lies there"]),
    ],
)
def test_bad_commands_are_one_line(folder: Path, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    filled = [a.format(folder=folder, empty=tmp_path) for a in arguments]
    with pytest.raises(UserError) as caught:
        command.run(filled)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", ["clicks.parquet", "machine.json", "config.yaml"])
def test_broken_file_is_named(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"{\x00 not: [a file")
    with pytest.raises(UserError, match=name):
        frames.read(copy)


def test_missing_needed_column_is_named(copy: Path) -> None:
    pd.read_parquet(copy / "clicks.parquet").drop(columns=["iou"]).to_parquet(copy / "clicks.parquet")
    with pytest.raises(UserError, match="iou"):
        frames.read(copy)


def test_unwritable_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        reports.build(folder, tmp_path / "file" / "report")


def test_command_line(folder: Path, tmp_path: Path) -> None:
    """The command as a user types it, from another folder; exit codes 0 and 2."""
    base = [sys.executable, "-m", "reports"]
    done = subprocess.run(
        [*base, f"run={folder}", "table=quality", "format=csv"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("variant,dataset,dataset_note,weights_status,samples")
    wrong = subprocess.run([*base, "run=nothing"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 2 and "no such folder" in wrong.stderr and "Traceback" not in wrong.stderr
    assert (
        subprocess.run([*base, "--help"], cwd=tmp_path, capture_output=True, text=True).stdout.count(
            "python -m reports"
        )
        >= 5
    )
