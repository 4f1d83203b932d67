"""Measuring children: what a row says when they work, and what it says when they die."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from harness.clicking.annotators import Jitter
from harness.errors import UserError
from harness.latency import frames, measure, pinning, stats
from harness.latency import rounds as latency_rounds
from harness.latency import workload as latency_workload
from harness.latency.contention import Load
from harness.latency.options import Options
from harness.latency.process import ChildFailed, ChildProcess
from harness.latency.records import Job, Round, Timing
from harness.latency.rounds import Runner
from harness.planning import identity
from harness.protocol import Protocol
from harness.sample import Sample

QUIET = Load(wall_s=1.0, own_cpus=1.0, other_cpus=0.0, steal=0.0)
QUICK = {
    "threads": [1],
    "resolutions": [64],
    "samples": 2,
    "later_clicks": 2,
    "budget_s": 3,
    "max_repeats": 7,
    "warmup_s": 0.1,
}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    made = []
    for name, side in (("small", 12), ("large", 40)):
        mask = np.zeros((60, 80), np.uint8)
        mask[5 : 5 + side, 10 : 10 + side] = 1
        made.append(Sample(name, rng.integers(0, 255, (60, 80, 3), np.uint8), mask))
    return made


def toy(name, **arguments):
    return {"_target_": f"toy_segmenters.{name}", **arguments}


def test_rows_of_two_variants_and_their_ratio(samples, tmp_path):
    variants = {"tiny": toy("Tiny"), "slow": toy("Tiny", sleep_ms=20)}
    frame = measure.measure(variants, samples, QUICK, base="tiny", out=tmp_path)
    assert set(frame["kind"]) == {"encode", "first", "later", "simulate", "online_spc", "spc20"}
    assert set(frame["size_bin"]) == {"all", "1-5%", ">20%"}
    assert (frame["error"] == "").all()
    assert (frame["workload"] == "ground truth with seeded errors, clicks 1 to 3 of 20").all()
    assert (frame["timing_version"] == identity.TIMING).all()
    later = frame[(frame["kind"] == "later") & (frame["size_bin"] == "all")].set_index("variant")
    assert later.loc["slow", "median_ms"] > 20  # it sleeps for so long
    assert later.loc["slow", "ratio"] > 1
    assert later.loc["tiny", "ratio"] == 1
    assert (frame["peak_rss_mb"] > 0).all()
    assert (tmp_path / "latency_samples.parquet").exists()
    # Fewer than seven rounds cannot give a 95 % interval.
    assert all(math.isinf(high) == (n < 7) for high, n in zip(frame["high_ms"], frame["repeats"], strict=True))


class Scripted:
    """A child on a clock of its own: building takes none of it, each round a second."""

    def __init__(self, clock):
        self.clock = clock

    def round(self, parts=False):
        self.clock[0] += 1
        return Round((), QUIET)

    def stop(self):
        pass


@pytest.mark.parametrize("fitting", [1, 3, 8])
def test_both_passes_together_keep_to_the_budget_however_few_fit_into_memory(monkeypatch, tmp_path, fitting):
    """A latency ablation in two batches once took its second pass's share of the budget twice."""
    clock = [0.0]
    monkeypatch.setattr(latency_rounds.time, "monotonic", lambda: clock[0])
    settings = Options(threads=(1,), min_repeats=2, max_repeats=10**6, parts=True)
    variants = {f"v{i}": {} for i in range(8)}
    group = latency_rounds.Group(variants, "v0", settings, 64, tmp_path / "w", 400.0, lambda text: None)

    def start(staying, waiting):
        batch = [waiting.pop(0) for _ in range(min(fitting, len(waiting)))]
        for runner in batch:
            runner.process = Scripted(clock)
        return batch

    monkeypatch.setattr(group, "_start", start)
    runners = group.run()
    # A round once begun is finished, in each of two passes of each batch: at most 9 asks of a second each.
    batches = math.ceil(8 / fitting)
    assert 400 * 0.9 <= clock[0] <= 400 + 2 * batches * 9
    assert all(runner.parts and runner.rounds for runner in runners)
    assert sum(len(runner.parts) for runner in runners) == pytest.approx(0.2 * 400, abs=batches * 9)


