"""Energy from RAPL counters, on a made tree of sysfs; every joule by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_segmenters import Tiny

from harness.latency import energy, frames
from harness.latency.contention import Load
from harness.latency.records import Round, Timing, line, read_answer
from harness.latency.replay import Replay
from harness.latency.rounds import Runner
from harness.latency.workload import compose
from harness.machine import describe
from harness.sample import Sample

LIMIT = 262_143_328_850


def zone(folder: Path, place: str, name: str, microjoules: int, limit: int = LIMIT) -> Path:
    path = folder / place
    path.mkdir(parents=True)
    for file, content in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", limit)):
        (path / file).write_text(f"{content}\n")
    return path / "energy_uj"


@pytest.fixture
def two(tmp_path) -> tuple[energy.Meter, Path, Path]:
    """Two packages, and zones that would count their joules twice."""
    first = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 5_000_000, limit=8_000_000)
    for place, name in (
        ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "package-0"), ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ):  # fmt: skip
        zone(tmp_path, place, name, 77_000_000)
    (tmp_path / "intel-rapl").mkdir()
    return energy.find(tmp_path), first, second


def test_joules_of_all_packages_are_added_and_none_twice(two):
    meter, first, second = two
    assert [p.name for p in meter.packages] == ["package-0", "package-1"] and meter.note == "package-0, package-1"
    before = meter.read()
    first.write_text("3500000\n")
    second.write_text("5250000\n")
    assert meter.joules(before, meter.read()) == 2.5 + 0.25


def test_a_counter_that_begins_anew_goes_on_from_its_largest_value(two):
    meter, first, second = two
    before = meter.read()
    first.write_text("1000000\n")
    second.write_text("1500000\n")  # 5.0 -> 8.0 J, then 0 -> 1.5 J
    assert meter.joules(before, meter.read()) == 3.0 + 1.5


def test_where_there_is_no_counter(tmp_path):
    for folder in (tmp_path / "missing", tmp_path):
        meter = energy.find(folder)
        assert meter == energy.Meter((), "no counter here")
        assert meter.read() is None and meter.joules(meter.read(), meter.read()) is None


@pytest.mark.parametrize("damage", ["", "soon", "1\n2"])
def test_a_counter_that_holds_no_number_is_none(tmp_path, damage):
    zone(tmp_path, "intel-rapl:0", "package-0", 1).write_text(damage)
    assert energy.find(tmp_path).note == "no counter here"


def test_a_counter_that_may_not_be_read_is_named(two, tmp_path, monkeypatch):
    """One of two packages: half a machine's energy is no number either. Root may read everything, so it is made up."""
    _, first, _ = two
    read = Path.read_text

    def guarded(path: Path, *arguments, **settings) -> str:
        if path == first:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **settings)

    monkeypatch.setattr(Path, "read_text", guarded)
    meter = energy.find(tmp_path)
    assert meter == energy.Meter((), f"no counter here (needs read permission: {first})")


def test_a_counter_that_goes_away_leaves_the_value_empty(two):
    meter, first, _ = two
    before = meter.read()
    first.unlink()
    assert meter.read() is None and meter.joules(before, meter.read()) is None


class Burning(Tiny):
    """Writes into the counter what a step costs: an encoding 2 J, a click 0.5 J."""

    counter: Path

    @classmethod
    def add(cls, microjoules: int) -> None:
        cls.counter.write_text(f"{(int(cls.counter.read_text()) + microjoules) % LIMIT}\n")

    def encode(self, image):
        self.add(2_000_000)
        return super().encode(image)

    def start(self, embedding):
        session = super().start(embedding)
        click = session.click

        def counted(point):
            self.add(500_000)
            return click(point)

        session.click = counted
        return session


def test_each_encoding_and_click_of_a_round_has_its_joules(tmp_path):
    Burning.counter = zone(tmp_path, "intel-rapl:0", "package-0", LIMIT - 3_000_000)  # begins anew within the round
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    episodes = compose([Sample("s", np.full((64, 64, 3), 90, np.uint8), mask)], 1, 64, 2)
    replay = Replay(Burning(), episodes, meter=energy.find(tmp_path))
    replay.record()
    replay.keep()
    assert [(step.click, step.joules) for step in replay.once()] == [(0, 2.0), (1, 0.5), (2, 0.5), (3, 0.5)]
    assert {step.joules for step in replay.once_by_part()} == {None}
    without = Replay(Burning(), episodes)
    without.record()
    without.keep()
    assert {step.joules for step in without.once()} == {None}


def _round(joules: float | None, scale: float = 1.0) -> Round:
    """An encoding of 8 J, a first click of 3 J, later ones of 1 and 2 J; the counter moved late in one of them."""
    steps = ((0, 8.0), (1, 3.0), (2, 0.0), (3, 3.0))
    timings = tuple(Timing(0, "1-5%", c, 5.0, 0.1, {}, None if joules is None else j * scale) for c, j in steps)
    return Round(timings, Load(wall_s=1.0, own_cpus=1.0, other_cpus=0.0, steal=0.0))


def test_rows_hold_the_mean_of_a_round_and_its_median_over_rounds():
    runner = Runner("a", 1, 64)
    runner.rounds = {n: _round(1.0, scale) for n, scale in enumerate((1, 1, 1, 1, 1, 2, 2, 0.5, 0.5))}
    frame = frames.build([runner], "a").latency
    rows = frame[frame["size_bin"] == "all"].set_index("kind")
    # Mean of the clicks (3 + 0 + 3) / 3 = 2; 20-SPC adds 8 / 20. Medians of the scales 0.5 to 2: 1.
    expected = {"encode": 8.0, "first": 3.0, "later": 1.5, "online_spc": 2.0, "spc20": 2.4}
    for kind, joules in expected.items():
        assert rows.loc[kind, "joules"] == pytest.approx(joules)
        assert rows.loc[kind, "joules_low"] <= joules <= rows.loc[kind, "joules_high"]
    assert math.isnan(rows.loc["simulate", "joules"])


def test_rows_are_empty_where_a_step_has_no_count():
    runner = Runner("a", 1, 64)
    runner.rounds = {0: _round(1.0), 1: _round(None)}
    frame = frames.build([runner], "a").latency
    assert frame["median_ms"].notna().all() and frame["joules"].isna().all() and frame["joules_high"].isna().all()


def test_a_round_with_joules_passes_through_the_pipe():
    answer = _round(1.0)
    assert read_answer(Round, line(answer)) == answer


def test_the_machine_says_whether_it_counts_and_stays_the_same_machine(tmp_path, monkeypatch):
    found = describe.describe(peaks=False)
    assert found["energy"] == energy.find().note
    assert describe.identity(found) == describe.identity({**found, "energy": "package-0"}) == found["id"]


def test_the_counter_needs_nothing_but_python():
    """It is read in a measuring child: numpy or torch at this place would come before the pinning of others."""
    code = "import sys; before = set(sys.modules); import harness.latency.energy; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "pandas", "psutil"} & {name.strip(" '{}\n") for name in done.stdout.split(",")}
