"""Episodes of people's clicks, from wrong masks, and of the best and worst of k."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from brushes import Brush, CopyingBrush, Deaf
from test_rclicks import Scenes, episodes, rows, scene

from harness.clicking.annotators import Jitter, Ritm
from harness.clicking.extremes import Extremes
from harness.clicking.limits import Guard
from harness.clicking.people import Recorded
from harness.clicking.quality import Work, run
from harness.clicking.rclicks import RClicks
from harness.clicking.recorded import RecordedClick, Writer, names_of
from harness.clicking.starts import RULES, Rule
from harness.datasets.starts import WithStarts
from harness.errors import SampleError, UserError
from harness.planning.config import build
from harness.protocol import Protocol
from harness.scoring import metrics
from harness.scoring.overlap import iou


@pytest.fixture
def study(tmp_path):
    """Ann clicks three times on the scenes 0 and 1, Bob once on the scene 1."""
    path = tmp_path / "clicks.csv"
    with Writer(path) as writer:
        for number, user, count in ((0, "ann", 3), (1, "ann", 3), (1, "bob", 1)):
            sample = scene(number)
            inside = np.argwhere(sample.mask == 1)[:: 40 if user == "ann" else 55]
            for click in range(count):
                y, x = map(float, inside[click])
                writer.add(RecordedClick(*names_of(sample), click + 1, y, x, True, user, "pc", 10.0 * click))
    return path


def places(clicks) -> list[tuple[int, int]]:
    return [(c.y, c.x) for c in clicks]


def recorded(path, **settings) -> Protocol:
    return Protocol("recorded", Recorded(str(path), **settings))


def test_all_clicks_of_a_user_are_replayed_and_give_the_same_masks(study):
    made = recorded(study, replay="all", user="ann")
    found = episodes(made, ["scene0", "scene1"])
    brush, sample = Brush(5), scene(0)
    session, clicks = brush.start(sample.mask.shape), Recorded(str(study)).recording.episodes["scene0"]["ann"]
    for row, click in zip(found["scene0"].clicks, clicks, strict=False):
        assert (row.y, row.x) == (click.y, click.x)
        assert row.iou == iou(session.click(click.on(sample.mask.shape)) > 0.5, sample.mask)
    assert len(found["scene0"].clicks) > 3 and not found["scene1"].groups


def test_first_clicks_then_the_rule_which_knows_where_they_were(study):
    found = episodes(recorded(study), ["scene0", "scene1"])["scene1"]
    assert [g.group for g in found.groups] == ["user:bob"]
    first = [found.clicks[0], found.groups[0].clicks[0]]
    assert places(first) == [(c[0].y, c[0].x) for c in Recorded(str(study)).recording.episodes["scene1"].values()]
    for row, clicks in zip(first, (found.clicks, found.groups[0].clicks), strict=True):
        robot = Ritm().start(scene(1))
        robot.took(row)
        prediction = Brush(5).start(scene(1).mask.shape).click((row.y, row.x, True)) > 0.5
        assert places(clicks[1:2]) == [robot.click(prediction)[:2]]


def test_metrics_of_users(study):
    found = episodes(recorded(study), ["scene0", "scene1"])
    main, more = rows(found.values())
    table = metrics.per_sample(main, recorded(study).record(), more)
    of_scene1 = [found["scene1"].clicks[0].iou, found["scene1"].groups[0].clicks[0].iou]
    assert table.loc["scene0", "user1"] == found["scene0"].clicks[0].iou
    assert table.loc["scene1", "user1"] == pytest.approx(np.mean(of_scene1))
    assert table.loc["scene1", "user1_std"] == pytest.approx(np.std(of_scene1))
    assert table.loc["scene1", "user1_nsr"] == pytest.approx(np.std(of_scene1) / (np.mean(of_scene1) + 1e-9))
    noc = [
        next((c.click for c in clicks if c.iou >= 0.9), 20)
        for clicks in (found["scene1"].clicks, found["scene1"].groups[0].clicks)
    ]
    assert table.loc["scene1", "user_noc90"] == np.mean(noc) and table.loc["scene1", "user_std90"] == np.std(noc)
    # One user alone has no further episodes, and the metrics are there all the same.
    alone = metrics.per_sample(main, recorded(study).record(), None)
    assert list(alone) == recorded(study).metrics()
    assert alone.loc["scene1", "user1"] == of_scene1[0] and alone.loc["scene1", "user1_std"] == 0


def test_first_clicks_beside_rclicks(study):
    found = episodes(Protocol("rclicks", RClicks(first_clicks=str(study))), ["scene1"])["scene1"]
    assert [(g.group, len(g.clicks)) for g in found.groups][-2:] == [("user:ann", 1), ("user:bob", 1)]
    record = Protocol("rclicks", RClicks(first_clicks=str(study))).record()
    table = metrics.per_sample(*(lambda main, more: (main, record, more))(*rows([found])))
    assert table.loc["scene1", "user1"] == pytest.approx(np.mean([g.clicks[0].iou for g in found.groups[-2:]]))
    assert "first_clicks" not in RClicks().record() and record["annotator"]["first_clicks"]


def test_what_is_wrong_with_recorded_clicks_is_said(study, tmp_path):
    with pytest.raises(UserError, match="user='an' clicked nothing in .*Did you mean 'ann'"):
        Recorded(str(study), user="an")
    with pytest.raises(UserError, match="device 'pen'.*Allowed: pc"):
        Recorded(str(study), device="pen").check(Scenes())
    with pytest.raises(UserError, match="replay='firsts'"):
        Recorded(str(study), replay="firsts")
    with pytest.raises(UserError, match="file is not set"):
        Recorded().check(Scenes())
    with pytest.raises(UserError, match="No such file"):
        Recorded(str(tmp_path / "none.csv")).check(Scenes())
    other = Scenes()
    other.name, other.names = "photos", ["beach", "hill"]
    with pytest.raises(UserError, match="clicks of another data set: none is on a sample of 'photos'"):
        Recorded(str(study)).check(other)
    Recorded(str(study)).check(Scenes())
    with pytest.raises(SampleError, match="nobody clicked on this sample"):
        Recorded(str(study)).start(scene(2))
    with Writer(tmp_path / "far.csv") as writer:
        writer.add(RecordedClick("scene0", "", 1, 400, 2, True, "ann"))
    with pytest.raises(UserError, match="outside the image of 40 x 52"):
        Recorded(str(tmp_path / "far.csv")).start(scene(0))


def test_the_record_changes_with_the_clicks_and_not_with_the_name_of_the_file(study, tmp_path):
    copy = tmp_path / "copy.csv"
    copy.write_bytes(study.read_bytes())
    assert Recorded(str(copy)).record() == Recorded(str(study)).record()
    with Writer(copy) as writer:
        writer.add(RecordedClick("scene2", "", 1, 4, 2, True, "ann"))
    assert Recorded(str(copy)).record() != Recorded(str(study)).record()


# ---- from a wrong mask


@pytest.mark.parametrize("rule", RULES)
def test_start_masks_have_the_iou_that_was_asked_for(rule):
    for seed in range(6):
        for target in (0.6, 0.8):
            sample = scene(seed, 80, 90)
            start = Rule(rule, target).mask(sample)
            assert start.dtype == bool and iou(start, sample.mask) == pytest.approx(target, abs=0.05)
            assert np.array_equal(start, Rule(rule, target).mask(sample))
            object_ = sample.mask == 1
            if rule in ("erode", "missing"):
                assert not (start & ~object_).any()
            if rule in ("dilate", "neighbour"):
                assert not (object_ & ~start).any()
    if rule in ("shift", "missing", "neighbour"):
        assert not np.array_equal(Rule(rule, 0.8, seed=1).mask(scene(0)), Rule(rule, 0.8).mask(scene(0)))


def test_a_rule_that_cannot_make_such_a_mask_says_so():
    sample = scene(0)
    dot = np.zeros_like(sample.mask)
    dot[5, 5] = 1
    with pytest.raises(SampleError, match="'erode' makes no start mask of IoU 0.8"):
        Rule("erode", 0.8).mask(replace(sample, mask=dot))
    for wrong, message in (({"rule": "eroded"}, "Did you mean 'erode'"), ({"iou": 1.0}, "between 0 and 1")):
        with pytest.raises(UserError, match=message):
            Rule(**wrong)


def from_mask(**settings) -> Protocol:
    return Protocol("ritm", Ritm(), start="mask", start_mask=Rule("erode", 0.7), **settings)


def test_an_episode_from_a_mask_has_click_zero_and_one_from_zero_beside_it():
    found = episodes(from_mask())
    ritm = episodes(Protocol("ritm", Ritm()))
    for name, episode in found.items():
        sample, zero = scene(int(name[5:])), episode.clicks[0]
        start = Rule("erode", 0.7).mask(sample)
        assert (zero.click, zero.y, zero.x, zero.iou) == (0, -1, -1, iou(start, sample.mask))
        assert places(episode.clicks[1:2]) == [Ritm().start(sample).click(start)[:2]]
        assert [g.group for g in episode.groups] == ["zero"]
        assert places(episode.groups[0].clicks) == places(ritm[name].clicks)
    main, more = rows(found.values())
    table = metrics.per_sample(main, from_mask().record(), more)
    alone = metrics.per_sample(main[main["click"] > 0], from_mask().record())
    assert list(table["noc90"]) == list(alone["noc90"])
    plain = metrics.per_sample(rows(ritm.values())[0], Protocol("ritm", Ritm()).record())
    assert list(table["zero_noc90"]) == list(plain["noc90"])
    assert list(table["start_iou"]) == [e.clicks[0].iou for e in found.values()]


def test_the_record_and_the_label_tell_starts_apart_and_leave_old_ones_alone():
    plain = Protocol("ritm", Ritm())
    assert "start" not in plain.record() and plain.label == "ritm"
    assert Protocol("ritm", Ritm(), start_mask=Rule("erode"), sequential=True).record() == plain.record()
    assert from_mask().label == "ritm (from masks: erode, IoU 0.7)"
    assert from_mask().record()["start"] == {"rule": "erode", "iou": 0.7, "seed": 0}
    assert Protocol("ritm", Ritm(), start="mask").record()["start"] == {"rule": "given"}
    assert [Protocol("x", a).episodes for a in (Ritm(), RClicks(), Extremes(3))] == [1, 11, 7]
    assert from_mask().episodes == 2
    assert Protocol("x", RClicks()).label == "x (map distance)"
    assert Protocol("x", Extremes(k=3)).label == "x (best and worst of 3)"
    for settings, message in (({"start": "masks"}, "Did you mean 'mask'"), ({"sequential_width": 0}, "above 0")):
        with pytest.raises(UserError, match=message):
            Protocol("ritm", Ritm(), **settings)


def test_a_segmenter_that_takes_no_mask_is_refused_by_name():
    work = Work({"deaf": {}}, {}, from_mask(), {"scene0": ["deaf"]})
    (result,) = run(work, {"deaf": Deaf()}, Scenes(), Guard())
    assert "Deaf cannot begin from a mask" in result.episode.error and "start_from(mask)" in result.episode.error
    silent = Brush()
    silent.feedback = False
    (result,) = run(work, {"deaf": silent}, Scenes(), Guard())
    assert "does not look at a mask with feedback=false" in result.episode.error


def test_given_masks_are_read_by_the_samples_names(tmp_path):
    starts = {name: Rule("dilate", 0.75).mask(scene(int(name[5:]))) for name in Scenes().names[:2]}
    for name, mask in starts.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), mask.astype(np.uint8) * 255)
    data = WithStarts(Scenes(), str(tmp_path))
    assert len(data) == 3 and data.note == "" and data.names == Scenes().names
    assert np.array_equal(data.load("scene0").start, starts["scene0"]) and data.load("scene2").start is None
    before = data.digest()
    assert before != Scenes().digest() and len(before) == 32
    given = Protocol("ritm", Ritm(), start="mask")
    work = Work({"a": {}}, {}, given, {name: ["a"] for name in data.names})
    results = {r.episode.sample: r.episode for r in run(work, {"a": Brush()}, data, Guard())}
    assert results["scene0"].clicks[0].iou == iou(starts["scene0"], scene(0).mask)
    assert "no start mask for this sample" in results["scene2"].error
    cv2.imwrite(str(tmp_path / "scene0.png"), np.zeros((10, 12), np.uint8))
    assert WithStarts(Scenes(), str(tmp_path)).digest() != before
    with pytest.raises(SampleError, match=r"start mask of 10 x 12 pixels .* 'scene0' has 40 x 52; they must be equal"):
        WithStarts(Scenes(), str(tmp_path)).load("scene0")


def test_folders_of_start_masks_that_are_none(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        WithStarts(Scenes(), str(tmp_path / "none"))
    with pytest.raises(UserError, match="no file in it is named like a sample of 'scenes'; expected scene0.png"):
        WithStarts(Scenes(), str(tmp_path))


def test_starts_in_a_configuration_wrap_the_data_set(tmp_path):
    cv2.imwrite(str(tmp_path / "scene0.png"), np.ones((40, 52), np.uint8))
    config = {"_target_": "test_rclicks.Scenes", "count": 2, "starts": str(tmp_path)}
    made = build(config, "dataset")
    assert isinstance(made, WithStarts) and made.load("scene0").start.all()
    assert isinstance(build({**config, "starts": None}, "dataset"), Scenes)


# ---- best and worst of k


def extremes(k: int = 3, seed: int = 0) -> Protocol:
    return Protocol("extremes", Extremes(k, seed), clicks=6)


def test_the_followed_answer_is_the_best_or_the_worst_of_the_candidates():
    """A loop of its own that makes every candidate's session anew."""
    for name, episode in episodes(extremes()).items():
        sample = scene(int(name[5:]))
        for group in episode.groups:
            rule = next(g.annotator for g in Extremes(3).groups(sample) if g.name == group.group)
            taken, prediction = [], np.zeros(sample.mask.shape, bool)
            for row in group.clicks:
                answers = []
                for candidate in rule.candidates(prediction):
                    session = Brush(5).start(sample.mask.shape)
                    for click in [*taken, candidate]:
                        mask = session.click(click) > 0.5
                    answers.append((iou(mask, sample.mask), candidate, mask))
                assert len({a[1] for a in answers}) == len(answers) == 3
                choose = max if group.group == "best" else min
                value, click, prediction = choose(answers, key=lambda a: a[0])
                assert (row.iou, row.y, row.x) == (value, click.y, click.x)
                rule.took(click)
                taken.append(click)


