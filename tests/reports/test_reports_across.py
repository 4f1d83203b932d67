"""Comparison of two runs, history, and the same report from a tracking server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tracking_server import mlflow_server

from harness.errors import UserError
from harness.results import mlflow as tracking
from reports import __main__ as command
from reports.pages import assemble, history, page
from reports.read import frames, mlflow_source
from reports.read.runs import Run
from reports.tables import across


@pytest.fixture
def run(folder: Path) -> Run:
    return frames.read(folder)


def worsened(run: Run, by: float, variant: str = "near") -> Run:
    """The run with every IoU of one variant lowered."""
    clicks = run.clicks.copy()
    mine = clicks["variant"] == variant
    clicks.loc[mine, "iou"] = (clicks.loc[mine, "iou"] - by).clip(0, 1)
    return replace(run, clicks=clicks)


def test_a_run_is_identical_to_itself(run: Run) -> None:
    found = across.changes(run, run)
    assert len(found) > 20 and {c.verdict for c in found} == {"identical"}
    assert across.changed(run, run).rows == ()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Thirty samples: enough for the other metrics, whose p are adjusted."""
    from simulated import run_folder

    return frames.read(run_folder(tmp_path_factory.mktemp("many") / "run", ("near",), ("shapes",), count=30))


def test_a_real_loss_is_found_and_paired(many: Run) -> None:
    found = {c.metric: c for c in across.changes(many, worsened(many, 0.2))}
    loss = found["miou5"]
    assert loss.verdict == "worse" and loss.how == "paired, 30 samples"
    curve = many.clicks[many.clicks["click"] == 5]["iou"]
    assert loss.before - loss.after == pytest.approx((curve - (curve - 0.2).clip(0, 1)).mean())


def test_only_what_was_worsened_changed(run: Run) -> None:
    found = {(c.variant, c.metric): c for c in across.changes(run, worsened(run, 0.2))}
    assert found["colourful", "miou5"].verdict == "identical"
    assert found["near", "miou5"].verdict != "identical"


def test_noise_is_no_regression(many: Run) -> None:
    """Two adjusted metrics in 20 pairs without a difference: a pair reads worse in at most 2.5 % of cases; 4 of 40 is
    far beyond that."""
    verdicts = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 1e-4, len(many.clicks))
        other = replace(many, clicks=many.clicks.assign(iou=(many.clicks["iou"] + noise).clip(0, 1)))
        verdicts += [c.verdict for c in across.changes(many, other, ("miou5", "auc")) if not c.primary]
    assert len(verdicts) == 40 and verdicts.count("worse") <= 3


def test_six_samples_cannot_show_an_adjusted_metric(run: Run) -> None:
    found = [c for c in across.changes(run, worsened(run, 0.2)) if c.variant == "near" and c.metric == "miou5"]
    text = "too few samples to tell (6 samples differ; the smallest possible p is 0.25 with Holm's adjustment)"
    assert [c.verdict for c in found][0] == text


def test_different_protocols_are_never_subtracted(run: Run) -> None:
    other = replace(run, config={**run.config, "protocol": {**run.config["protocol"], "clicks": 10}})
    found = across.changes(run, other)
    assert found and all(c.verdict == "not compared: different protocols" for c in found)
    difference = [row.cells[5] for row in across.change_rows(found)]
    assert all(v.measured is None for v in difference)  # type: ignore[union-attr]


def test_runs_are_paired_on_the_samples_that_both_have(run: Run) -> None:
    names = sorted(run.clicks["sample"].unique())[:4]
    other = replace(run, clicks=run.clicks[run.clicks["sample"].isin(names)])
    found = {c.metric: c for c in across.changes(run, other) if (c.variant, c.dataset) == ("near", "shapes")}
    assert found["miou5"].how == "paired, 4 samples; 2 only before" and found["miou5"].verdict == "identical"
    rows = run.clicks[(run.clicks["variant"] == "near") & (run.clicks["dataset"] == "shapes")]
    curve = rows[rows["sample"].isin(names)].pivot(index="sample", columns="click", values="iou")
    # Counts are over the common samples too: both sides count the same four.
    never = int((~(curve >= 0.9).any(axis=1)).sum())
    assert (found["nof90"].before, found["nof90"].after) == (never, never)


