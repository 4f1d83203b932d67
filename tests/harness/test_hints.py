"""An error says what was meant, and not everything that there is; output says only what holds."""

from __future__ import annotations

import io
import sys

import pandas as pd
import pytest

from harness import bench, fetch, progress
from harness.console import Console
from harness.errors import UserError, near_miss
from harness.fetching.weights import require_spelling
from harness.planning import user_yaml
from harness.planning.config import Config, build
from harness.planning.plan import DatasetPlan, Plan, Variant
from harness.protocol import Protocol
from harness.results import summary
from harness.results.tables import Tables


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        Config().compose(overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("datasett.limit=2", "'dataset.limit'"),  # the room is misspelt
        ("dataset.limt=2", "'dataset.limit'"),  # the setting is
        ("limit=2", "'dataset.limit'"),  # the room is left out
        ("clicks=5", "'protocol.clicks'"),
        ("tracking.limit=2", "'dataset.limit'"),  # another room's
        ("variant=inter2former_litee", "'inter2former_lite'"),
    ],
)
def test_a_near_miss_is_the_whole_answer(override, meant):
    message = refusal(override)
    assert f"Did you mean {meant}?" in message
    assert "Allowed" not in message and len(message) < 200
    assert "--help" in message


def test_without_a_near_miss_the_settings_beside_it_are_listed():
    message = refusal("dataset.zzz=1")
    assert "Did you mean" not in message and "dataset.limit" in message and "protocol." not in message


def test_a_short_list_stays_beside_the_near_miss():
    assert near_miss("two", ["two2", "one"]) == "Did you mean 'two2'? Allowed: one, two2."
    assert near_miss("x", []) == "Allowed: (none)."
    assert len(near_miss("zzz", [f"name{i}" for i in range(500)])) < 120


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("variant=opencv_grabcut,geodesic", "variants=[opencv_grabcut,geodesic]"),
        ("variant=[opencv_grabcut,geodesic]", "variants=[opencv_grabcut,geodesic]"),
        ("dataset=grabcut,davis", "datasets={grabcut: {root: DIR}, davis: {root: DIR}}"),
        ("+ablation=dha,dpe", "one ablation at a time"),
        ("measure.threads=1,2", "measure.threads=[1,2]"),
    ],
)
def test_several_values_where_one_stands_say_how_to_write_them(override, instead):
    message = refusal(override)
    assert instead in message and "Ambiguous" not in message and override in message


def test_a_folder_of_a_known_layout_is_recognised(tmp_path):
    """GrabCut's folders as the layout in harness/datasets/grabcut.py has them."""
    (tmp_path / "data_GT").mkdir()
    with pytest.raises(UserError) as one_folder:
        build({"_target_": "harness.datasets.folder.Folder", "root": str(tmp_path)}, "dataset")
    (tmp_path / "boundary_GT").mkdir()
    with pytest.raises(UserError) as both:
        build({"_target_": "harness.datasets.folder.Folder", "root": str(tmp_path)}, "dataset")
    assert "It looks like dataset=grabcut." in str(both.value)
    assert "It looks like" not in str(one_folder.value)


def test_a_file_that_is_not_there_is_called_so(tmp_path):
    with pytest.raises(UserError, match="nope.yaml: no such file"):
        user_yaml.load(tmp_path / "nope.yaml")
    with pytest.raises(UserError, match="no plain file"):
        user_yaml.load(tmp_path)


def test_official_misspelt_is_no_path(tmp_path, monkeypatch):
    for weights, meant in (("oficial", "'official'"), ("Official:ritm_hrnet32", "'official:ritm_hrnet32'")):
        with pytest.raises(UserError, match=f"Did you mean {meant}"):
            require_spelling(weights)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oficial").touch()
    for fine in ("oficial", "official", "weights/mine.pth", None):
        require_spelling(fine)


def test_the_list_shows_the_named_entries_within_120_columns(capsys):
    with pytest.raises(UserError, match="Did you mean 'grabcut'"):
        fetch.run(["data=grabcutt", "list=true"])
    assert fetch.run(["data=grabcut", "list=true"]) == 0
    one = capsys.readouterr().out
    assert "grabcut" in one and "berkeley" not in one and "sam_vit_b" not in one
    assert fetch.run(["list=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # The last line is the place of the data, as long as its path is.
    assert max(map(len, lines[:-1])) <= 120
    assert any("sam_vit_b " in line for line in lines) and any("berkeley" in line for line in lines)


def test_reports_is_another_name_of_report(monkeypatch):
    import reports.__main__ as command

    calls = []
    monkeypatch.setattr(command, "main", lambda: calls.append(list(sys.argv)))
    monkeypatch.setattr(sys, "argv", ["is-bench", "reports", "run=x"])
    bench.main()
    assert calls == [["is-bench", "run=x"]]


@pytest.mark.parametrize("name", ["submit", "compare", "history", "gate", "export", "board", "verify", "docs"])
def test_a_command_of_reports_prints_its_own_help(name, capsys):
    from reports.__main__ import run
    from reports.commands import COMMANDS

    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m reports {name} ") and "exit codes:" in text
    settings = COMMANDS[name].settings if name in COMMANDS else {"out": ""}
    assert [key for key in settings if f"{key}=" not in text] == []


@pytest.mark.parametrize("module", ["harness.sync", "harness.convert"])
def test_help_offers_no_setting_that_the_command_refuses(module, capsys):
    import importlib

    with pytest.raises(SystemExit) as end:
        importlib.import_module(module).run(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert "dataset.limit" not in text and "--config-dir" not in text and "exit codes:" in text


def test_a_log_file_gets_the_last_line_once(monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY_S", -1.0)
    out = io.StringIO()
    with progress.Bar("clicks on a data set with a name", 3, Console(file=out, width=40)) as bar:
        for number in range(3):
            bar.advance(f"a variant with a long name and sample {number}")
    lines = out.getvalue().splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize("timed", [False, True])
def test_the_caption_speaks_of_times_where_there_are_some(timed):
    clicks = pd.DataFrame({"variant": ["a"], "weights_status": ["no weights"]})
    row = {"variant": "a", "kind": "later", "size_bin": "all", "threads": 1, "resolution": 512}
    latency = pd.DataFrame([{**row, "median_ms": 3.0, "low_ms": 2.0, "high_ms": 4.0}])
    tables = Tables(clicks=clicks, latency=latency if timed else None)
    out = io.StringIO()
    data = DatasetPlan("squares", {}, [1, 2], "digest")
    protocol = Protocol(name="ritm", annotator=None)
    plan = Plan("p", "", None, False, (Variant("a", {"_target_": "x"}),), (data,), protocol)
    summary._print_dataset(plan, data, tables, Console(file=out, width=200))
    assert ("medians of later clicks" in out.getvalue()) is timed