def test_a_budget_too_short_is_short_for_all(monkeypatch, tmp_path):
    """The fewest rounds may cost half the budget again; once the first systems got 6 rounds and the last one."""
    clock = [0.0]
    monkeypatch.setattr(latency_rounds.time, "monotonic", lambda: clock[0])
    settings = Options(threads=(1,), min_repeats=6)
    variants = {f"v{i}": {} for i in range(9)}
    group = latency_rounds.Group(variants, "v0", settings, 64, tmp_path / "w", 40.0, lambda text: None)

    def start(staying, waiting):
        batch = [waiting.pop(0)]
        batch[0].process = Scripted(clock)
        return batch

    monkeypatch.setattr(group, "_start", start)
    rounds = [len(runner.rounds) for runner in group.run()[1:]]
    # 40 s for 9 variants of a second each, the base in every batch: about 2 rounds each, with half as much again 3.
    assert min(rounds) >= 2 and max(rounds) <= 4
    assert clock[0] <= 1.5 * 40 + 9 * 2


class Noisy:
    """A child whose rounds take a second; its times vary by `noise` from round to round, in turns up and down."""

    def __init__(self, clock, noise):
        self.clock, self.noise, self.rounds = clock, noise, 0

    def round(self, parts=False):
        self.clock[0] += 1
        self.rounds += 1
        ms = 100 * (1 + self.noise * (self.rounds * 0.6180339887 % 1 - 0.5))
        return Round(tuple(Timing(0, "all", click, ms) for click in range(3)), QUIET)

    def stop(self):
        pass


@pytest.mark.parametrize(("noise", "limit", "most"), [(0.02, 7200.0, 7), (0.6, 7200.0, 400), (3.0, 60.0, 27)])
def test_with_an_automatic_budget_rounds_go_on_until_the_ratio_is_known(monkeypatch, tmp_path, noise, limit, most):
    """Expected: the fewest rounds where nothing varies, more where it does, and never past the limit.

    A uniform noise of width w has a median whose interval after n rounds is about w sqrt(n) / n wide: 0.6 needs some
    hundred rounds for 10 %, 3 some thousands: then 7 rounds of three children, and of two for what is left of 60 s.
    """
    clock = [0.0]
    monkeypatch.setattr(latency_rounds.time, "monotonic", lambda: clock[0])
    settings = Options(threads=(1,), budget_s="auto", auto_limit_s=limit, max_repeats=8)
    assert settings.seconds == limit
    group = latency_rounds.Group(
        {"base": {}, "calm": {}, "noisy": {}}, "base", settings, 64, tmp_path / "w", limit, lambda text: None
    )

    def start(staying, waiting):
        batch, waiting[:] = list(waiting), []
        for runner in batch:
            runner.process = Noisy(clock, noise if runner.variant == "noisy" else 0.001)
        return batch

    monkeypatch.setattr(group, "_start", start)
    base, calm, noisy = group.run()
    assert len(calm.rounds) == 7
    assert 7 <= len(noisy.rounds) <= most and len(base.rounds) == len(noisy.rounds)
    if limit > 100:
        ratio = stats.ratio_interval(
            [latency_rounds.total(a, False) for a in noisy.rounds.values()],
            [latency_rounds.total(a, False) for a in base.rounds.values()],
        )
        assert ratio.high <= 1.1 * ratio.median and ratio.low >= 0.9 * ratio.median
    else:
        assert clock[0] <= 1.5 * limit + 3
    assert (len(noisy.rounds) > 8) == (noise > 0.1)  # max_repeats does not end it


def test_every_way_of_dying_is_a_row_and_the_others_go_on(samples):
    variants = {n: toy(n) for n in ("Tiny", "Crashes", "Killed", "Greedy", "Raises")}
    frame = measure.measure(variants, samples, {**QUICK, "max_repeats": 1}, base="Tiny").set_index("variant")
    assert (frame.loc["Tiny", "error"] == "").all()
    assert "exit code 7" in frame.loc["Crashes", "error"]
    assert "SIGKILL" in frame.loc["Killed", "error"]
    assert frame.loc["Greedy", "error"].startswith("out of memory")
    assert "width=0: must be positive" in frame.loc["Raises", "error"]
    assert frame.loc["Crashes", "repeats"] == 0 and math.isnan(frame.loc["Crashes", "median_ms"])


