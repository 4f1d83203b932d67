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


def test_a_real_loss_is_found_and_paired(run: Run) -> None:
    found = {(c.variant, c.metric): c for c in across.changes(run, worsened(run, 0.2)) if c.dataset == "shapes"}
    loss = found["near", "miou5"]
    assert loss.verdict == "worse" and loss.how == "paired, 6 samples"
    curve = run.clicks[
        (run.clicks["variant"] == "near") & (run.clicks["dataset"] == "shapes") & (run.clicks["click"] == 5)
    ]["iou"]
    assert loss.before - loss.after == pytest.approx((curve - (curve - 0.2).clip(0, 1)).mean())
    assert found["colourful", "miou5"].verdict == "identical"


def test_noise_is_no_regression(run: Run) -> None:
    """Expected: at most one in forty of true zeros reads worse at 95 %; one in ten leaves room for the small count."""
    verdicts = []
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(0, 1e-4, len(run.clicks))
        other = replace(run, clicks=run.clicks.assign(iou=(run.clicks["iou"] + noise).clip(0, 1)))
        verdicts += [c.verdict for c in across.changes(run, other, ("miou5", "auc"))]
    assert len(verdicts) == 60 and verdicts.count("worse") <= 6


@pytest.mark.parametrize("seed", range(3))
def test_unpaired_interval_covers(seed: int) -> None:
    """Two samples of one law: zero is held about 95 times of 100 (binomial: at least 84 all but surely)."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(100):
        low, high = across._unpaired(rng.normal(size=60), rng.normal(size=50), resamples=500)
        held += low <= 0 <= high
    assert held >= 84


def test_different_protocols_are_never_subtracted(run: Run) -> None:
    other = replace(run, config={**run.config, "protocol": {**run.config["protocol"], "clicks": 10}})
    found = across.changes(run, other)
    assert found and all(c.verdict == "not compared: different protocols" for c in found)
    difference = [row.cells[5] for row in across.change_rows(found)]
    assert all(v.measured is None for v in difference)  # type: ignore[union-attr]


def test_other_samples_are_not_paired(run: Run) -> None:
    names = sorted(run.clicks["sample"].unique())[:4]
    other = replace(run, clicks=run.clicks[run.clicks["sample"].isin(names)])
    found = {c.metric: c for c in across.changes(run, other) if (c.variant, c.dataset) == ("near", "shapes")}
    assert found["miou5"].how == "unpaired, 6 and 4 samples" and np.isnan(found["miou5"].p_value)
    assert found["nof90"].verdict == "not compared: a count over other samples"


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


def test_slower_needs_intervals_apart(run: Run) -> None:
    faster = run.latency.assign(**{k: run.latency[k] * 0.99 for k in ("median_ms", "low_ms", "high_ms")})
    slower = run.latency.assign(**{k: run.latency[k] * 1.5 for k in ("median_ms", "low_ms", "high_ms")})
    assert {v for v, _ in across.slower(run, replace(run, latency=faster))} == {"no difference shown"}
    assert {v for v, _ in across.slower(run, replace(run, latency=slower))} == {"worse"}


def copy_with(folder: Path, target: Path, by: float) -> Path:
    shutil.copytree(folder, target)
    clicks = pd.read_parquet(target / "clicks.parquet")
    clicks["iou"] = (clicks["iou"] - by).clip(0, 1)
    clicks.to_parquet(target / "clicks.parquet", index=False)
    from harness.scoring import metrics

    protocol = yaml.safe_load((target / "config.yaml").read_text())["protocol"]
    metrics.summarise(clicks, protocol).to_csv(target / "summary.csv", index=False)
    return target


def test_commands_compare_and_history(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = copy_with(folder, tmp_path / "later", 0.25)
    assert command.run(["compare", str(folder), str(worse), f"out={tmp_path / 'c'}"]) == 0
    html = (tmp_path / "c" / "index.html").read_text()
    assert "Worse than chance explains" in html and "near on shapes: 5-mIoU" in html
    assert command.run(["history", str(folder), str(folder), str(worse), f"out={tmp_path / 'h'}"]) == 1
    assert "worse: near on shapes" in capsys.readouterr().err
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
