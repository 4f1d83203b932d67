"""The workload: which images, which masks, and that replays follow them."""

from __future__ import annotations

import numpy as np
import pytest

from harness.clicking.annotators import Inter2Former, Jitter, Ritm
from harness.clicking.loop import Truth, run_episode
from harness.latency.replay import OWN, RECORDED, TRUTH, Replay
from harness.latency.workload import compose, erroneous, load, resize, save
from harness.protocol import Protocol
from harness.sample import Sample
from harness.scoring.sizes import SIZE_BINS, size_bin


def sample(name="a", height=120, width=160, share=0.1, seed=0):
    side = round((share * height * width) ** 0.5)
    mask = np.zeros((height, width), np.uint8)
    mask[10 : 10 + side, 20 : 20 + side] = 1
    rng = np.random.default_rng(seed)
    return Sample(name, rng.integers(0, 255, (height, width, 3), np.uint8), mask)


def test_size_bins_have_the_edges_of_the_protocol():
    assert [size_bin(s) for s in (0.0099, 0.01, 0.0499, 0.05, 0.1999, 0.2)] == [
        "<1%", "1-5%", "1-5%", "5-20%", "5-20%", ">20%",
    ]  # fmt: skip


def test_images_are_spread_over_the_size_bins():
    many = [sample(f"m{i}", share=0.1) for i in range(5)] + [sample("big", share=0.4), sample("small", share=0.005)]
    assert {e.size_bin for e in compose(many, 3, 64, 1)} == {"5-20%", ">20%", "<1%"}
    assert [e.name for e in compose(many, 1, 64, 1)] == ["m0"]
    empty = Sample("empty", many[0].image, np.zeros((120, 160), np.uint8))
    assert compose([empty], 3, 64, 1) == []


@pytest.mark.parametrize("longest", [64, 160, 400])
def test_resizing_keeps_the_aspect_and_the_labels(longest):
    given = sample()
    given.mask[:5] = 255
    made = resize(given, longest)
    assert max(made.mask.shape) == longest and made.image.shape[:2] == made.mask.shape
    assert made.mask.shape[0] / made.mask.shape[1] == pytest.approx(120 / 160, abs=0.02)
    assert set(np.unique(made.mask)) == {0, 1, 255}


@pytest.mark.parametrize("iou", [0.5, 0.75, 0.9])
def test_erroneous_masks_have_the_wanted_iou(iou):
    truth = sample(share=0.2).mask == 1
    for seed in range(5):
        wrong = erroneous(truth, iou, np.random.default_rng(seed))
        assert (wrong & truth).sum() / (wrong | truth).sum() == pytest.approx(iou, abs=0.05)
    again = erroneous(truth, iou, np.random.default_rng(4))
    assert (again == wrong).all()


def test_a_workload_survives_its_file(tmp_path):
    made = compose([sample("a"), sample("b", share=0.3)], 2, 80, 2)
    save(made, tmp_path / "w.npz")
    back = load(tmp_path / "w.npz")
    for a, b in zip(made, back, strict=True):
        assert (a.name, a.size_bin, a.clicks) == (b.name, b.size_bin, b.clicks)
        assert all((getattr(a, f) == getattr(b, f)).all() for f in ("image", "mask", "packed", "previous"))
        assert a.previous.shape == (2, *a.mask.shape) and (a.before(3) == a.previous[1]).all()
        assert b.size_bin in SIZE_BINS


class Recorder:
    """Answers with the ground truth's complement, and remembers what it was given."""

    threshold, encoder_key = 0.0, "recorder"

    def __init__(self, status, replaceable):
        self.weights_status, self.replaceable, self.given, self.encoded = status, replaceable, [], 0

    def encode(self, image):
        self.encoded += 1
        return image.shape[:2]

    def start(self, embedding):
        return (ReplaceableSession if self.replaceable else RecorderSession)(self, embedding)


class RecorderSession:
    def __init__(self, segmenter, size):
        self.segmenter, self.size = segmenter, size

    def click(self, click):
        self.segmenter.given.append(click)
        return np.ones(self.size, np.float32)


class ReplaceableSession(RecorderSession):
    def replace_prediction(self, mask):
        self.segmenter.given.append(mask)


