"""RClicks against references of a few lines in float64, from spec/rclicks.md, and its promises as properties."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
from brushes import Brush
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.clicking.annotators import Ritm
from harness.clicking.clickability import Weighted, as_map, box_of, distance, scaled, uniform
from harness.clicking.limits import Guard
from harness.clicking.quality import Work, run
from harness.clicking.rclicks import EDGES, GROUPS, RClicks
from harness.errors import UserError
from harness.planning.config import build
from harness.protocol import Protocol
from harness.sample import Sample
from harness.scoring import metrics
from harness.segmenter import Click


def scene(seed: int, height: int = 40, width: int = 52) -> Sample:
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.standard_normal((height, width)), (0, 0), 6)
    mask = (noise > np.quantile(noise, 0.6)).astype(np.uint8)
    mask[noise < np.quantile(noise, 0.02)] = 255
    return Sample(f"scene{seed}", random.integers(0, 256, (height, width, 3), np.uint8), mask)


class Scenes:
    """A data set in memory."""

    name, note = "scenes", ""

    def __init__(self, count: int = 3):
        self.names = [f"scene{n}" for n in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def load(self, name: str) -> Sample:
        return scene(int(name[5:]))

    def digest(self) -> str:
        return f"{len(self.names)} scenes"


def band_reference(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """spec/rclicks.md, "Next click", step 3, on a whole (H, W) map."""
    ascending = np.sort(values.ravel())
    mass = np.cumsum(ascending)
    total = mass[-1]
    at_least = ascending[np.searchsorted(mass, low * total, side="left")]
    at_most = ascending[min(np.searchsorted(mass, high * total, side="right"), len(ascending) - 1)]
    return np.where((values >= at_least) & (values <= at_most), values, 0)


maps = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).choice([0, 0.25, 0.5, 1.0], (9, 11))
        * (np.random.default_rng(seed + 1).random((9, 11)) if seed % 2 else 1)
    )
)


@given(maps, st.integers(0, 9))
@settings(max_examples=150)
def test_a_band_keeps_the_pixels_of_the_reference(values, number):
    if not values.any():
        return
    low, high = EDGES[number], EDGES[number + 1]
    flat, kept = Weighted.of(values, np.ones_like(values, np.uint8), []).band(low, high)
    expected = band_reference(values, low, high).ravel()
    assert np.array_equal(flat, np.flatnonzero(expected)) and np.array_equal(kept, expected[flat])


@given(maps)
@settings(max_examples=100)
def test_the_ten_bands_cover_exactly_the_whole_probability(values):
    """Every pixel that can be clicked is in a band, none outside; each band has its tenth, and neighbours share the
    pixels of one value, or of the two beside an edge that a cumulative sum meets exactly (steps 3 of the rule: left and
    right search)."""
    weighted = Weighted.of(values, np.ones_like(values, np.uint8), [])
    assert EDGES[0] == 0 and EDGES[-1] == 1 and len(GROUPS) == 10
    bands = [weighted.band(low, high) for low, high in zip(EDGES, EDGES[1:], strict=False)]
    assert set().union(*(set(flat.tolist()) for flat, _ in bands)) == set(np.flatnonzero(values).tolist())
    total = values.sum()
    for (_, of_band), (_, of_next) in zip(bands, bands[1:], strict=False):
        if len(of_band) and len(of_next):
            shared = (of_next.min() <= of_band) & (of_band <= of_band.max())
            assert len(np.unique(of_band[shared])) <= 2
    assert all(of_band.sum() >= 0.1 * total * (1 - 1e-9) for _, of_band in bands)


def test_draws_follow_the_kept_values():
    values = np.array([[0.0, 1, 2, 3, 4]])
    weighted = Weighted.of(values, np.ones_like(values, np.uint8), [(0, 4)])
    random = np.random.default_rng(0)
    counts = np.bincount([weighted.draw(0, 1, random) for _ in range(6000)], minlength=5) / 6000
    # Binomial standard deviations are at most 0.0065.
    assert counts == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 0], abs=0.02)
    assert weighted.draw(0, 0.1, random) == 1 and weighted.draw(0.9, 1, random) == 3
    assert Weighted.of(np.zeros((1, 5)), np.ones((1, 5), np.uint8), []).draw(0, 1, random) is None


def test_distance_is_the_exact_transform_without_a_border():
    """Closed form by SciPy's exact transform in float64 over the whole image."""
    for seed in range(30):
        error = (scene(seed, 33, 21).mask == 1).astype(np.uint8)
        expected = scipy.ndimage.distance_transform_edt(error)
        assert distance(None, None, error) == pytest.approx(expected / expected.max(), abs=1e-6)
    assert (distance(None, None, np.ones((4, 5), np.uint8)) == 1).all()
    assert not distance(None, None, np.zeros((4, 5), np.uint8)).any()


