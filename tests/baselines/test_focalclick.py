"""FocalClick: checkpoint keys, cost, both networks against a second writing, crops, merge, episodes, wrong settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from focalclick_reference import component, focus, refine, segformer
from goldens import BASELINE_GOLDENS
from goldens_baselines import fill, layouts
from torch.utils.flop_counter import FlopCounterMode

from baselines import _focal_crops
from baselines._focal_crops import changed_part, focus_crop, merge
from baselines._focal_refiner import roi_align
from baselines._images import bilinear
from baselines._segformer import SIZES
from baselines._weights import WeightsError
from baselines.focalclick import ARCHITECTURES, FocalClick, FocalClickNet
from tests.baselines.sessions import Click, last_mask_decides, photograph

LAYOUTS = {"b0": "segformerB0_S2", "b3": "segformerB3_S2", "hrnet18s": "hrnet18s_S2"}
# focalclick.md, first table; the state-dict list has one more digit: [coarse, refiner] at 256, S1 from the text.
GMACS = {
    "segformer_b0_s1": (0.43, 0.13),
    "segformer_b0_s2": (1.765, 0.157),
    "segformer_b3_s2": (12.703, 0.191),
    "hrnet18s_s1": (0.90, 0.13),
    "hrnet18s_s2": (3.615, 0.136),
}
# The same two at 384, of the S2 models (4.15, 29.62 and 8.13 in the table; the refiner in the list alone).
GMACS_384 = {
    "segformer_b0_s2": (4.154, 0.354),
    "segformer_b3_s2": (29.621, 0.429),
    "hrnet18s_s2": (8.135, 0.307),
}
# focalclick.md, first table: parameters of the refiner, and those that no answer depends on.
REFINER = {"segformer_b0_s2": (16483, 5122), "segformer_b3_s2": (24675, 5122), "hrnet18s_s2": (11330, 0)}
FAST = {model: ARCHITECTURES[model] for model in ("segformer_b0_s1", "segformer_b0_s2", "hrnet18s_s1")}


@pytest.fixture(scope="module", params=FAST)
def system(request) -> FocalClick:
    segmenter = FocalClick(request.param, size=128)
    fill(segmenter.module, "focal_hrnet18s" if "hrnet" in request.param else "focal_segformerb0")
    return segmenter


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_released_keys_load_strictly(model, tmp_path):
    if not (BASELINE_GOLDENS.folder / "focalclick_state_dict.json").is_file():
        pytest.skip(f"no focalclick_state_dict.json at {BASELINE_GOLDENS.folder}")
    layout = layouts("focalclick")[LAYOUTS[ARCHITECTURES[model].backbone]]
    kinds = {"float32": torch.float32, "int64": torch.int64}
    state = {key: torch.ones(shape, dtype=kinds[kind]) for key, shape, kind in layout["state_dict"]}
    torch.save({"state_dict": state, "config": {}}, tmp_path / "focal.pth")
    segmenter = FocalClick(model, weights=str(tmp_path / "focal.pth"))
    assert segmenter.weights_status == "released"
    assert set(segmenter.module.state_dict()) == set(state) and len(state) == layout["entries"]
    assert segmenter.parameters == layout["parameters"]
    # Every value must be the file's: nothing of the module stays as it was made.
    assert all((value == 1).all() for value in segmenter.module.state_dict().values())
    other = "hrnet18s_s2" if "segformer" in model else "segformer_b0_s2"
    with pytest.raises(WeightsError, match=f"do not fit FocalClick {other}"):
        FocalClick(other, weights=str(tmp_path / "focal.pth"))


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        *((model, 256, pair) for model, pair in GMACS.items()),
        *((model, 384, pair) for model, pair in GMACS_384.items()),
    ],
)
def test_cost_of_both_networks(model, size, expected):
    with torch.device("meta"):
        net, x, box = FocalClickNet(model).eval(), torch.empty(1, 3, size, size), torch.zeros(4)
    costs = []
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            coarse, features = net.coarse(x, x)
        costs.append(counter.get_total_flops() / 2e9)
        with FlopCounterMode(display=False) as counter:
            net.refiner(x, x[:, :2], features, coarse, box)
        costs.append(counter.get_total_flops() / 2e9)
    assert costs == [pytest.approx(gmacs, abs=6e-3) for gmacs in expected]


@pytest.mark.parametrize("model", REFINER)
def test_parameters_of_the_refiner_and_those_without_a_part(model):
    with torch.device("meta"):
        net = FocalClickNet(model)
    refiner = sum(p.numel() for p in net.refiner.parameters())
    idle = [value for key, value in net.named_parameters() if key.startswith("refiner.feature_gate")]
    if "segformer" in model:
        idle += net.maps_transform.parameters()
    assert (refiner, sum(value.numel() for value in idle)) == REFINER[model]


@pytest.mark.parametrize("model", ["segformer_b0_s2", "segformer_b3_s2"])
def test_coarse_network_equals_its_second_writing(model):
    """In float64; B3, whose depths, widths and head differ from B0's, has no golden."""
    net = FocalClickNet(model).eval()
    fill(net, "focal_segformerb0")
    net.double()
    generator = torch.Generator().manual_seed(5)
    picture, prompts = (torch.randn(1, 3, 64, 64, generator=generator, dtype=torch.float64) for _ in range(2))
    prefix = "feature_extractor."
    state = {key.removeprefix(prefix): x for key, x in net.state_dict().items() if key.startswith(prefix)}
    with torch.no_grad():
        logits, features = net.coarse(picture, prompts)
        expected, expected_features = segformer(state, picture, prompts, SIZES[model[10:12]].depths)
        expected = bilinear(expected, 64, 64, align_corners=True)
    torch.testing.assert_close(features, expected_features, atol=1e-9, rtol=0)
    torch.testing.assert_close(logits, expected, atol=1e-9, rtol=0)
    assert logits.std() > 0.1


