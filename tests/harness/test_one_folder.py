"""One `out=` for two commands: tables are of the last one, raw rows of both stay, each brings its own back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness import sweep
from harness.errors import UserError
from harness.planning.config import Config
from harness.planning.place import require_place
from harness.results import speeds
from harness.results.speeds import Speed, Speeds
from reports.pages import former
from reports.read.frames import read

FOLDER = Path(__file__).resolve().parent / "user_folder"
COMMON = ["--config-dir", str(FOLDER), "dataset=squares", "dataset.limit=2", "protocol.clicks=2"]
COMMON += ["measure=none", "measure.flops=true", "tracking.enabled=false", "report=false"]
BOTH = [*COMMON, "+ablation=radius"]
ONE = [*COMMON, "variant=disc"]


def digests(folder: Path, pattern: str) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob(pattern)}


def variants(path: Path) -> set[str]:
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    return set(frame["variant"])


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """The folder after the ablation, after another variant in it, and after the ablation again: names and digests."""
    patch = pytest.MonkeyPatch()
    cwd = tmp_path_factory.mktemp("one")
    patch.chdir(cwd)
    patch.setenv("IS_BENCH_CACHE", str(cwd / "cache"))
    out, after = cwd / "out", []
    for command in (BOTH, ONE, BOTH):
        lines: list[str] = []
        patch.setattr("harness.executors.sweeping.Sweep._tell", lambda _, text, lines=lines: lines.append(text))
        assert sweep.run([*command, f"out={out}"]) == 0
        run = read(out)
        after.append({
            "files": {p.name for p in out.iterdir() if p.is_file() and not p.name.startswith(".")},
            "cells": digests(out / "cells", "*.jsonl"), "clicks": variants(out / "clicks.parquet"),
            "flops": variants(out / "flops.csv"), "flops file": digests(out, "flops.csv"),
            "summary": digests(out, "summary.csv"), "compare": digests(out, "compare.csv"), "lines": lines,
            "read": set(run.flops["variant"]) | set(run.clicks["variant"]),
        })  # fmt: skip
    patch.undo()
    return after


def test_the_second_command_leaves_no_table_of_the_first(steps):
    first, second, _ = steps
    assert {"compare.csv", "flops.csv", "clicks.parquet"} <= first["files"]
    assert "compare.csv" not in second["files"]
    assert first["clicks"] == first["flops"] == {"wide", "narrow"}
    assert second["clicks"] == second["flops"] == second["read"] == {"disc"}


def test_raw_rows_of_both_stay_and_a_line_names_them(steps):
    first, second, third = steps
    assert first["cells"].items() <= second["cells"].items() and second["cells"] == third["cells"]
    assert (len(first["cells"]), len(second["cells"])) == (2, 3)
    assert not any("also holds" in line for line in first["lines"])
    (line,) = [line for line in second["lines"] if "also holds" in line]
    assert "also holds cells of narrow, wide (kept in cells/; their tables come back with their command" in line
    (line,) = [line for line in third["lines"] if "also holds" in line]
    assert "cells of disc (" in line


def test_the_first_command_brings_its_tables_back_and_measures_nothing_again(steps):
    first, _, third = steps
    for name in ("files", "clicks", "flops", "flops file", "summary", "compare"):
        assert third[name] == first[name], name
    assert not any("measured again" in line for line in third["lines"])
    for step, expected in zip(steps, (0, 1, 1), strict=True):
        assert sum("flops.csv is of other variants" in line for line in step["lines"]) == expected


def test_times_alone_do_not_stay_under_clicks_of_another_command(tmp_path, monkeypatch):
    """A command without clicks keeps the tables of its own cells and removes those of others."""
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    clicks_only, counts_only = "measure.flops=false", "measure.quality=false"
    assert sweep.run([*BOTH, clicks_only, f"out={out}"]) == 0
    before = digests(out, "*.parquet") | digests(out, "summary.csv")
    assert sweep.run([*BOTH, counts_only, f"out={out}"]) == 0
    assert before == digests(out, "*.parquet") | digests(out, "summary.csv") and (out / "compare.csv").exists()
    assert sweep.run([*ONE, counts_only, f"out={out}"]) == 0
    assert not digests(out, "*.parquet") and not (out / "summary.csv").exists()
    assert len(digests(out / "cells", "*.jsonl")) == 2 and variants(out / "flops.csv") == {"disc"}


def test_an_old_mixed_folder_is_read_without_strangers(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"variants": {"a": {}}, "datasets": {"d": {}}}))
    columns = {"part": "total", "kind": "later", "size_bin": "all", "gmacs": 1.0}
    pd.DataFrame([{"variant": v, **columns} for v in "abc"]).to_csv(tmp_path / "flops.csv", index=False)
    run = read(tmp_path)
    assert list(run.flops["variant"]) == ["a"]
    assert any("flops.csv: rows of b, c come from another command" in note for note in run.notes)
    (tmp_path / "config.yaml").write_text("{}")  # of an older form: nothing says whose the rows are
    assert list(read(tmp_path).flops["variant"]) == ["a", "b", "c"]


def test_the_report_removes_what_its_former_build_wrote_and_nothing_else(tmp_path):
    def put(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)

    put("old.png", "same.png", "episodes/old.jpg", "notes.txt")
    former.clear(tmp_path, {"old.png", "same.png", "episodes/old.jpg"})
    former.clear(tmp_path, {"same.png", "new.png"})
    assert {p.name for p in tmp_path.iterdir()} == {"same.png", "notes.txt", former.NAME}
    outside = tmp_path.parent / "outside.txt"
    outside.write_text("mine")
    for names in (["../outside.txt", str(outside)], {"a": 1}, [3]):
        (tmp_path / former.NAME).write_text(json.dumps(names))
        former.clear(tmp_path, {"same.png"})
    assert outside.exists() and (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        (["variant=opencv_grabcut"], "runs/opencv_grabcut"),
        (["variants=[opencv_grabcut]"], "runs/opencv_grabcut"),
        (["variants=[geodesic,opencv_grabcut]"], "runs/geodesic+opencv_grabcut"),
        (["variants=[focalclick_segformer_b0_s1,focalclick_segformer_b0_s2]"], "runs/custom"),  # 53 characters
        (["+ablation=dha"], "runs/dha"),
        (["+ablation=dha", "variant=inter2former_vit_b"], "runs/dha"),
        (["variant=geodesic", "ablation.name=mine"], "runs/mine"),
        (["variant=geodesic", "out=there"], "there"),
    ],
)
def test_each_variant_has_a_folder_of_its_own(overrides, folder):
    assert Config().compose(overrides).out == folder


def test_a_folder_of_something_else_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "guide.md").write_text("text")
    (docs / "config.yaml").write_text("a: 1")
    for more in ([], ["dry_run=true"]):
        with pytest.raises(UserError, match=r"out=docs: the folder holds other files \(config.yaml, guide.md\) and no"):
            sweep.run([*ONE, "out=docs", *more])
    assert sorted(p.name for p in docs.iterdir()) == ["config.yaml", "guide.md"]


def test_new_empty_hidden_and_sweeps_folders_are_taken(tmp_path):
    require_place(tmp_path / "new")
    require_place(tmp_path)
    (tmp_path / ".git").mkdir()
    require_place(tmp_path)
    (tmp_path / "cells").mkdir()  # a sweep that was ended before its first cell
    require_place(tmp_path)
    (tmp_path / "cells" / "blood.tif").write_text("a microscope's")
    with pytest.raises(UserError, match="no sweep"):
        require_place(tmp_path)


def test_a_dry_run_refuses_missing_weights_and_says_what_it_did_not_try(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IS_BENCH_CACHE", str(tmp_path / "cache"))
    command = ["dataset.count=1", "measure=none", "dry_run=true"]
    for variant in ("inter2former_lite", "sam_vit_b"):
        for path in ("/nope.pth", "nope.safetensors", "~/nope/nope"):
            with pytest.raises(UserError, match=f"variant '{variant}': weights={path}: no such file"):
                sweep.run([f"variant={variant}", f"variant.weights={path}", *command])
    assert sweep.run(["variant=inter2former_lite", *command]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "settings of the variants were not tried; dry_run=probe builds them" in text
    assert "not looked" in text  # the column of weights; the table may wrap


def test_an_estimate_from_flops_takes_the_nearest_of_the_same_class(tmp_path):
    """By hand: at 8 GMACs the class's three nearest are 4, 8 and 16 GMACs at 2, 3 and 5 ms a GMAC: 3 * 8 = 24 ms."""
    store = Speeds(None, tmp_path / "speeds.json")
    rates = {"own": {4: 2.0, 8: 3.0, 16: 5.0, 500: 0.1}, "other": {7: 90.0, 9: 90.0}}
    store.add({
        (f"{name}{gmacs}", "d"): Speed(encode_ms=1.0, click_ms=gmacs * rate, gmacs_click=float(gmacs), target=name)
        for name, by_gmacs in rates.items() for gmacs, rate in by_gmacs.items()
    })  # fmt: skip

    class Wanted:
        def __init__(self, target):
            self.shown = {"_target_": target}
            self.variant, self.data, self.digest = self, self, "d"

    for target, milliseconds, source in (("own", 24.0, "its class"), ("third", 8 * 90.0, "other systems")):
        cell = Wanted(target)
        store.add({(speeds.variant_key(cell.shown), "d"): Speed(gmacs_encode=0.0, gmacs_click=8.0)})
        speed, said = store.of(cell)
        assert speed.click_ms == pytest.approx(milliseconds)
        assert said == f"roughly, from its FLOPs and the speed of {source} here"