def child(samples, folder, name, threads=1, timeout_s=200.0):
    workload = folder / "workload.npz"
    latency_workload.save(latency_workload.compose(samples, 1, 64, 1), workload)
    cpus = pinning.pick_cpus(threads)
    job = Job(toy(name), threads, tuple(cpus), str(workload), path=tuple(sys.path))
    return ChildProcess(job, folder, "child", timeout_s)


def test_a_silent_child_is_ended(samples, tmp_path):
    process = child(samples, tmp_path, "Hangs")
    process.begin_build()
    process.built()
    process.timeout_s = 0.5
    with pytest.raises(ChildFailed, match=r"0\.5 s \(measure.timeout_s\)"):
        process.warm(1)
    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize("threads", sorted({1, pinning.all_threads()}))
def test_a_child_uses_exactly_its_cpus(samples, tmp_path, threads):
    """One thread: one CPU in the affinity mask, one thread in torch's and OpenCV's pools, CPU time within wall time."""
    process = child(samples, tmp_path, "Pinned", threads)
    process.begin_build()
    process.built()
    with pytest.raises(ChildFailed) as failure:
        process.warm(1)
    process.stop()
    words = str(failure.value).split()
    assert f"facts [{threads}, {threads}, 1, {threads}] cpu" in str(failure.value)
    assert float(words[-1]) <= threads + 0.05


def test_a_child_keeps_its_memory_so_that_equal_work_costs_equal_time():
    """Page faults of one encoder call were 0 to 23,000, by chance. 160 MiB touched are 40,960 pages of 4 KiB."""
    code = """if True:
        import resource, torch
        faults = []
        for _ in range(40):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for size in (2**24, 2**23, 2**24):
                torch.ones(size)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        print(max(faults[-10:]))  # the heap grows until everything fits side by side
    """
    given = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    most = []
    for env in (given, pinning.environment(1, given)):
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        most.append(int(done.stdout))
    assert most[1] <= 16 < most[0]
    assert pinning.environment(1, {"MALLOC_TRIM_THRESHOLD_": "7"})["MALLOC_TRIM_THRESHOLD_"] == "7"


def test_strict_gives_no_number_to_contended_rows():
    runner = Runner("a", 1, 64)
    timings = tuple(Timing(0, "1-5%", click, 1.0) for click in (0, 1, 2))
    runner.rounds = {n: Round(timings, Load(1.0, 1.0, 0.8, 0.0)) for n in range(7)}
    loose = frames.build([runner], "a").latency
    assert (loose["contended"] == "other load 0.80 CPUs").all() and loose["median_ms"].notna().all()
    strict = frames.build([runner], "a", strict=True).latency
    assert len(strict) == 1 and math.isnan(strict["median_ms"].item())
    assert "other load 0.80 CPUs" in strict["error"].item() and "strict" in strict["error"].item()


def test_rows_of_known_timings():
    """Encode 100, first click 30, later 10, three rounds alike but for a common factor; the base takes half."""
    runners = []
    for name, scale in (("base", 1.0), ("other", 2.0)):
        runner = Runner(name, 1, 64)
        for n, drift in enumerate((1.0, 1.5, 3.0, 1.0, 2.0, 1.2, 1.1)):
            ms = [100, 30, 9, 10, 11]
            steps = zip((0, 1, 2, 3, 4), ms, strict=True)
            timings = tuple(Timing(0, "1-5%", click, t * scale * drift) for click, t in steps)
            runner.rounds[n] = Round(timings, QUIET)
        runners.append(runner)
    frame = frames.build(runners, "base").latency
    rows = frame[frame["size_bin"] == "all"].set_index(["variant", "kind"])
    # Medians over the rounds: the median drift is 1.2. Mean click (30 + 9 + 10 + 11) / 4 = 15; 20-SPC 15 + 100 / 20.
    expected = {"encode": 100, "first": 30, "later": 10, "online_spc": 15, "spc20": 20}
    for kind, ms in expected.items():
        assert rows.loc[("base", kind), "median_ms"] == pytest.approx(1.2 * ms)
        # Drift is common to a round, so the ratio is exactly 2, with an interval of no width.
        found = rows.loc[("other", kind), ["ratio", "ratio_low", "ratio_high"]]
        assert list(found) == pytest.approx([2, 2, 2])
    assert rows.loc[("base", "later"), "timings"] == 21 and rows.loc[("base", "later"), "repeats"] == 7