@pytest.mark.parametrize("box", [(0.0, 0.0, 64.0, 64.0), (3.7, 10.2, 41.9, 63.5), (60.0, 1.0, 64.0, 2.5)])
def test_refiner_equals_its_second_writing(box):
    """In float64, the whole view, a part of it and a strip at the border."""
    net = FocalClickNet("segformer_b0_s2").eval()
    fill(net, "focal_segformerb0")
    refiner = net.refiner.double()
    generator = torch.Generator().manual_seed(6)

    def draw(channels: int, size: int) -> torch.Tensor:
        return torch.randn(1, channels, size, size, generator=generator, dtype=torch.float64)

    crop, discs, features, coarse = draw(3, 64).sigmoid(), draw(2, 64).round().clamp(0, 1), draw(256, 16), draw(1, 64)
    with torch.no_grad():
        refined, boundary, base = refiner(crop, discs, features, coarse, torch.tensor(box, dtype=torch.float64))
        expected, expected_boundary = refine(refiner.state_dict(), crop, discs, features, coarse, list(box))
    torch.testing.assert_close(refined, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(boundary, expected_boundary, atol=1e-9, rtol=0)


def test_a_plane_keeps_its_slope_through_the_alignment():
    """Closed form: bin i of [a, b] reads a linear map at a - 0.5 + (i + 0.5) (b - a) / n, held at the borders."""
    ramp = torch.arange(32, dtype=torch.float64)[None, None, None].expand(1, 1, 32, 32)
    box = torch.tensor([4.0, 0.0, 30.5, 32.0], dtype=torch.float64)
    expected = 4 - 0.5 + (torch.arange(32) + 0.5) * 26.5 / 32
    torch.testing.assert_close(roi_align(ramp, box, 1.0, 32)[0, 0, 0], expected.double(), atol=1e-12, rtol=0)
    box = torch.tensor([31.6, 0.0, 32.0, 32.0], dtype=torch.float64)
    assert (roi_align(ramp, box, 1.0, 32)[0, 0, :, 16:] == 31).all()


def blobs(rng: np.random.Generator, height: int = 40, width: int = 60) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(rng.integers(1, 4)):
        top, left = rng.integers(0, height - 2), rng.integers(0, width - 2)
        mask[top : top + rng.integers(1, 20), left : left + rng.integers(1, 30)] = True
    return mask


def test_focus_crops_follow_the_rule(monkeypatch):
    """Against a second writing with a flood fill; all three branches occur, and views that leave nothing to see."""
    rng = np.random.default_rng(8)
    kinds = {"empty": 0, "unchanged": 0, "nothing left": 0, "crop": 0}
    for _ in range(300):
        before, after = blobs(rng), blobs(rng)
        if rng.random() < 0.2:
            before[:] = False
        y, x = int(rng.integers(40)), int(rng.integers(60))
        top, left = int(rng.integers(0, 20)), int(rng.integers(0, 30))
        view = (top, int(rng.integers(top + 1, 41)), left, int(rng.integers(left + 1, 61)))
        expected = focus(before, after, y, x, view)
        left_over = expected[0] < expected[1] and expected[2] < expected[3]
        assert focus_crop(before, after, (y, x), view, 1.4) == (expected if left_over else view)
        kinds["crop" if left_over else "nothing left"] += 1
        kinds["empty"] += not before.any()
        kinds["unchanged"] += bool(before.any() and before[y, x] == after[y, x])
    assert min(kinds.values()) > 10, kinds


def test_a_change_of_fewer_than_ten_pixels_has_the_whole_image_as_its_box():
    """focalclick.md, surprise 13; with ten pixels the box is their own."""
    mask = np.zeros((20, 30), dtype=bool)
    mask[3:6, 4:7] = True
    assert _focal_crops.bounding_box(mask) == (0, 20, 0, 30)
    mask[9, 9] = True
    assert _focal_crops.bounding_box(mask) == (3, 9, 4, 9)


def test_merge_changes_the_clicked_part_alone():
    """By hand: two parts change, one is clicked; corners touch; and the jump where the click changed nothing."""
    old = np.zeros((8, 8), dtype=bool)
    old[0:3, 0:3] = True
    new = np.zeros((8, 8), dtype=bool)
    new[0:2, 0:3] = True  # row 2 of the object goes
    new[5:7, 5:7] = True  # a part comes, touching (7, 7) only by a corner
    new[7, 7] = True
    part = np.zeros((8, 8), dtype=bool)
    part[5:7, 5:7] = part[7, 7] = True
    assert (merge(old, new, (5, 5)) == (old | part)).all()
    gone = old.copy()
    gone[2, 0:3] = False
    assert (merge(old, new, (2, 1)) == gone).all()
    unchanged = old == new
    assert (merge(old, new, (4, 0)) == (old | unchanged)).all()  # background both times: all unchanged pixels join
    assert (merge(old, new, (0, 0)) == (old & ~unchanged)).all()
    rng = np.random.default_rng(2)
    for _ in range(20):
        one, two, y, x = blobs(rng), blobs(rng), int(rng.integers(40)), int(rng.integers(60))
        assert (changed_part(one, two, y, x) == component(one ^ two, y, x)).all()


def test_an_empty_answer_shows_the_whole_image_but_keeps_the_crop():
    """focalclick.md, 5.1: the view and the paste stay those of the earlier target region."""
    segmenter = FocalClick("segformer_b0_s2", size=64)
    session = segmenter.start(segmenter.encode(photograph(60, 90)))
    session.click(Click(30, 40, True))
    mask = np.zeros((60, 90), dtype=bool)
    mask[20:40, 30:50] = True
    session.replace_prediction(mask)
    session.click(Click(31, 41, True))
    # Box 20..39, 30..49; 1.4 * 20 = 28: 29.5 -+ 14 -> 15.5 -> 16 (half to even), 43.5 -> 44; likewise columns.
    assert session.region == (16, 44, 26, 54) and session.view == (16, 45, 26, 55)
    seen = []
    original = segmenter.module.coarse
    segmenter.module.coarse = lambda image, prompts: (seen.append(image), original(image, prompts))[1]
    session.replace_prediction(np.zeros((60, 90), dtype=bool))
    scores = session.click(Click(32, 42, True))
    assert session.region == (16, 44, 26, 54)
    whole = bilinear(session.image, 64, 64, align_corners=True)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    torch.testing.assert_close(seen[0], (whole - mean[:, None, None]) / std[:, None, None], atol=1e-6, rtol=0)
    assert not scores[:16].any() and not scores[45:].any() and (scores[16:45, 26:55] > 0).all()


def test_the_mask_memory_and_the_crop_part_company_in_an_episode_from_a_mask(system):
    """focalclick.md, section 6: the network gets what it answered, the crop follows the merged mask."""
    session = system.start(system.encode(photograph(60, 90)))
    initial = np.zeros((60, 90), dtype=bool)
    initial[20:50, 30:80] = True
    session.start_from(initial)
    assert (session.previous[0, 0].numpy() == initial).all()
    for click in (Click(30, 40, False), Click(5, 80, True)):
        old = session.old.copy()
        mask = session.click(click) > system.threshold
        answer = session.previous[0, 0].numpy() > system.threshold
        assert (mask == merge(old, answer, click[:2])).all()
        assert (session.old == mask).all() and (session.source.numpy() == mask).all()


def test_every_image_size_and_call(system):
    for size in ((1, 1), (7, 200), (130, 33)):
        session = system.start(system.encode(photograph(*size)))
        for click in (None, Click(size[0] - 1, size[1] - 1, True), Click(0, 0, False), None, Click(0, 0, True)):
            scores = session.click(click)
            assert scores.shape == size and scores.dtype == np.float32
            assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1


def test_twenty_clicks_stay_finite_where_the_last_answer_is_0_and_1(system):
    """From the 11th click on the base is log(P / (1 - P)) of the last answer, here of a mask: infinite, never NaN."""
    session = system.start(system.encode(photograph(60, 90)))
    mask = np.zeros((60, 90), dtype=bool)
    mask[20:50, 30:80] = True
    for number in range(20):
        scores = session.click(Click(3 * number, 4 * number, number % 2 == 0))
        assert np.isfinite(scores).all()
        if number >= 10:
            outside = np.ones_like(mask)
            outside[session.focus[0] : session.focus[1], session.focus[2] : session.focus[3]] = False
            assert (scores[outside] == mask[outside]).all()
        session.replace_prediction(mask)


def test_episodes_are_deterministic_and_apart(system):
    embedding = system.encode(photograph(60, 90))
    before = embedding.image.clone()
    clicks = [Click(30, 40, True), Click(5, 80, False), None]
    first, second = system.start(embedding), system.start(embedding)
    kept = [first.click(click) for click in clicks]
    copies = [scores.copy() for scores in kept]
    for earlier, copy, click in zip(kept, copies, clicks, strict=True):
        assert (second.click(click) == copy).all()
        assert (earlier == copy).all(), "a later click changed scores that were handed out"
    assert (embedding.image == before).all()
    last_mask_decides(system)


def test_saved_weights_give_the_same_scores(tmp_path):
    segmenter = FocalClick("segformer_b0_s1", size=128, seed=3)
    segmenter.save(str(tmp_path / "own.safetensors"))
    loaded = FocalClick("segformer_b0_s1", size=128, weights=str(tmp_path / "own.safetensors"))
    assert loaded.weights_status == "untrained" and loaded.weights_digest == segmenter.weights_digest
    image = photograph(50, 70)
    one, two = (s.start(s.encode(image)).click(Click(20, 30, True)) for s in (segmenter, loaded))
    assert (one == two).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "segformer_b9"}, "choose one of segformer_b0_s1, segformer_b0_s2"),
        ({"size": 100}, "positive multiple of 32 for segformer_b0_s2"),
        ({"model": "hrnet18s_s1", "size": 96}, "positive multiple of 64 for hrnet18s_s1"),
        ({"threshold": 1.5}, "threshold=1.5: a probability"),
        ({"focus_expansion": 0.5}, "focus_expansion=0.5: both must be 1 or more"),
    ],
)
def test_wrong_settings_name_what_is_allowed(options, words):
    with pytest.raises(ValueError, match=words):
        FocalClick(**options)