@pytest.mark.parametrize("made", [distance, uniform])
def test_a_map_inside_the_box_is_that_of_the_whole_image(made):
    for seed in range(30):
        error = (scene(seed, 33, 21).mask == 1).astype(np.uint8)
        error[: seed % 7] = error[:, : seed % 5] = 0
        rows, columns = box_of(error)
        whole = Weighted.of(scaled(made(None, None, error), error.shape, "m"), error, [(20, 10)])
        inside = error[rows, columns]
        boxed = Weighted.of(made(None, None, inside), inside, [(20, 10)], (rows.start, columns.start), 21)
        assert np.array_equal(boxed.flat, whole.flat) and np.array_equal(boxed.values, whole.values)


def test_scaling_is_min_max_over_the_image():
    field = np.array([[2.0, 4], [6, 10]])
    assert scaled(field, (2, 2), "m").tolist() == [[0, 0.25], [0.5, 1]]
    assert (scaled(np.full((2, 2), 7), (2, 2), "m") == 1).all()
    for wrong, message in (
        (np.zeros((3, 2)), "shape"),
        (np.array([[np.nan, 1], [0, 0]]), "not finite"),
        ("x", "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            scaled(wrong, (2, 2), "m")


def clicks_of(annotator: RClicks, sample: Sample, group: str, count: int = 6) -> list[Click]:
    session = next(g.annotator for g in annotator.groups(sample) if g.name == group)
    brush = Brush(4).start(sample.mask.shape)
    prediction, clicks = np.zeros(sample.mask.shape, bool), []
    for _ in range(count):
        click = session.click(prediction)
        if click is None:
            break
        clicks.append(click)
        prediction = brush.click(click) > 0.5
    return clicks


@pytest.mark.parametrize("name", ["distance", "uniform"])
def test_clicks_lie_in_the_error_with_the_robots_sign_and_never_twice(name):
    for seed in range(8):
        sample = scene(seed)
        for group in GROUPS:
            session = next(g.annotator for g in RClicks(map=name).groups(sample) if g.name == group)
            brush, prediction, seen = Brush(4).start(sample.mask.shape), np.zeros(sample.mask.shape, bool), set()
            for _ in range(8):
                robot = Ritm().start(sample)
                for y, x in seen:
                    robot.took(Click(y, x, True))
                expected, click = robot.click(prediction), session.click(prediction)
                assert (click is None) == (expected is None)
                if click is None:
                    break
                assert click.positive == expected.positive and (click.y, click.x) not in seen
                assert sample.mask[click.y, click.x] == (1 if click.positive else 0)
                assert prediction[click.y, click.x] != click.positive
                seen.add((click.y, click.x))
                prediction = brush.click(click) > 0.5


def test_likely_groups_click_deeper_than_unlikely_ones():
    depths = {group: [] for group in ("g1", "g10")}
    for seed in range(20):
        sample = scene(seed)
        depth = scipy.ndimage.distance_transform_edt(sample.mask == 1)
        for group, values in depths.items():
            click = clicks_of(RClicks(), sample, group, 1)[0]
            values.append(depth[click.y, click.x] / depth.max())
    assert np.mean(depths["g1"]) < 0.4 < 0.8 < np.mean(depths["g10"])


def test_seeds_reproduce_and_order_does_not_matter():
    sample = scene(3)
    first = {group: clicks_of(RClicks(seed=5), sample, group) for group in GROUPS}
    assert {group: clicks_of(RClicks(seed=5), sample, group) for group in reversed(GROUPS)} == first
    assert {group: clicks_of(RClicks(seed=6), sample, group) for group in GROUPS} != first
    # The same distribution in all ten groups of `uniform`, but other draws: their spread says something.
    assert len({tuple(clicks_of(RClicks("uniform"), sample, group)) for group in GROUPS}) == 10


def test_a_map_that_is_zero_on_the_error_falls_back_to_the_robot():
    sample = scene(1)
    elsewhere = RClicks(map=Elsewhere())
    assert clicks_of(elsewhere, sample, "g3", 1) == [Ritm().start(sample).click(np.zeros(sample.mask.shape, bool))]


class Elsewhere:
    def record(self):
        return {"name": "elsewhere"}

    def __call__(self, image, truth, error):
        return 1.0 - error


class Nameless:
    def __call__(self, image, truth, error):
        return error


def brightness(image, truth, error, power=1.0):
    return image.mean(axis=2) ** power


def test_a_map_of_ones_own_plugs_in_by_target():
    made = build({"_target_": "harness.clicking.rclicks.RClicks", "map": {"_target_": f"{__name__}.Elsewhere"}}, "x")
    assert made.label == "map elsewhere" and made.record()["map"] == {"name": "elsewhere"}
    partial = {"_target_": f"{__name__}.brightness", "_partial_": True, "power": 2.0}
    made = build({"_target_": "harness.clicking.rclicks.RClicks", "map": partial}, "x")
    assert made.record()["map"] == {"name": f"{__name__}.brightness", "power": 2.0}
    assert clicks_of(made, scene(2), "g10", 3)
    assert as_map("uniform") == (uniform, "uniform")
    for wrong, message in (("distanse", "Did you mean 'distance'"), (3, "cannot be called"), (Nameless(), "no record")):
        with pytest.raises(UserError, match=message):
            RClicks(map=wrong)


def protocol(**changes) -> Protocol:
    return Protocol("rclicks", RClicks(**changes), clicks=20)


def episodes(settings: Protocol, names=None, segmenter=None):
    brush, scenes = segmenter or Brush(5), Scenes()
    names = names or scenes.names
    work = Work({"a": {}}, {}, settings, {name: ["a"] for name in names})
    results = list(run(work, {"a": brush}, scenes, Guard()))
    assert not [r.episode.error for r in results if r.episode.error]
    return {r.episode.sample: r.episode for r in results}


def rows(found) -> tuple[pd.DataFrame, pd.DataFrame]:
    """clicks.parquet and groups.parquet of one variant."""
    of = [{"variant": "a", "dataset": "d", "sample": e.sample} for e in found]
    main = [{**o, **vars(c)} for o, e in zip(of, found, strict=True) for c in e.clicks]
    more = [
        {**o, "group": g.group, **vars(c)} for o, e in zip(of, found, strict=True) for g in e.groups for c in g.clicks
    ]
    return pd.DataFrame(main), pd.DataFrame(more)


def test_eleven_episodes_share_one_embedding_and_the_base_is_ritm():
    brush = Brush(5)
    found = episodes(protocol(), segmenter=brush)
    assert brush.encoded == len(found) == 3
    ritm = episodes(Protocol("ritm", Ritm()))
    for name, episode in found.items():
        assert [g.group for g in episode.groups] == list(GROUPS)
        assert [(c.y, c.x, c.iou) for c in episode.clicks] == [(c.y, c.x, c.iou) for c in ritm[name].clicks]


def test_episodes_are_equal_in_every_order():
    def places(found):
        return {n: [(g.group, [(c.y, c.x, c.iou) for c in g.clicks]) for g in e.groups] for n, e in found.items()}

    names = Scenes().names
    assert places(episodes(protocol(), names[::-1])) == places(episodes(protocol(), names))
    assert places(episodes(protocol(), names[1:2])) == {names[1]: places(episodes(protocol(), names))[names[1]]}


def reference(iou: dict[str, np.ndarray], target: float) -> dict[str, float]:
    """spec/rclicks.md, "Metrics", for one sample: IoU curves of 20 clicks by group, with `base`."""
    noc = {g: next((k + 1.0 for k in range(20) if curve[k] >= target), 20.0) for g, curve in iou.items()}
    ten = [noc[f"g{i}"] for i in range(1, 11)]
    areas = [sum((c[k] + c[k + 1]) / 2 for k in range(19)) / 19 for c in (iou[f"g{i}"] for i in range(1, 11))]
    less, more, mean = sum(ten[:5]) / 5, sum(ten[5:]) / 5, sum(ten) / 10
    return {
        "rclicks_noc90": mean,
        "rclicks_std90": (sum((n - mean) ** 2 for n in ten) / 10) ** 0.5,
        "rclicks_dgr90": (ten[0] - ten[9]) / ten[9],
        "rclicks_dhh90": (less - more) / more,
        "rclicks_dsb90": (mean - noc["base"]) / noc["base"],
        "rclicks_nsr": (sum((a - sum(areas) / 10) ** 2 for a in areas) / 10) ** 0.5 / (sum(areas) / 10),
    }


def test_metrics_equal_the_reference_sample_by_sample_and_in_the_mean():
    random = np.random.default_rng(4)
    curves = {
        f"s{n}": {g: np.maximum.accumulate(random.uniform(0.3, 1, 20)) for g in ("base", *GROUPS)} for n in range(7)
    }
    main = [
        {"variant": "a", "dataset": "d", "sample": s, "click": k + 1, "iou": v, "biou": v, "size_bin": "<1%"}
        for s, groups in curves.items()
        for k, v in enumerate(groups["base"])
    ]
    more = [
        {"variant": "a", "dataset": "d", "sample": s, "group": g, "click": k + 1, "iou": v}
        for s, groups in curves.items()
        for g in GROUPS
        for k, v in enumerate(groups[g])
    ]
    record, group_rows = protocol().record(), pd.DataFrame(more)
    table = metrics.per_sample(pd.DataFrame(main), record, group_rows)
    assert list(table) == protocol().metrics()
    expected = pd.DataFrame({s: reference(c, 0.9) for s, c in curves.items()}).T
    assert table[expected.columns].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-12)
    summary = metrics.summarise(pd.DataFrame(main), record, group_rows).query("size_bin == 'all'").set_index("metric")
    for name in expected:
        assert summary["value"][name] == pytest.approx(expected[name].mean(), rel=1e-12)
        assert summary["low"][name] <= expected[name].mean() <= summary["high"][name]


def test_metrics_of_a_real_run_equal_the_reference():
    found = list(episodes(protocol()).values())
    main, more = rows(found)
    table = metrics.per_sample(main, protocol().record(), more)
    for episode in found:
        ends = {"base": episode.clicks, **{g.group: g.clicks for g in episode.groups}}
        iou = {g: np.array([*(c.iou for c in cs), *[cs[-1].iou] * (20 - len(cs))]) for g, cs in ends.items()}
        for name, value in reference(iou, 0.9).items():
            assert table.loc[episode.sample, name] == pytest.approx(value, rel=1e-12), name