def test_online_spc_is_the_mean_of_the_medians_of_every_click():
    """20 clicks on two images that cost 30, then 20 + click; every click is slow by 1 s once, in another round each:
    no median sees it, every round's mean does. By object size: the clicks of its images, the encoding of all."""
    runner = Runner("a", 1, 64)
    places = [(image, click) for image in (0, 1) for click in range(1, 21)]
    truth = {(image, click): (30 if click == 1 else 20 + click) * (image + 1) for image, click in places}
    for n in range(9):
        timings = [Timing(i, b, 0, ms) for i, b, ms in ((0, "1-5%", 100), (1, ">20%", 300))]
        for number, (image, click) in enumerate(places):
            slow = 1000 if number % 9 == n else 0
            size = ">20%" if image else "1-5%"
            timings.append(Timing(image, size, click, truth[image, click] + slow))
        runner.rounds[n] = Round(tuple(timings), QUIET)
    rows = frames.build([runner], "a").latency.set_index(["kind", "size_bin"])
    means = {image: sum(truth[image, c] for c in range(1, 21)) / 20 for image in (0, 1)}
    assert rows.loc[("online_spc", "all"), "median_ms"] == pytest.approx((means[0] + means[1]) / 2)
    assert rows.loc[("spc20", "all"), "median_ms"] == pytest.approx((means[0] + means[1]) / 2 + 200 / 20)
    for image, size in ((0, "1-5%"), (1, ">20%")):
        assert rows.loc[("online_spc", size), "median_ms"] == pytest.approx(means[image])
        assert rows.loc[("spc20", size), "median_ms"] == pytest.approx(means[image] + 200 / 20)
    for kind in ("online_spc", "spc20"):
        assert (
            rows.loc[(kind, "all"), "low_ms"]
            <= rows.loc[(kind, "all"), "median_ms"]
            <= rows.loc[(kind, "all"), "high_ms"]
        )
    # What clicks 2 and 3 would have made of it, the old definition.
    assert means[0] > (30 + 19 * 22.5) / 20 + 5


def test_the_childrens_protocol_is_the_sweeps(samples, tmp_path):
    """Its click limit reaches the child, and its annotator is asked: with 4 clicks an episode has four."""
    protocol = Protocol("jitter", Jitter(seed=1), clicks=4)
    options = {**QUICK, "later_clicks": 19, "max_repeats": 1}
    frame = measure.measure({"tiny": toy("Tiny")}, samples, options, out=tmp_path, protocol=protocol)
    assert (frame["workload"] == "ground truth with seeded errors").all()  # whole episodes of four
    timings = pd.read_parquet(tmp_path / "latency_samples.parquet")
    assert timings.groupby("image")["click"].apply(list).tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"threads": [99]}, "threads"),
        ({"threads": ["many"]}, "all"),
        ({"workload": "x"}, "recorded"),
        ({"budget_s": 0}, "budget_s"),
        ({"budget_s": "some"}, "seconds, or auto"),
        ({"auto_limit_s": 0}, "auto_limit_s"),
        ({"resolutions": []}, "resolutions"),
        ({"resolutions": [8]}, "32"),
    ],
)
def test_bad_settings_name_what_is_allowed(samples, setting, word):
    with pytest.raises(UserError, match=word):
        measure.measure({"tiny": toy("Tiny")}, samples, {**QUICK, **setting})
