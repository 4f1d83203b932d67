"""Protocols of people through the real command, on the user's folder: files, tables, page, resuming, refusals."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from tracking_faults import MemoryServer

from harness import sweep
from harness.clicking.recorded import RecordedClick, Writer
from harness.clicking.records import ClickRow, Episode, GroupClicks
from harness.errors import UserError
from harness.planning.disk import Trust
from harness.results import mlflow as tracking
from harness.results.mlflow import runs as tracking_runs
from reports.episodes.replay import Replayer
from reports.pages.assemble import build
from reports.plots import people
from reports.read.frames import read

FOLDER = Path(__file__).parent / "user_folder"
QUIET = ["--config-dir", str(FOLDER), "+ablation=radius", "measure=none", "report=false", "tracking.enabled=false"]
GROUPS = [f"g{n}" for n in range(1, 11)]


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """`--config-dir` puts the user's folder on the Python path of this process."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))


def run(out: Path, *settings: str) -> int:
    return sweep.run([*QUIET, "dataset=squares", f"out={out}", *settings])


def summary(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "summary.csv").query("size_bin == 'all'").set_index(["variant", "metric"])


@pytest.fixture(scope="module")
def rclicks(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("people") / "rclicks"
    assert run(out, "protocol=rclicks", "dataset.count=7") == 0
    return out


def test_rclicks_fills_the_files(rclicks):
    groups = pd.read_parquet(rclicks / "groups.parquet")
    assert set(groups["group"]) == set(GROUPS) and groups["sample"].nunique() == 7
    assert set(groups["protocol"]) == {"rclicks (map distance)"} == set(summary(rclicks)["protocol"])
    of_wide = summary(rclicks).loc["wide"]
    names = [f"rclicks_{name}90" for name in ("noc", "std", "dgr", "dhh", "dsb")]
    for name in [*names, "rclicks_nsr"]:
        assert np.isfinite(of_wide.loc[name, ["value", "low", "high"]].astype(float)).all()
    # The base is RITM's episode: clicks.parquet and what is made of it are those of `ritm`.
    clicks = pd.read_parquet(rclicks / "clicks.parquet")
    assert (clicks["click"] >= 1).all() and len(clicks[clicks["sample"] == "square0"]) <= 2 * 20
    assert "rclicks_noc90" in set(pd.read_csv(rclicks / "compare.csv")["metric"])


def test_rclicks_reaches_mlflow(rclicks, tmp_path, monkeypatch):
    """Every metric of people under its name; the numbers are those of summary.csv. Runs last as long as their work."""
    server = MemoryServer()
    monkeypatch.setattr(tracking_runs, "open_client", lambda uri: server)
    out = Path(shutil.copytree(rclicks, tmp_path / "out"))
    tracking.deliver(out, {"uri": "memory:", "experiment": "people"})
    names = [*(f"rclicks_{name}90" for name in ("noc", "std", "dgr", "dhh", "dsb")), "rclicks_nsr"]
    cells = [run for run in server.active() if run.data.tags["is.kind"] == "cell"]
    assert {run.data.tags["is.variant"] for run in cells} == {"wide", "narrow"}
    for run in cells:
        variant = run.data.tags["is.variant"]
        values = summary(out).loc[variant]["value"]
        assert {name: run.data.metrics[f"{name}/squares"] for name in names} == values[names].to_dict()
        tables = [pd.read_parquet(out / f"{name}.parquet") for name in ("clicks", "groups")]
        clicks, groups = (table[table["variant"] == variant] for table in tables)
        spent = clicks.drop_duplicates("sample")["encode_ms"].sum()
        spent += sum(table[name].sum() for table in (clicks, groups) for name in ("online_ms", "simulate_ms"))
        assert run.info.end_time - run.info.start_time == pytest.approx(spent, abs=1)


def test_the_same_command_resumes_and_another_map_is_another_cell(rclicks, capsys):
    before = {p.name: p.stat().st_mtime_ns for p in (rclicks / "cells").glob("*.jsonl")}
    assert run(rclicks, "protocol=rclicks", "dataset.count=7") == 0
    assert {p.name: p.stat().st_mtime_ns for p in (rclicks / "cells").glob("*.jsonl")} == before


@pytest.mark.slow
def test_processes_give_the_same_rows(rclicks, tmp_path):
    """Each job reads its share of the protocol from a file, and its episodes come back through one."""
    assert (
        run(tmp_path / "out", "protocol=rclicks", "dataset.count=7", "executor.name=processes", "executor.chunks=2")
        == 0
    )
    names = ["variant", "sample", "group", "click", "y", "x", "positive", "iou", "biou"]
    one, other = (pd.read_parquet(out / "groups.parquet")[names] for out in (rclicks, tmp_path / "out"))
    pd.testing.assert_frame_equal(one, other)


def test_an_episode_with_groups_survives_its_file():
    row = ClickRow(1, 2, 3, True, 0.5, 0.25, 1.0, 0.5)
    zero = ClickRow(0, -1, -1, False, 0.7, 0.2, 0.0, 0.0)
    episode = Episode("s", 4, 5, 0.25, ">20%", 2.5, clicks=(zero, row), groups=(GroupClicks("g1", (row,)),))
    assert Episode.read(json.loads(json.dumps(episode.record()))) == episode
    assert "groups" not in Episode("s", 4, 5, 0.25, ">20%", 2.5, clicks=(row,)).record()


def test_the_page_has_table_curves_and_map(rclicks, tmp_path):
    page = build(rclicks, tmp_path, episodes_s=0).read_text()
    for text in (
        "Robustness to who clicks",
        "poor imitation of people",
        "rclicks (map distance)",
        "Where first clicks fall",
    ):
        assert text in page, text
    assert (tmp_path / "groups_squares.svg").exists() and (tmp_path / "click_map_squares.svg").exists()
    table = pd.read_csv(tmp_path / "robustness.csv")
    value = summary(rclicks).loc[("wide", "rclicks_noc90"), "value"]
    shown = table.loc[table["variant"] == "wide", "rclicks_noc90"].iloc[0]
    assert float(shown) == pytest.approx(value, abs=0.006)


def test_from_masks_made_by_rule(tmp_path):
    """The user's segmenter takes no masks: it is refused by name, and the sweep says that something failed."""
    assert run(tmp_path, "protocol.start=mask", "protocol.start_mask.rule=erode") == 1
    failures = pd.read_csv(tmp_path / "failures.csv")
    assert failures["error"].str.contains("DiscSegmenter cannot begin from a mask").all() and len(failures) == 4


def test_from_given_masks_with_a_segmenter_that_takes_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name in ("starts", "data/images", "data/masks", "own/variant"):
        (tmp_path / name).mkdir(parents=True)
    for i in range(2):
        mask = np.zeros((64, 64), np.uint8)
        mask[10:30, 12 : 34 + i] = 255
        cv2.imwrite(str(tmp_path / f"data/images/square{i}.png"), np.full((64, 64, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / f"data/masks/square{i}.png"), mask)
        mask[:, 24:] = 0
        cv2.imwrite(str(tmp_path / f"starts/square{i}.png"), mask)
    (tmp_path / "own/variant/brush.yaml").write_text("_target_: brushes.Brush\nradius: 5\n")
    arguments = ["--config-dir", str(tmp_path / "own"), "variant=brush", "dataset=folder", "measure=none"]
    arguments += [f"dataset.root={tmp_path / 'data'}", "report=false", "tracking.enabled=false"]
    arguments += ["protocol.start=mask", f"out={tmp_path / 'out'}"]
    with pytest.raises(UserError, match="data set 'data' has no masks to begin from.*dataset.starts=DIR"):
        sweep.run(arguments)
    assert sweep.run([*arguments, f"dataset.starts={tmp_path / 'starts'}"]) == 0
    clicks = pd.read_parquet(tmp_path / "out" / "clicks.parquet")
    zero = clicks[clicks["click"] == 0].set_index("sample")["iou"]
    assert zero.to_dict() == {"square0": 12 / 22, "square1": 12 / 23}
    assert set(clicks["protocol"]) == {"ritm (from given masks)"}
    assert set(pd.read_parquet(tmp_path / "out" / "groups.parquet")["group"]) == {"zero"}
    of_brush = summary(tmp_path / "out").loc["brush"]["value"]
    assert {"zero_noc90", "noc90"} <= set(of_brush.index) and of_brush["start_iou"] == zero.mean()
    found = read(tmp_path / "out")
    assert set(found.groups["group"]) == {"zero"}
    replayed = Replayer(found, trust=Trust(Path(__file__).parent)).episode("brush", "data", "square1")
    assert replayed.note == "" and len(replayed.steps) == len(clicks[clicks["sample"] == "square1"]) - 1
    assert "from zero" in people.group_curves(found, "data").alt


def test_a_study_gives_table_and_replay_and_a_wrong_file_is_refused(tmp_path):
    path = tmp_path / "clicks.csv"
    with Writer(path) as writer:
        for i in range(7):
            for user, shift in (("ann", 0), ("bob", 3)):
                for click in (1, 2):
                    at = (15 + shift + click, 16 + shift)
                    writer.add(RecordedClick(f"square{i}", "", click, *at, True, user, height=64, width=64))
    settings = ["protocol=recorded", f"protocol.annotator.file={path}", "protocol.annotator.replay=all"]
    assert run(tmp_path / "out", *settings, "dataset.count=7") == 0
    clicks = pd.read_parquet(tmp_path / "out" / "clicks.parquet")
    assert set(clicks.loc[clicks["click"] == 2, ["y", "x"]].itertuples(index=False, name=None)) == {(17, 16)}
    of_wide = summary(tmp_path / "out").loc["wide"]
    assert {"user1", "user_noc90", "user_std90"} <= set(of_wide.index) and of_wide.loc["user1", "samples"] == 7
    with pytest.raises(UserError, match="clicks of another data set"):
        sweep.run([*QUIET, "dataset=scenes", "dataset.limit=2", f"out={tmp_path / 'x'}", *settings])
    with pytest.raises(UserError, match="user='eve' clicked nothing"):
        run(tmp_path / "x", *settings, "protocol.annotator.user=eve")


def test_extremes_and_metrics_as_primary(tmp_path, capsys):
    assert run(tmp_path, "protocol=extremes", "protocol.annotator.k=3", "protocol.primary=worst_noc90") == 0
    assert set(pd.read_parquet(tmp_path / "clicks.parquet")["protocol"]) == {"extremes (best and worst of 3)"}
    assert "Worst NoC@90" in capsys.readouterr().out.replace("\n", " ")
    of_wide = summary(tmp_path).loc["wide"]["value"]
    assert of_wide["best_noc90"] <= of_wide["worst_noc90"]


def test_a_sequential_sweep_stops_and_goes_on_without(tmp_path):
    """Discs of radius 12 and 6 differ on every sample; a part of 80 decides."""
    settings = ["dataset.count=80", "dataset.size=200", "protocol.clicks=5", "protocol.primary=miou5"]
    assert run(tmp_path, *settings, "protocol.sequential=true") == 0
    with pytest.raises(UserError, match="this sweep has no two of them"):
        run(tmp_path, *settings, "protocol.sequential=true", "variants=[wide]")
    (row,) = pd.read_csv(tmp_path / "sequential.csv").to_dict("records")
    assert row["outcome"] == "decided" and 20 <= row["samples"] < row["of"] == 80
    assert row["low"] <= row["difference"] <= row["high"] and row["low"] * row["high"] > 0 and row["p_value"] <= 0.05
    compare = pd.read_csv(tmp_path / "compare.csv")
    primary = compare[(compare["metric"] == "miou5") & (compare["size_bin"] == "all")].iloc[0]
    assert primary[["low", "high", "p_value"]].tolist() == [row["low"], row["high"], row["p_value"]]
    assert compare.loc[compare["metric"] != "miou5", "p_value"].isna().all()
    assert pd.read_parquet(tmp_path / "clicks.parquet")["sample"].nunique() == row["samples"]
    assert run(tmp_path, *settings) == 0  # the same cells, filled up
    assert pd.read_parquet(tmp_path / "clicks.parquet")["sample"].nunique() == 80