def test_copies_and_replays_give_the_same_episodes_and_copies_cost_less():
    copying = CopyingBrush(5)
    assert {n: places(e.groups[0].clicks) for n, e in episodes(extremes(), segmenter=copying).items()} == {
        n: places(e.groups[0].clicks) for n, e in episodes(extremes()).items()
    }
    # Per sample: 6 answers of the robot, and two groups of 6 rounds with 3 candidates.
    assert copying.answers <= 3 * (6 + 2 * 6 * 3)


def test_the_band_holds_the_robot_most_of_the_time_and_more_candidates_widen_it():
    def ends(k):
        found = episodes(extremes(k)).values()
        return [np.mean([g.clicks[2].iou for e in found for g in e.groups if g.group == n]) for n in ("worst", "best")]

    (worst, best), (worst8, best8) = ends(2), ends(8)
    assert worst8 < worst < best < best8


def test_extremes_refuse_one_candidate():
    with pytest.raises(UserError, match="k=1"):
        Extremes(k=1)


def test_a_replay_goes_on_with_any_annotator(study):
    made = recorded(study, later=Jitter(seed=3), user="bob")
    found = episodes(made, ["scene1"])["scene1"]
    assert len(found.clicks) > 1 and made.record()["annotator"]["later"] == Jitter(seed=3).record()
    assert math.isfinite(found.clicks[-1].iou)