def test_what_changed_lists_configuration_digest_and_commit(run: Run) -> None:
    config = {
        **run.config,
        "variants": {**run.config["variants"], "near": {**run.config["variants"]["near"], "colour": 1.5}},
    }
    config["datasets"] = {**config["datasets"], "shapes": {**config["datasets"]["shapes"], "digest": "feedbeef"}}
    other = replace(run, config=config, machine={**run.machine, "commit": "f" * 40})
    listed = {row.cells[1]: (row.cells[0], row.cells[2], row.cells[3]) for row in across.changed(run, other).rows}
    assert listed["variants.near.colour"] == ("configuration", "1.0", "1.5")
    assert listed["shapes digest"] == ("data", "00000000", "feedbeef")
    assert listed["commit"] == ("machine", "0" * 40, "f" * 40)
    assert len(listed) == 3


def timed(run: Run, factor: float, **columns: object) -> Run:
    latency = run.latency.assign(**{k: run.latency[k] * factor for k in ("median_ms", "low_ms", "high_ms")}, **columns)
    return replace(run, latency=latency)


def test_two_runs_alone_say_nothing_of_time(run: Run) -> None:
    """Their inner intervals lie far apart and hold no variation from run to run."""
    (reading,) = {v for v, _ in across.slower(run, timed(run, 1.5))}
    assert reading.startswith("not compared: a run's interval holds no variation from run to run (5 quiet")


def test_time_is_judged_by_the_variation_of_earlier_runs(run: Run) -> None:
    """Five runs within 1 %: 50 % more is slower, half a percent is not; runs that differ by 40 % hide 50 %."""
    quiet = [timed(run, f) for f in (1.0, 1.01, 0.99, 1.005, 0.995)]
    assert {v for v, _ in across.slower(quiet[-1], timed(run, 1.5), quiet[:-1])} == {"worse"}
    assert {v for v, _ in across.slower(quiet[-1], timed(run, 1.005), quiet[:-1])} == {"no difference shown"}
    wild = [timed(run, f) for f in (1.0, 1.4, 0.7, 1.3, 0.8)]
    assert {v for v, _ in across.slower(wild[-1], timed(run, 1.5), wild[:-1])} == {"no difference shown"}


@pytest.mark.parametrize("side", ["before", "after"])
def test_contended_times_are_never_judged(run: Run, side: str) -> None:
    busy = {"contended": "other load 1.66 CPUs"}
    past = [timed(run, f, **(busy if side == "before" else {})) for f in (1.0, 1.01, 0.99, 1.005, 0.995)]
    now = timed(run, 3.0, **(busy if side == "after" else {}))
    assert {v for v, _ in across.slower(past[-1], now, past[:-1])} == {"not compared: other work ran on the machine"}


def test_times_of_another_definition_are_not_compared(run: Run) -> None:
    old = timed(run, 1.0, timing_version=1)
    assert {v for v, _ in across.slower(old, run)} == {"not compared: other definition of this time (timing_version)"}


def copy_with(folder: Path, target: Path, by: float) -> Path:
    shutil.copytree(folder, target)
    clicks = pd.read_parquet(target / "clicks.parquet")
    clicks["iou"] = (clicks["iou"] - by).clip(0, 1)
    clicks.to_parquet(target / "clicks.parquet", index=False)
    from harness.results import tables

    protocol = yaml.safe_load((target / "config.yaml").read_text())["protocol"]
    tables.summary(clicks, protocol).to_csv(target / "summary.csv", index=False)
    return target


