"""Runs as people read them in MLflow: times of the work, description, data sets, searches."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from tracking_faults import MemoryServer, write_sweep

from harness.results import mlflow as tracking
from harness.results.mlflow import note, numbers, times
from harness.results.mlflow import runs as tracking_runs

SETTINGS = {"uri": "memory:", "experiment": "bench"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(monkeypatch) -> MemoryServer:
    memory = MemoryServer()
    monkeypatch.setattr(tracking_runs, "open_client", lambda uri: memory)
    return memory


def _parent(server: MemoryServer):
    [run] = [run for run in server.active() if run.data.tags["is.kind"] == "sweep"]
    return run


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp() * 1000)


# Times


def _rows(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_work_of_each_run_of_a_sweep_is_the_sum_of_its_steps(tmp_path):
    click = {"online_ms": 3.0, "simulate_ms": 0.5}
    path = _rows(
        tmp_path / "cell.jsonl",
        {"cell": "c"},
        {"sample": "before any origin", "encode_ms": 1000.0, "clicks": [click]},
        {"origin": {"at": "2026-01-02T03:04:05+00:00"}},
        {"sample": "a", "encode_ms": 100.0, "clicks": [click, click]},
        "{torn",
        {"sample": "b", "error": "broken"},
        {"origin": {"at": "2026-01-03T03:04:05+01:00"}},
        {"sample": "b", "encode_ms": 10.0, "clicks": [click], "groups": [{"group": "g1", "clicks": [click, click]}]},
        {"sample": "c", "encode_ms": float("nan"), "clicks": [{"online_ms": "x", "simulate_ms": -1}, 7]},
    )
    first, second = _ms("2026-01-02T03:04:05"), _ms("2026-01-03T02:04:05")
    work = times.of_rows(path)
    assert work == {first: 100 + 2 * 3.5, second: 10 + 3 * 3.5}
    assert times.span([work]) == times.Span(first, second + round(20.5))
    # Work of two cells in one run was done one after the other.
    assert times.span([work, {second: 1000.0}]) == times.Span(first, second + round(1020.5))
    assert times.span([{}]) is None


def test_jobs_side_by_side_end_when_the_last_row_was_written(tmp_path):
    path = _rows(tmp_path / "cell.jsonl", {})
    os.utime(path, (1_000_004, 1_000_004))
    works = [{1_000_000_000: 3000.0}, {1_000_000_000: 3000.0}]
    assert times.span(works, [path]) == times.Span(1_000_000_000, 1_000_004_000)
    os.utime(path, (2_000_000, 2_000_000))  # a copy made later
    assert times.span(works, [path]) == times.Span(1_000_000_000, 1_000_006_000)
    os.utime(path, (10, 10))  # a copy with a date that cannot be
    assert times.span(works, [path]) == times.Span(1_000_000_000, 1_000_006_000)


@pytest.mark.parametrize("at", ["", "soon", None, 7, "0001-01-01T00:00:00", "1969-01-01", ["2026-01-02"]])
def test_a_begin_that_is_none_gives_no_times_and_stops_nothing(tmp_path, server, at):
    assert times.of_rows(_rows(tmp_path / "x.jsonl", {"origin": {"at": at}}, {"sample": "a", "encode_ms": 1.0})) == {}
    out = write_sweep(tmp_path / "out")
    for cell in (out / "cells").glob("*.jsonl"):
        header, _, *episodes = cell.read_text().splitlines()
        cell.write_text("\n".join([header, json.dumps({"origin": {"at": at}}), *episodes, ""]))
    tracking.deliver(out, SETTINGS)
    assert {run.info.status for run in server.active()} == {"FINISHED"}


def test_the_sweep_runs_from_its_first_begin_to_the_end_of_what_was_measured(tmp_path, server):
    out = write_sweep(tmp_path / "out")
    stage = {"at": "2026-01-02T04:00:00+00:00"}
    (out / "measured.json").write_text(json.dumps({"schema": 2, "latency": stage}))
    pd.DataFrame({"ms": [1500.0, 500.0], "simulate_ms": [float("nan"), 20.0]}).to_parquet(
        out / "latency_samples.parquet"
    )
    tracking.deliver(out, SETTINGS)
    info = _parent(server).info
    assert (info.start_time, info.end_time) == (_ms("2026-01-02T03:04:00"), _ms("2026-01-02T04:00:00") + 2020)


def test_a_run_found_again_keeps_its_times(tmp_path, server):
    """Also one of an earlier version, which begins with its delivery, after the work: no end may lie before that."""
    out = write_sweep(tmp_path / "out")
    tracking.deliver(out, SETTINGS)
    late = _ms("2026-05-01T00:00:00")
    for run in server.active():
        run.info.start_time, run.info.end_time = late, late + 2000
        run.data.tags.pop("is.content", None)
    tracking.deliver(out, SETTINGS)
    assert [(run.info.start_time, run.info.end_time) for run in server.active()] == [(late, late + 2000)] * 3


def test_a_copy_of_the_folder_gives_the_same_times(tmp_path, server):
    out = write_sweep(tmp_path / "out")
    tracking.deliver(out, SETTINGS)
    copy = Path(shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile))
    before = {run.info.run_name: (run.info.start_time, run.info.end_time) for run in server.active()}
    tracking.deliver(copy, {**SETTINGS, "experiment": "other"})
    for run in server.active():
        assert (run.info.start_time, run.info.end_time) == before[run.info.run_name]


def test_a_training_run_lasts_as_long_as_the_training(tmp_path, server):
    (tmp_path / "run.json").write_text(json.dumps({"name": "small", "training_seconds": 90.5}))
    (tmp_path / "history.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    os.utime(tmp_path / "history.jsonl", (1_770_000_000, 1_770_000_000))
    tracking.deliver_training(tmp_path, SETTINGS)
    [run] = server.active()
    assert (run.info.start_time, run.info.end_time) == (1_769_999_909_500, 1_770_000_000_000)


# Description and data sets


def test_a_text_of_the_users_stays_and_ours_is_renewed(tmp_path, server):
    out = write_sweep(tmp_path / "out")
    tracking.deliver(out, SETTINGS)
    first = _parent(server).data.tags["mlflow.note.content"]
    summary = pd.read_csv(out / "summary.csv")
    summary.loc[summary["metric"] == "noc90", "value"] = 2.5
    summary.to_csv(out / "summary.csv", index=False)
    tracking.deliver(out, SETTINGS)
    second = _parent(server).data.tags["mlflow.note.content"]
    assert second != first and "2.50 (1.50 to 3.50)" in second
    _parent(server).data.tags["mlflow.note.content"] = "mine"
    tracking.deliver(out, SETTINGS)
    assert _parent(server).data.tags["mlflow.note.content"] == "mine"


def test_the_description_leads_to_the_report_and_counts_failures(tmp_path, server):
    out = write_sweep(tmp_path / "out")
    (out / "report").mkdir()
    (out / "report" / "index.html").write_text("<html></html>")
    (out / "failures.csv").write_text("stage,variant,dataset,sample,error\nclicks,wide,squares,b,broken\n")
    entries = json.loads((out / "cells.json").read_text())
    entries[1]["origins"] = [{"weights_status": "untrained"}]
    (out / "cells.json").write_text(json.dumps(entries))
    tracking.deliver(out, SETTINGS)
    parent = _parent(server)
    text = parent.data.tags["mlflow.note.content"]
    link = f"#/experiments/1/runs/{parent.info.run_id}/artifacts/report/index.html"
    assert f"[report/index.html]({link})" in text and note.escaped(str(out / "report" / "index.html")) in text
    assert "report/index.html" in parent.files
    assert "1 failures" in text and "| narrow, untrained | squares |" in text


def test_markdown_of_names_is_text_and_secrets_are_hidden(tmp_path, server):
    out = write_sweep(tmp_path / "out", ("a|b", "<img src=x>"), "*x*\n# y")
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["ablation"]["title"] = "on http://me:hunter2@host/x"
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    entries = json.loads((out / "cells.json").read_text())
    for entry in entries:
        entry["dataset_config"]["root"] = "https://me:hunter2@host/data"
    (out / "cells.json").write_text(json.dumps(entries))
    tracking.deliver(out, SETTINGS)
    parent = _parent(server)
    text = parent.data.tags["mlflow.note.content"]
    table = [line for line in text.splitlines() if line.startswith("| ")]
    # Header, rule, two lines: a column separator is a | that nothing escapes.
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5} and len(table) == 4
    assert "<img" not in re.sub(r"\\<", "", text) and r"\*x\*\\n\# y" in text
    assert "hunter2" not in text
    assert all("hunter2" not in d.dataset.source for run in server.active() for d in run.inputs.dataset_inputs)


def test_a_long_table_is_cut_between_lines_and_says_so():
    headline = numbers.Headline("1_noc90", "noc90", 3.0, 1.5, 3.5)
    lines = [note.Line(f"variant_{i}", "squares", (headline,)) for i in range(500)]
    text = note.description("Many", lines, 0, Path("/x/report/index.html"), "#/x")
    rows = [line for line in text.splitlines() if line.startswith("| variant\\_")]
    assert len(text) <= 5000 and 50 < len(rows) < 500 and all(line.endswith("3.00 (1.50 to 3.50) |") for line in rows)
    assert f"… and {500 - len(rows)} more lines" in text and "[report/index.html](#/x)" in text


def test_every_data_set_stands_on_the_sweep_and_the_second_has_names_of_its_own(tmp_path, server):
    out = write_sweep(tmp_path / "out")
    entries = json.loads((out / "cells.json").read_text())
    entries[1] |= {"variant": "wide", "dataset": "discs", "dataset_digest": "discs-2"}
    (out / "cells.json").write_text(json.dumps(entries))
    summary = pd.read_csv(out / "summary.csv")
    summary.loc[summary["variant"] == "narrow", ["variant", "dataset"]] = ["wide", "discs"]
    summary.to_csv(out / "summary.csv", index=False)
    tracking.deliver(out, SETTINGS)
    tracking.deliver(out, SETTINGS)
    parent = _parent(server)
    inputs = [(d.dataset.name, d.dataset.digest, d.dataset.profile) for d in parent.inputs.dataset_inputs]
    assert inputs == [("squares", "squares-2-64", '{"num_rows": 2}'), ("discs", "discs-2", None)]
    assert parent.data.metrics == {"1_noc90": 3.0, "7_encode_ms": 12.5, "discs/1_noc90": 2.0, "discs/7_encode_ms": 12.5}


def test_a_primary_metric_of_another_kind_comes_first(tmp_path, server):
    out = write_sweep(tmp_path / "out")
    config = yaml.safe_load((out / "config.yaml").read_text())
    (out / "config.yaml").write_text(yaml.safe_dump({**config, "primary": "rclicks_noc90"}))
    summary = pd.read_csv(out / "summary.csv")
    summary.loc[len(summary)] = ["wide", "squares", "rclicks_noc90", "all", 4.25, 4.0, 4.5]
    summary.to_csv(out / "summary.csv", index=False)
    tracking.deliver(out, SETTINGS)
    parent = _parent(server)
    assert parent.data.metrics == {"0_rclicks_noc90": 4.25, "1_noc90": 3.0, "7_encode_ms": 12.5}
    assert "| squares | 4.25 (4.00 to 4.50) | 3.00 (1.50 to 3.50) | 12.5 |" in parent.data.tags["mlflow.note.content"]


# A real data base


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[MlflowClient, str]:
    """The ablation of docs/mlflow.md: `hybrid` and `full` on "grabcut", the second stopped after one sample of two."""
    folder = tmp_path_factory.mktemp("searched")
    out = write_sweep(folder / "out", ("hybrid", "full"), "grabcut")
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["ablation"]["name"] = "dha"
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    entries = json.loads((out / "cells.json").read_text())
    for entry, dha in zip(entries, ("on", "full"), strict=True):
        entry["variant_config"] = {"dha": dha}
    entries[1]["episodes"] = 1
    (out / "cells.json").write_text(json.dumps(entries))
    summary = pd.read_csv(out / "summary.csv")
    for variant, noc95, nof90 in (("hybrid", 9.5, 0.0), ("full", 11.0, 1.0)):
        summary.loc[len(summary)] = [variant, "grabcut", "noc95", "all", noc95, 8.0, 12.0]
        summary.loc[(summary["variant"] == variant) & (summary["metric"] == "nof90"), "value"] = nof90
    summary.to_csv(out / "summary.csv", index=False)
    latency = [["hybrid", "later", 1, 512, "all", 140.0], ["full", "later", 1, 512, "all", 60.0]]
    latency += [["full", "later", 2, 512, "all", 40.0], ["full", "later", 1, 256, "all", 20.0]]
    columns = ["variant", "kind", "threads", "resolution", "size_bin", "median_ms"]
    pd.DataFrame(latency, columns=columns).to_csv(out / "latency.csv", index=False)
    flops = [["hybrid", 512, "total", "later", "all", 0.5], ["full", 512, "total", "later", "all", 1.5]]
    columns = ["variant", "resolution", "part", "kind", "size_bin", "gmacs"]
    pd.DataFrame(flops, columns=columns).to_csv(out / "flops.csv", index=False)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    tracking.deliver(out, {"uri": uri, "experiment": "bench"})
    client = MlflowClient(uri)
    return client, client.get_experiment_by_name("bench").experiment_id


FINDS = [  # of each search of the document, in its order
    {"hybrid on grabcut", "full on grabcut"},
    {"hybrid on grabcut"},
    {"hybrid on grabcut"},
    {"full on grabcut"},
    {"full on grabcut"},
    {"full on grabcut"},
    {"hybrid on grabcut", "full on grabcut"},
    {"hybrid on grabcut", "full on grabcut"},
    {"full on grabcut"},
    {"dha"},
]


def test_each_search_of_the_document_finds_what_it_says(searched):
    client, experiment = searched
    section = (ROOT / "docs" / "mlflow.md").read_text().split("## Searches")[1]
    searches = re.findall(r"```text\n(.+?)\n```", section)
    assert len(searches) == len(FINDS)
    for search, names in zip(searches, FINDS, strict=True):
        found = {run.info.run_name for run in client.search_runs([experiment], search)}
        assert found == names, search


def test_real_times_and_inputs_arrive_in_a_data_base(searched):
    client, experiment = searched
    runs = {run.info.run_name: run for run in client.search_runs([experiment], order_by=["metrics.1_noc90"])}
    assert list(runs)[0] == "full on grabcut"  # NoC 2.0; the sort of the document
    start = _ms("2026-01-02T03:04:00")
    assert (runs["hybrid on grabcut"].info.start_time, runs["hybrid on grabcut"].info.end_time) == (start, start + 4)
    assert runs["dha"].info.start_time == start
    assert [d.dataset.name for d in runs["dha"].inputs.dataset_inputs] == ["grabcut"]
    assert runs["dha"].data.tags["mlflow.note.content"].count("\n") >= 5
    assert sorted(runs["full on grabcut"].data.metrics)[:6] == [
        "1_noc90", "2_noc95", "4_nof90", "6_later_ms", "8_later_gmacs", "biou/grabcut",
    ]  # fmt: skip
    history = client.get_metric_history(runs["full on grabcut"].info.run_id, "iou/grabcut")
    assert [m.step for m in history] == [1, 2, 3]
    assert runs["full on grabcut"].data.params["variant.dha"] == "full"
