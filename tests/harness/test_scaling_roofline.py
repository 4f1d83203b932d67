"""Fits over sizes, threads and boundary shares, and rooflines, on made-up timings with known laws."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from harness.latency import scaling
from harness.machine import roofline


def timings(law, rounds=9, noise=0.02, seed=0):
    """Timings of `law(threads, resolution, click, share)` ms with multiplicative noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for threads in (1, 2, 4):
        for resolution in (256, 512, 1024, 2048):
            for number in range(rounds):
                for image, share in enumerate((0.1, 0.3, 0.6)):
                    for click in (0, 1, 2):
                        ms = law(threads, resolution, click, share) * (1 + noise * rng.standard_normal())
                        rows.append(("a", threads, resolution, number, image, click, ms, share if click else math.nan))
    names = ["variant", "threads", "resolution", "round", "image", "click", "ms", "boundary_share"]
    return pd.DataFrame(rows, columns=names)


def test_exponents_are_recovered_with_their_intervals():
    # Encode grows with tokens^1 and halves with twice the threads; clicks grow with tokens^2, unhelped by threads.
    fits = scaling.fit(timings(lambda t, r, click, s: r**2 / t if click == 0 else r**4))
    found = fits.set_index(["kind", "against", "fixed"])
    for key, expected in {
        ("encode", "tokens", "threads=2"): 1.0,
        ("first", "tokens", "threads=2"): 2.0,
        ("encode", "threads", "resolution=512"): -1.0,
        ("later", "threads", "resolution=512"): 0.0,
    }.items():
        row = found.loc[key]
        assert row["value"] == pytest.approx(expected, abs=0.02)
        assert row["low"] <= row["value"] <= row["high"] and row["high"] - row["low"] < 0.05
        assert row["law"] == "exponent"


def test_cost_of_the_boundary_is_recovered():
    # 5 ms plus 40 ms for a whole boundary.
    fits = scaling.fit(timings(lambda t, r, click, s: 5 + 40 * s))
    rows = fits[fits["against"] == "boundary share"]
    assert len(rows) == 12 and (rows["law"] == "ms per share").all()
    assert rows["value"].to_numpy() == pytest.approx(40, rel=0.1)
    # 12 intervals of 95 %: at least 9 cover, but for one case in ten thousand.
    assert ((rows["low"] <= 40) & (rows["high"] >= 40)).sum() >= 9


@pytest.mark.parametrize(("rounds", "shown"), [(3, False), (4, False), (5, True)])
def test_no_interval_of_a_fit_below_five_rounds(rounds, shown):
    fits = scaling.fit(timings(lambda t, r, click, s: r**2 / t * (1 + s if click else 1), rounds=rounds))
    assert len(fits) and (fits[["low", "high"]].notna() == shown).all().all()


def test_intervals_of_fits_cover_at_five_rounds():
    """An exponent of 1 in 200 made-up grids of five rounds; 93 % or more cover it (174 but for 1 in 1000)."""
    rng = np.random.default_rng(0)
    tokens = np.array([256.0, 512, 1024]) ** 2
    hits = 0
    for _ in range(200):
        times = [t * np.exp(0.03 * rng.standard_normal(5)) for t in tokens]
        found = scaling._interval(scaling._slopes(np.log(tokens), np.log(scaling._resampled(rng, times))))
        hits += found["low"] <= 1 <= found["high"]
    assert hits >= binom.ppf(0.001, 200, 0.93) == 174


def test_one_size_and_one_thread_count_give_no_fit():
    one = timings(lambda t, r, click, s: 5.0)
    one = one[(one["threads"] == 1) & (one["resolution"] == 256)].assign(boundary_share=math.nan)
    assert scaling.fit(one).empty


def test_crossover_of_a_linear_and_a_quadratic_law():
    x = np.array([256.0, 1024, 4096])
    # 10 x = x^2 / 100 at x = 1000.
    assert scaling.crossover(x, 10 * x, x**2 / 100) == pytest.approx(1000)
    assert math.isnan(scaling.crossover(x, x, 2 * x))


PEAKS = {"1": {"fp32_gflops": 100.0, "bf16_gflops": 400.0, "copy_gb_per_s": 10.0}}


def test_the_roof_is_the_larger_of_compute_and_memory():
    # 2 GFLOPs at 100 GFLOPs/s: 20 ms. 500 MB at 10 GB/s: 50 ms.
    assert roofline.roof_ms(2, 1, PEAKS["1"]) == pytest.approx(20)
    assert roofline.roof_ms(2, 500, PEAKS["1"]) == pytest.approx(50)
    assert roofline.roof_ms(2, 1, PEAKS["1"], "bf16") == pytest.approx(5)


def test_roofs_are_matched_to_rows_and_summed_over_parts():
    where = {"variant": "a", "resolution": 512, "kind": "later", "size_bin": "all"}
    flops = pd.DataFrame(
        [
            {**where, "part": "attention", "gflops": 2.0, "mbytes": 1.0},
            {**where, "part": "other", "gflops": 0.0, "mbytes": 100.0},
            {**where, "part": "total", "gflops": 2.0, "mbytes": 101.0},
        ]
    )
    timed = pd.DataFrame(
        [
            {**where, "threads": 1, "median_ms": 60.0},
            {**where, "threads": 2, "median_ms": 60.0},
            {**where, "threads": 1, "part": "attention", "median_ms": 30.0},
        ]
    )
    whole = roofline.add(timed.drop(columns="part").head(2), flops, PEAKS)
    # 20 ms of products, then 10 ms of copying; nothing is known about two threads.
    assert whole["roofline_ms"].tolist()[0] == pytest.approx(30) and whole["roofline_gap"].tolist()[0] == pytest.approx(
        2
    )
    assert math.isnan(whole["roofline_ms"].tolist()[1])
    part = roofline.add(timed.tail(1), flops, PEAKS)
    assert part["roofline_gap"].item() == pytest.approx(1.5)
    assert roofline.add(timed.tail(1), None, None)["roofline_ms"].isna().all()