def test_commands_compare_and_history(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = copy_with(folder, tmp_path / "later", 0.25)
    assert command.run(["compare", str(folder), str(worse), f"out={tmp_path / 'c'}"]) == 0
    html = (tmp_path / "c" / "index.html").read_text()
    assert "Worse than chance explains" in html and "near on wires: NoC@90" in html
    assert command.run(["history", str(folder), str(folder), str(worse), f"out={tmp_path / 'h'}"]) == 1
    told = capsys.readouterr().err
    assert "worse: near on wires: NoC@90" in told and "cannot tell: near on shapes: NoC@90 too few samples" in told
    assert (tmp_path / "h" / "history_noc90_shapes.svg").exists()
    assert command.run(["history", str(folder), str(folder), f"out={tmp_path / 'same'}"]) == 0
    assert "Nothing got worse" in (tmp_path / "same" / "index.html").read_text()


def test_history_needs_two(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two"):
        history.history([run], tmp_path)


@pytest.fixture(scope="module", params=["sqlite", "http"])
def server(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[Path]]]:
    """Address and two sweeps that were delivered there as the harness does it, `first` and later `second`."""
    base = tmp_path_factory.mktemp("mlflow")
    sweeps = [copy_with(folder, base / "first", 0.0), copy_with(folder, base / "second", 0.25)]
    for sweep in sweeps:
        config = yaml.safe_load((sweep / "config.yaml").read_text())
        config["ablation"]["name"] = sweep.name
        (sweep / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with ExitStack() as stack:
        uri = f"sqlite:///{base / 'mlflow.db'}"
        if request.param == "http":
            uri = stack.enter_context(mlflow_server(base / "server"))
        for sweep in sweeps:
            tracking.deliver(sweep, {"uri": uri, "experiment": "bench"})
        yield uri, sweeps


def test_the_same_report_from_mlflow(server: tuple[str, list[Path]], tmp_path: Path) -> None:
    uri, sweeps = server
    [(run_id, path)] = mlflow_source.fetch("bench", ["first"], uri, tmp_path)
    here, there = frames.read(sweeps[0]), frames.read(path)
    for name in ("clicks", "summary", "compare", "latency", "flops", "parts", "timings", "failures"):
        pd.testing.assert_frame_equal(getattr(here, name), getattr(there, name))
    assert (here.config, here.machine, here.notes) == (there.config, there.machine, there.notes)
    pages = [page.render(r, assemble.all_tables(r), []) for r in (here, replace(there, path=here.path))]
    assert pages[0] == pages[1] and len(pages[0]) > 50_000
    [(newest, _)] = mlflow_source.fetch("bench", [], uri, tmp_path)
    [(second, _)] = mlflow_source.fetch("bench", ["second"], uri, tmp_path)
    assert newest == second != run_id
    [(again, _)] = mlflow_source.fetch("bench", [run_id[:10]], uri, tmp_path)
    assert again == run_id


def test_two_runs_from_mlflow_are_compared(
    server: tuple[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, _ = server
    monkeypatch.setattr(
        "reports.pages.assemble.all_plots", lambda run: []
    )  # drawn elsewhere; this is about where runs come from
    wanted = "mlflow.runs=[first,second]"
    assert (
        command.run(["mlflow.experiment=bench", wanted, f"mlflow.uri={uri}", f"out={tmp_path / 'm'}", "episodes=0"])
        == 0
    )
    html = (tmp_path / "m" / "compare" / "index.html").read_text()
    assert "Worse than chance explains" in html
    assert len(list((tmp_path / "m").glob("*/index.html"))) == 3


@pytest.mark.parametrize(
    ("experiment", "runs", "words"),
    [("bnech", [], ["bnech", "Did you mean 'bench'"]), ("bench", ["third"], ["third", "first ("])],
)
def test_unknown_names_on_the_server(
    server: tuple[str, list[Path]], tmp_path: Path, experiment: str, runs: list[str], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        mlflow_source.fetch(experiment, runs, server[0], tmp_path)
    assert all(word in str(caught.value) for word in words)


def test_missing_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no MLflow data"):
        mlflow_source.fetch("bench", [], f"sqlite:///{tmp_path / 'none.db'}", tmp_path)