@pytest.mark.parametrize(
    ("status", "replaceable", "workload"),
    [
        ("untrained", True, TRUTH),
        ("untrained", False, OWN),
        ("released", True, RECORDED),
        ("no weights", False, RECORDED),
    ],
)
def test_previous_masks_come_from_where_the_table_says(status, replaceable, workload):
    episodes = compose([sample("a"), sample("b", share=0.3)], 2, 80, 2)
    segmenter = Recorder(status, replaceable)
    replay = Replay(segmenter, episodes)
    replay.record()
    replay.keep()
    assert replay.workload == workload
    segmenter.given.clear()
    segmenter.encoded = 0
    timings = replay.once()
    assert segmenter.encoded == 2  # both images
    steps = [(t.image, t.click) for t in timings]
    assert steps == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]
    masks = [g for g in segmenter.given if isinstance(g, np.ndarray)]
    clicks = [g for g in segmenter.given if not isinstance(g, np.ndarray)]
    if workload == TRUTH:
        expected = [m for e in episodes for m in e.previous]
        assert len(masks) == 4 and all((a == b).all() for a, b in zip(masks, expected, strict=True))
    else:
        assert not masks
    if workload == RECORDED:
        # The recorder says "object everywhere": from the second click on, clicks are negative, on the background.
        assert clicks[0].positive and not any(c.positive for c in clicks[1:3])
    else:
        assert clicks == [c for e in episodes for c in e.clicks]


PROTOCOLS = [
    Protocol("ritm", Ritm()),
    Protocol("ritm", Ritm(perfect_mask="corner")),
    Protocol("inter2former", Inter2Former(seed=3), rerun_without_click=True),
    Protocol("jitter", Jitter(seed=5), clicks=7),
    Protocol("ritm", Ritm(), threshold=0.4),
    Protocol("ritm", Ritm(), threshold=-1.0),
]


class Wavy:
    """Scores that change with every click: without a model, episodes of which no two clicks are alike."""

    threshold, encoder_key, weights_status = 0.0, "wavy", "no weights"

    def encode(self, image):
        return image.astype(np.float32).mean(axis=2) / 255

    def start(self, embedding):
        return WavySession(embedding)


class WavySession:
    def __init__(self, embedding):
        self.scores = np.full(embedding.shape, -0.5, np.float32)
        self.grid = np.mgrid[: embedding.shape[0], : embedding.shape[1]].astype(np.float32)

    def click(self, click):
        if click is not None:
            away = np.hypot(self.grid[0] - click.y, self.grid[1] - click.x)
            self.scores = self.scores + (1 if click.positive else -1) * np.exp(-((away / 12) ** 2)).astype(np.float32)
        return self.scores


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: f"{p.name}-{p.threshold}-{p.clicks}")
def test_recorded_clicks_are_those_of_the_quality_pass(protocol):
    """The reference is the click loop itself: same annotator, ties, threshold, limit and end of an episode."""
    given = [sample("a", share=0.2), sample("b", share=0.06, seed=1)]
    episodes = compose(given, 2, 160, 19, protocol)
    replay = Replay(Wavy(), episodes, "recorded", protocol)
    replay.record()
    for episode, clicks in zip(episodes, replay.clicks, strict=True):
        truth = Truth(Sample(episode.name, episode.image, episode.mask))
        annotator = protocol.annotator.start(truth.sample)
        embedding = Wavy().encode(episode.image)
        rows = run_episode(Wavy(), embedding, 0.0, truth, annotator, protocol).clicks
        expected = [None if row.y < 0 else (row.y, row.x, row.positive) for row in rows]
        assert [c if c is None else tuple(c) for c in clicks] == expected
        assert len(expected) == protocol.clicks
    assert replay.description == RECORDED


def test_a_threshold_changes_the_clicks():
    """Otherwise the test above could not see one that is ignored."""
    clicks = []
    for protocol in (PROTOCOLS[0], PROTOCOLS[4]):
        replay = Replay(Wavy(), compose([sample("a", share=0.2)], 1, 160, 19, protocol), "recorded", protocol)
        replay.record()
        clicks.append(replay.clicks)
    assert clicks[0] != clicks[1]


def test_clicks_on_ground_truth_are_the_protocols_annotators():
    protocol = PROTOCOLS[2]
    (episode,) = compose([sample("a", share=0.2)], 1, 160, 4, protocol)
    annotator = protocol.annotator.start(Sample("a", episode.image, episode.mask))
    predictions = [np.zeros(episode.mask.shape, bool), *episode.previous]
    assert list(episode.clicks) == [annotator.click(p) for p in predictions]


def test_a_part_of_an_episode_is_named():
    episodes = compose([sample("a")], 1, 80, 2)
    assert Replay(Wavy(), episodes).description == "recorded episodes, clicks 1 to 3 of 20"
    assert len(compose([sample("a")], 1, 80, 19, PROTOCOLS[3])[0].clicks) == 7  # no more than the protocol allows
