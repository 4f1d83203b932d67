"""Metrics from rows: hand-made episodes with known answers, and slow forms."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from harness.protocol import Protocol
from harness.scoring import metrics

PROTOCOL = {"name": "ritm", "clicks": 20, "targets": [0.8, 0.85, 0.9, 0.95], "stop_iou": None}


def rows_of(episodes: dict[str, list[float]], variant: str = "v", size_bin: str = "1-5%") -> pd.DataFrame:
    """clicks.parquet for one data set; the boundary IoU is half the IoU."""
    return pd.DataFrame(
        [
            {
                "variant": variant,
                "dataset": "d",
                "sample": s,
                "click": i,
                "iou": v,
                "biou": v / 2,
                "size_bin": size_bin,
                "error": "",
            }
            for s, values in episodes.items()
            for i, v in enumerate(values, 1)
        ]
    )


EPISODES = {
    "reaches": [0.5, 0.85, 0.92, 0.96] + [0.97] * 16,
    "exactly": [0.9] + [0.9] * 19,
    "at the last": [0.1] * 19 + [0.91],
    "never": [0.3, 0.2] * 10,
    "stopped early": [0.4, 0.93],
}


def test_noc_by_hand():
    found = metrics.noc(rows_of(EPISODES), 0.9, 20)
    assert found.to_dict() == {"reaches": 3, "exactly": 1, "at the last": 20, "never": 20, "stopped early": 2}


def test_nof_and_ritms_own_count_differ_at_the_last_click():
    rows = rows_of(EPISODES)
    assert metrics.nof(rows, 0.9, 20).sum() == 1
    assert metrics.ritm_nof(rows, 0.9, 20).sum() == 2


def test_click_limit_below_the_recorded_clicks():
    rows = rows_of(EPISODES)
    assert metrics.noc(rows, 0.9, 2).to_dict()["reaches"] == 2
    assert metrics.nof(rows, 0.9, 2).to_dict()["reaches"] == 1


def test_stopped_episodes_keep_their_last_value():
    rows = rows_of(EPISODES)
    assert metrics.miou_at(rows, 5)["stopped early"] == 0.93
    assert metrics.biou_at(rows, 20)["stopped early"] == 0.93 / 2
    assert metrics.miou_at(rows, 5)["never"] == 0.3


def test_iou_drop_counts_clicks_that_lower_the_iou():
    found = metrics.iou_drop(rows_of({**EPISODES, "one click": [0.95]}))
    assert found["never"] == 10 / 19
    assert found["reaches"] == found["exactly"] == 0
    assert math.isnan(found["one click"])


def test_auc_is_the_trapezoid_rule():
    rows = rows_of(EPISODES)
    found = metrics.auc(rows, 20)
    for name, values in EPISODES.items():
        padded = values + [values[-1]] * (20 - len(values))
        slow = sum((a + b) / 2 for a, b in zip(padded, padded[1:], strict=False)) / 19
        assert found[name] == pytest.approx(slow, abs=1e-12)
    assert found["exactly"] == pytest.approx(0.9)


def test_order_of_rows_makes_no_difference():
    rows = rows_of(EPISODES)
    shuffled = rows.sample(frac=1, random_state=0)
    left, right = metrics.summarise(rows, PROTOCOL), metrics.summarise(shuffled, PROTOCOL)
    pd.testing.assert_frame_equal(left, right)


def test_summary_by_hand():
    summary = metrics.summarise(rows_of(EPISODES), PROTOCOL)
    whole = summary[summary["size_bin"] == "all"].set_index("metric")
    assert whole.loc["noc90", "value"] == pytest.approx((3 + 1 + 20 + 20 + 2) / 5)
    assert whole.loc["nof90", "value"] == 1 and whole.loc["ritm_nof90", "value"] == 2
    assert whole.loc["miou1", "value"] == pytest.approx(np.mean([0.5, 0.9, 0.1, 0.3, 0.4]))
    assert whole.loc["miou5", "value"] == pytest.approx(np.mean([0.97, 0.9, 0.1, 0.3, 0.93]))
    assert whole.loc["biou5", "value"] == pytest.approx(np.mean([0.97, 0.9, 0.1, 0.3, 0.93]) / 2)
    assert (whole["samples"] == 5).all() and (whole["invalid"] == 0).all() and (whole["protocol"] == "ritm").all()
    assert whole[["low", "high"]].isna().all().all()  # five samples are too few for an interval


def test_size_bins_are_rows_of_their_own():
    both = pd.concat([rows_of({"a": [0.95]}, size_bin="<1%"), rows_of({"b": [0.1] * 20}, size_bin=">20%")])
    summary = metrics.summarise(both, PROTOCOL)
    found = summary[summary["metric"] == "noc90"].set_index("size_bin")["value"].to_dict()
    assert found == {"all": 10.5, "<1%": 1, ">20%": 20}


def test_nan_samples_are_counted_and_not_averaged():
    rows = rows_of({"good": [0.95], "bad": [math.nan, 0.2]})
    assert metrics.invalid_samples(rows) == ["bad"]
    whole = metrics.summarise(rows, PROTOCOL).query("size_bin == 'all'").set_index("metric")
    assert whole.loc["miou1", "value"] == 0.95 and whole.loc["noc90", "value"] == 1
    assert whole.loc["noc90", "samples"] == 1 and whole.loc["noc90", "invalid"] == 1


def test_targets_beyond_the_stop_rule_are_left_out():
    summary = metrics.summarise(rows_of(EPISODES), {**PROTOCOL, "stop_iou": 0.9})
    assert "noc90" in set(summary["metric"]) and "noc95" not in set(summary["metric"])


def test_compare_is_paired_on_common_samples():
    base = rows_of({"a": [0.5, 0.95], "b": [0.95], "only here": [0.1]}, "base")
    other = rows_of({"a": [0.95], "b": [0.96], "only there": [0.99]}, "other")
    found = metrics.compare(pd.concat([base, other]), "base", PROTOCOL)
    whole = found[found["size_bin"] == "all"].set_index("metric")
    assert whole.loc["noc90", "difference"] == -0.5
    assert whole.loc["miou1", "difference"] == pytest.approx(((0.95 - 0.5) + 0.01) / 2)
    assert (whole["samples"].drop("iou_drop") == 2).all()
    assert set(found["variant"]) == {"other"} and set(found["base"]) == {"base"}


def test_compare_without_the_base_is_empty():
    assert metrics.compare(rows_of(EPISODES), "absent", PROTOCOL).empty


def test_empty_rows_give_empty_tables_with_all_columns():
    nothing = pd.DataFrame(columns=["variant", "dataset", "sample", "click", "iou", "biou", "size_bin", "error"])
    assert list(metrics.summarise(nothing, PROTOCOL).columns) == [
        "variant", "dataset", "size_bin", "metric", "value", "low", "high", "samples", "images", "invalid",
        "protocol",
    ]  # fmt: skip
    assert metrics.compare(nothing, "base").empty


def test_failed_rows_are_left_out():
    rows = rows_of({"a": [0.95]})
    failed = rows_of({"b": [0.1]}).assign(error="SampleError: …", iou=math.nan)
    summary = metrics.summarise(pd.concat([rows, failed]), PROTOCOL)
    assert (summary["samples"].to_numpy()[:3] == 1).all() and (summary["invalid"] == 0).all()


def test_slow_form_on_random_episodes():
    """Every metric by plain loops, over random curves of random length."""
    random = np.random.default_rng(7)
    episodes = {f"s{i}": list(np.round(random.random(random.integers(1, 21)), 2)) for i in range(40)}
    table = metrics.per_sample(rows_of(episodes), PROTOCOL)
    for name, values in episodes.items():
        curve = values + [values[-1]] * (20 - len(values))
        row = table.loc[name]
        for target in PROTOCOL["targets"]:
            label = f"{100 * target:g}"
            reached = [i for i, v in enumerate(curve, 1) if v >= target]
            assert row[f"noc{label}"] == (reached[0] if reached else 20)
            assert row[f"nof{label}"] == (not reached)
            assert row[f"ritm_nof{label}"] == (not reached or reached[0] == 20)
        for k in (1, 3, 5, 10, 20):
            assert row[f"miou{k}"] == curve[k - 1]
        drops = [b < a for a, b in zip(values, values[1:], strict=False)]
        assert row["iou_drop"] == pytest.approx(np.mean(drops) if drops else math.nan, nan_ok=True)


def test_metric_names_follow_the_targets_of_the_protocol():
    protocol = Protocol("p", annotator="none", clicks=3, targets=[0.975])
    names = set(metrics.per_sample(rows_of(EPISODES), protocol.record()).columns)
    assert {"noc97_5", "nof97_5", "miou1", "miou3", "auc"} <= names and "miou5" not in names


def many(images: int, objects: int, shift: int = 0) -> dict[str, list[float]]:
    """Episodes that reach 0.9 at click 2 to 8, the same for all objects of an image."""
    return {
        f"{i:02d}#{k}": [0.5] * (1 + (i + shift) % 7) + [0.95] for i in range(images) for k in range(1, objects + 1)
    }


def test_every_interval_holds_its_value_and_has_a_width():
    whole = metrics.summarise(rows_of(many(20, 1)), PROTOCOL)
    assert (whole["low"] <= whole["value"]).all() and (whole["value"] <= whole["high"]).all()
    assert (whole["low"] < whole["high"]).all()
    # No sample fails: 0, at most 20 (1 - 0.025^(1/20)), the exact upper limit of Clopper and Pearson for a count.
    row = whole[(whole["metric"] == "nof90") & (whole["size_bin"] == "all")].iloc[0]
    assert row[["value", "low", "high"]].tolist() == pytest.approx([0, 0, 20 * (1 - 0.025 ** (1 / 20))])


def test_objects_of_one_image_count_as_one_draw():
    """Three equal objects in each image: the mean and its interval are those of one object an image."""
    alone = metrics.summarise(rows_of(many(12, 1)), PROTOCOL)
    rows = rows_of(many(12, 3))
    together = metrics.summarise(rows.assign(image=rows["sample"].str[:2]), PROTOCOL)
    assert (together["images"] == 12).all() and (together["samples"] == 36).all()
    metric = alone["metric"] == "noc90"
    for column in ("value", "low", "high"):
        assert together.loc[metric, column].to_numpy() == pytest.approx(alone.loc[metric, column].to_numpy())
    unaware = metrics.summarise(rows, PROTOCOL)
    assert (unaware["images"] == 36).all()
    assert (unaware["high"] - unaware["low"])[metric].iloc[0] < 0.8 * (alone["high"] - alone["low"])[metric].iloc[0]


def test_compare_counts_images_that_differ():
    base, other = (
        rows_of(many(12, 3, shift), name).assign(image=lambda r: r["sample"].str[:2])
        for name, shift in (("base", 0), ("other", 1))
    )
    row = metrics.compare(pd.concat([base, other]), "base", PROTOCOL).query("metric == 'noc90' and size_bin == 'all'")
    assert row[["samples", "images", "differing"]].iloc[0].tolist() == [36, 12, 12]
    # One click more, or six fewer where 8 turns to 2: by image +1 eleven times and -6 once (i = 6).
    assert row["difference"].item() == pytest.approx((11 - 6) / 12)
    # Exchanges of whole images: 2^12 sums of +-1 (11 of them) and +-6, exactly.
    sums = [s + t for t in (-6, 6) for k in range(12) for s in [11 - 2 * k] * math.comb(11, k)]
    assert row["p_value"].item() == pytest.approx(min(1, 2 * np.mean(np.array(sums) >= 5)))


def test_one_allowed_click_gives_noc_no_interval():
    summary = metrics.summarise(rows_of(many(12, 1)), {**PROTOCOL, "clicks": 1}).set_index("metric")
    assert np.isnan(summary.loc["noc90", "low"]).all() and np.isfinite(summary.loc["miou1", "low"]).all()
