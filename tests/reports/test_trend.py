"""Change points on series whose truth is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.errors import UserError
from reports.__main__ import run as command
from reports.pages.history import write_history
from reports.read.frames import read
from reports.trend import changes
from reports.trend import series as series_module
from reports.trend.series import Point, Series, exit_code, table


def test_a_step_is_found_where_it_is() -> None:
    """Simulated: 100 ms, then 110 ms from the 13th result on, noise of 2 %."""
    rng = np.random.default_rng(1)
    values = [*(100 + rng.normal(0, 2, 12)), *(110 + rng.normal(0, 2, 14))]
    (step,) = changes.steps(values, logarithmic=True)
    assert abs(step.at - 12) <= 1 and step.p_value < 0.002
    assert step.before == pytest.approx(100, abs=2) and step.after == pytest.approx(110, abs=2)


def test_two_steps_and_the_way_back() -> None:
    rng = np.random.default_rng(2)
    values = np.r_[np.full(12, 3.0), np.full(12, 4.0), np.full(12, 3.0)] + rng.normal(0, 0.05, 36)
    assert [s.at for s in changes.steps(list(values))] == [12, 24]


def test_noise_alone_is_seldom_a_change() -> None:
    """200 series without a change: at p < 0.002 one is expected less than every second time; 4 or more: p < 0.001."""
    rng = np.random.default_rng(3)
    assert sum(bool(changes.steps(list(rng.normal(100, 3, 20)))) for _ in range(200)) < 4


def test_too_short_a_series_says_so() -> None:
    assert changes.steps([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]) == [] == changes.steps([])
    short = series([1.0, 2.0])
    assert not short.long_enough and exit_code([short]) == 3
    assert "too few results to tell (2)" in str(table([short]).rows[0].cells)


def series(values: list[float], better: str = "low") -> Series:
    return Series("a", "x", tuple(Point(str(i), v) for i, v in enumerate(values)), "ms", 1, True, better)


def test_many_runs_over_time(small_run: Path, tmp_path: Path) -> None:
    """Eighteen copies of a run, the last nine with NoC@90 of 2 in place of 6: one change, for the better."""
    folders = []
    for number in range(18):
        copy = Path(shutil.copytree(small_run, tmp_path / f"run{number:02}"))
        if number >= 9:
            rows = pd.read_parquet(copy / "clicks.parquet")
            rows.assign(iou=rows["iou"].where(rows["click"] < 2, 0.95)).to_parquet(copy / "clicks.parquet")
            (copy / "summary.csv").unlink()
        folders.append(copy)
    runs = [read(folder) for folder in folders]
    (one,) = (s for s in series_module.of_runs(runs) if not s.time)
    assert one.values == [6.0] * 9 + [2.0] * 9
    (step,) = one.steps()
    assert (step.at, step.before, step.after) == (9, 6.0, 2.0) and not one.worse(step)
    assert "Change points" in write_history(runs, tmp_path / "history")[0].read_text()


def test_history_of_a_repository(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["history", f"results={repository}"]) == 3
    assert "No system has two results" in capsys.readouterr().out
    with pytest.raises(UserError, match="machine=nowhere"):
        command(["history", f"results={repository}", "machine=nowhere"])


@pytest.mark.parametrize(
    ("before", "after", "better", "code"), [(100, 120, "low", 1), (120, 100, "low", 0), (100, 120, "high", 0)]
)
def test_a_regression_is_an_exit_code(before: float, after: float, better: str, code: int) -> None:
    rng = np.random.default_rng(4)
    values = [*(before * rng.lognormal(0, 0.01, 10)), *(after * rng.lognormal(0, 0.01, 10))]
    assert exit_code([series(values, better)]) == code
