"""RITM: keys, cost, clicks, zoom-in, flip, weight files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from goldens import BASELINE_GOLDENS
from torch.utils.flop_counter import FlopCounterMode

from baselines import _weights
from baselines._hrnet import resize
from baselines._zoom import MEAN, STD, draw_discs, holds, object_region, overlap
from baselines.ritm import Ritm, RitmNet

CLICKS = [(40, 30, True), (10, 70, False), (60, 50, True), None]


@pytest.fixture(scope="module")
def ritm() -> Ritm:
    return Ritm()


def picture(height=90, width=110, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def answers(segmenter, image, clicks=CLICKS):
    session = segmenter.start(segmenter.encode(image))
    return [session.click(click) for click in clicks]


BACKBONES = {"hrnet18s": (4_220_047, 929), "hrnet18": (10_032_019, 1_895), "hrnet32": (30_951_363, 1_895)}
"""ritm_pipeline.md: parameters and entries."""


@pytest.mark.parametrize("backbone", BACKBONES)
def test_golden_keys_and_shapes_load_strictly(tmp_path, backbone):
    listed = BASELINE_GOLDENS.read_json(f"ritm_{backbone}_state_dict.json")
    kinds = {"float32": torch.float32, "int64": torch.int64}
    state = {key: torch.ones(shape, dtype=kinds[kind]) for key, shape, kind in listed["state_dict"]}
    torch.save({"state_dict": state, "config": {"model_name": backbone}}, tmp_path / "ritm.pth")
    segmenter = Ritm(backbone, weights=str(tmp_path / "ritm.pth"))
    assert segmenter.weights_status == "released"
    assert list(segmenter.module.state_dict()) == list(state)
    assert (segmenter.parameters, len(state)) == BACKBONES[backbone]
    assert segmenter.parameters == listed["parameters"]["total"]
    for name, count in listed["parameters"].items():
        if name != "total" and count:  # those without parameters need no module here
            assert _weights.count(segmenter.module.get_submodule(name)) == count, name
    other = "hrnet32" if backbone == "hrnet18" else "hrnet18"
    with pytest.raises(_weights.WeightsError, match=f"do not fit RITM HRNet{other[5:]}"):
        Ritm(other, weights=str(tmp_path / "ritm.pth"))


@pytest.mark.parametrize(("backbone", "gmacs"), [("hrnet18s", 8.8515), ("hrnet18", 15.286), ("hrnet32", 41.252)])
def test_cost_of_one_click_at_400(backbone, gmacs):
    """ritm_pipeline.md and the lists beside the goldens: convolutions and OCR's products, without the mirror image."""
    with torch.device("meta"):
        net = RitmNet(backbone).eval()
        maps = torch.empty(1, 3, 400, 400)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(maps, maps)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=1e-3)


@pytest.mark.parametrize("backbone", ["hrnet18", "hrnet32"])
def test_wider_backbones_click_through_an_image(backbone):
    segmenter = Ritm(backbone, target_size=64)
    scores = answers(segmenter, picture(50, 70))
    assert all(np.isfinite(score).all() and score.shape == (50, 70) for score in scores)
    assert segmenter.encoder_key == Ritm(target_size=64).encoder_key  # the image alone


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match="backbone='hrnet48': choose hrnet18s, hrnet18, hrnet32"):
        Ritm("hrnet48")


def test_one_region_takes_the_same_context_everywhere(ritm):
    """With one class the softmax over classes is 1, so the context is f_up(f_down(region)) at every pixel."""
    block = ritm.module.feature_extractor.ocr_distri_head.object_context_block
    generator = torch.Generator().manual_seed(1)
    x, regions = torch.randn(2, 96, 7, 5, generator=generator), torch.randn(2, 96, 1, 1, generator=generator)
    expected = block.f_up(block.f_down(regions)).expand(-1, -1, 7, 5)
    torch.testing.assert_close(block(x, regions), expected, atol=1e-6, rtol=0)


def reference_head(net, features):
    """The full form of OCR as written in HRNet-OCR, in float64, one pixel and one class at a time."""

    def run(block, x):
        return block(x.float()).double()

    auxiliary, x = run(net.aux_head, features)[0], run(net.conv3x3_ocr, features)[0]
    height, width = x.shape[1:]
    share = torch.exp(auxiliary - auxiliary.max())
    share /= share.sum()
    regions = torch.zeros(len(auxiliary), x.shape[0], dtype=torch.float64)
    for k in range(len(auxiliary)):
        for i in range(height):
            for j in range(width):
                regions[k] += share[k, i, j] * x[:, i, j]
    block = net.ocr_distri_head.object_context_block
    column = regions.T[None, :, :, None]
    query, key, value = run(block.f_pixel, x[None])[0], run(block.f_object, column)[0], run(block.f_down, column)[0]
    context = torch.zeros_like(query)
    for i in range(height):
        for j in range(width):
            weights = torch.softmax(torch.stack([query[:, i, j] @ k for k in key[..., 0].T]) / math.sqrt(48), dim=0)
            context[:, i, j] = sum(w * v for w, v in zip(weights, value[..., 0].T, strict=True))
    joined = torch.cat([run(block.f_up, context[None]), x[None]], dim=1)
    return run(net.cls_head, run(net.ocr_distri_head.conv_bn_dropout, joined))


def test_head_equals_its_full_form(ritm, monkeypatch):
    net = ritm.module.feature_extractor
    features = torch.randn(1, 270, 5, 6, generator=torch.Generator().manual_seed(4))
    monkeypatch.setattr(net, "features", lambda *_: features)
    logits, _ = net(features, features)
    torch.testing.assert_close(logits.double(), reference_head(net, features.double()), atol=1e-4, rtol=1e-4)
    assert logits.std() > 1e-3


@pytest.mark.parametrize(("size", "wanted"), [((2, 3), (4, 6)), ((7, 5), (13, 20)), ((9, 9), (3, 2))])
def test_resizes_align_corners(size, wanted):
    """Closed form: a plane through the corners stays the plane through the corners of the new grid."""

    def plane(height, width):
        return torch.linspace(0, 3, height)[:, None] + torch.linspace(-1, 4, width)

    result = resize(plane(*size)[None, None], torch.empty(1, 1, *wanted))
    torch.testing.assert_close(result[0, 0], plane(*wanted), atol=1e-6, rtol=1e-6)


def test_no_resize_of_the_network_leaves_the_corners_unaligned(ritm, monkeypatch):
    """Up-paths of modules with 2, 3 and 4 branches: 1, 3, 6; three before the branches are joined; one at the end."""
    original, seen = torch.nn.functional.interpolate, []

    def recorded(*arguments, **named):
        seen.append((named["mode"], named["align_corners"]))
        return original(*arguments, **named)

    monkeypatch.setattr(torch.nn.functional, "interpolate", recorded)
    ritm.module(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    assert set(seen) == {("bilinear", True)}
    assert len(seen) == 1 * 1 + 3 * 3 + 2 * 6 + 3 + 1


def test_fvcore_counts_what_the_specification_says():
    """ritm_hrnet18s.md: 8.93 with norms and resizes."""
    fvcore = pytest.importorskip("fvcore.nn")
    maps = torch.zeros(1, 3, 400, 400)
    with torch.no_grad():
        analysis = fvcore.FlopCountAnalysis(RitmNet().eval(), (maps, maps))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert analysis.total() / 1e9 == pytest.approx(8.93, rel=1e-2)


def test_batch_equals_single_images(ritm):
    generator = torch.Generator().manual_seed(2)
    image, maps = torch.rand(2, 3, 65, 83, generator=generator), torch.rand(2, 3, 65, 83, generator=generator)
    both = ritm.module(image, maps)
    for i in range(2):
        torch.testing.assert_close(
            both[i : i + 1], ritm.module(image[i : i + 1], maps[i : i + 1]), atol=1e-5, rtol=1e-5
        )


def test_discs_with_fractional_centres_hold_74_to_81_pixels():
    """ritm_hrnet18s.md, surprises; the range is that of all fractional centres."""
    counts = []
    for y in np.linspace(20, 21, 9):
        for x in np.linspace(20, 21, 9):
            maps = draw_discs([(y, x, True)], 41, 41)
            counts.append(int(maps[0].sum()))
            slow = sum((i - y) ** 2 + (j - x) ** 2 <= 25 for i in range(41) for j in range(41))
            assert counts[-1] == slow and not maps[1].any()
    assert min(counts) >= 74 and max(counts) <= 81
    assert int(draw_discs([(20, 20, True)], 41, 41)[0].sum()) == 81


def reference_region(mask, points, expansion, least):
    """The rule of ritm_hrnet18s.md, pixel by pixel."""
    inside = [(i, j) for i, row in enumerate(mask) for j, value in enumerate(row) if value]
    inside += [(int(y), int(x)) for y, x, positive in points if positive]
    result = []
    for axis in (0, 1):
        low, high = min(p[axis] for p in inside), max(p[axis] for p in inside)
        half = max(expansion * (high - low + 1), least) / 2
        result += [
            max(0, round((low + high) / 2 - half)),
            min(len(mask[0]) - 1 if axis else len(mask) - 1, round((low + high) / 2 + half)),
        ]
    return tuple(result)


def test_region_follows_the_rule():
    rng = np.random.default_rng(3)
    for _ in range(20):
        mask = np.zeros((60, 80), dtype=bool)
        top, left = rng.integers(0, 40), rng.integers(0, 60)
        mask[top : top + rng.integers(1, 20), left : left + rng.integers(1, 20)] = True
        points = [(int(rng.integers(60)), int(rng.integers(80)), bool(rng.integers(2))) for _ in range(3)]
        assert object_region(torch.from_numpy(mask), points, 1.4, 20) == reference_region(mask, points, 1.4, 20)
    assert object_region(torch.zeros(9, 9, dtype=torch.bool), [(1, 1, True)], 1.4, 5) is None


def test_overlap_and_holding():
    assert overlap((0, 9, 0, 9), (0, 9, 0, 9)) == 1
    assert overlap((0, 9, 0, 9), (5, 14, 0, 9)) == pytest.approx(5 / 15)  # closed form: 5 common rows of 15
    assert overlap((0, 9, 0, 9), (20, 29, 0, 9)) == 0
    assert holds((10, 20, 10, 20), [(10, 19, True), (50, 50, False)])
    assert not holds((10, 20, 10, 20), [(20, 15, True)])


class Fixed(torch.nn.Module):
    """Answers with the discs, spread out, so that what the session does around a network can be computed by hand."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image, maps):
        self.seen.append((image, maps))
        return 20 * torch.nn.functional.max_pool2d(maps[:, 1:2], 31, 1, 15) - 10


def test_zoom_in_crops_from_the_second_click_and_pastes_into_zeros(ritm):
    segmenter = Ritm(flip=False, target_size=128, min_crop=40)
    network = Fixed()
    segmenter.module = network
    session = segmenter.start(segmenter.encode(picture(300, 400)))
    first = session.click((150, 200, True))
    assert network.seen[0][0].shape == (1, 3, 300, 400)
    assert session.region is None and (first > 0.49).sum() > 900
    second = session.click((160, 210, True))
    # The disc of radius 5 grown by 15 is a box of 41 rows with rounded corners: 130..170, 180..220, times 1.4.
    assert session.region == (121, 179, 171, 229)
    image, maps = network.seen[1]
    assert image.shape == (1, 3, 128, 128)
    for place, (y, x) in ((0, (121, 171)), (-1, (179, 229))):  # aligned corners
        normal = (session.image[0, :, y, x] - torch.tensor(MEAN)) / torch.tensor(STD)
        torch.testing.assert_close(image[0, :, place, place], normal, atol=1e-5, rtol=0)
    expected = draw_discs([(128 * 29 / 59, 128 * 29 / 59, True), (128 * 39 / 59, 128 * 39 / 59, True)], 128, 128)
    torch.testing.assert_close(maps[0, 1:], expected, atol=0, rtol=0)
    outside = np.ones_like(second, dtype=bool)
    outside[121:180, 171:230] = False
    assert not second[outside].any() and second[150, 200] > 0.9


def test_zoom_in_keeps_moves_and_gives_up_its_region(ritm):
    """Rule of ritm_hrnet18s.md: kept while it overlaps enough and holds the clicks; no object, no zoom-in."""
    segmenter = Ritm(flip=False, target_size=96, min_crop=100, empty_zoom="reset")
    segmenter.module = Fixed()
    session = segmenter.start(segmenter.encode(picture(200, 300)))
    session.click((100, 150, True))
    session.click(None)
    assert session.region is None  # still the first click
    session.click((102, 152, True))
    kept = session.region
    session.click((104, 150, False))
    assert session.region == kept
    session.click((100, 250, True))
    assert session.region is not None and session.region != kept and holds(session.region, session.points)
    session.replace_prediction(np.zeros((200, 300), dtype=bool))
    session.click((20, 20, False))
    assert session.region is None and segmenter.module.seen[-1][0].shape == (1, 3, 200, 300)


def test_flip_averages_logits_of_the_mirrored_image(ritm):
    plain = Ritm(flip=False, zoom_in=False)
    image = picture(64, 96)
    flipped = [(y, 95 - x, p) for y, x, p in [CLICKS[0]]]
    one = answers(plain, image, CLICKS[:1])[0]
    other = answers(plain, np.ascontiguousarray(image[:, ::-1]), flipped)[0][:, ::-1]
    logit = lambda p: np.log(p.astype(np.float64)) - np.log1p(-p.astype(np.float64))  # noqa: E731
    expected = 1 / (1 + np.exp(-(logit(one) + logit(other)) / 2))
    assert np.abs(one - other).max() > 1e-4
    np.testing.assert_allclose(answers(Ritm(zoom_in=False), image, CLICKS[:1])[0], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (33, 71), (200, 37), (1, 1)])
def test_every_size_and_a_start_without_clicks(ritm, shape):
    for scores in answers(ritm, picture(*shape), [None, (0, 0, True), (shape[0] - 1, shape[1] - 1, False)]):
        assert scores.shape == shape and scores.dtype == np.float32
        assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1


def test_sessions_are_repeatable(ritm):
    for a, b in zip(answers(ritm, picture()), answers(ritm, picture()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_click_runs_the_network_and_previous_mask_counts(ritm):
    embedding = ritm.encode(picture())
    sessions = [ritm.start(embedding) for _ in range(2)]
    for session in sessions:
        session.click(CLICKS[0])
    mask = np.zeros((90, 110), dtype=bool)
    mask[20:70, 10:60] = True
    sessions[1].replace_prediction(mask)
    assert not np.allclose(sessions[0].click(CLICKS[1]), sessions[1].click(CLICKS[1]))


def test_saved_and_reloaded_scores_are_the_same(tmp_path):
    segmenter = Ritm(seed=5)
    segmenter.save(str(tmp_path / "ritm.safetensors"))
    again = Ritm(weights=str(tmp_path / "ritm.safetensors"))
    assert again.weights_digest == segmenter.weights_digest != Ritm().weights_digest
    assert again.weights_status == "untrained"
    for a, b in zip(answers(segmenter, picture()), answers(again, picture()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_weights_end_in_one_line(tmp_path, ritm):
    state = ritm.module.state_dict()
    good = tmp_path / "good.pth"
    torch.save(state, good)
    torch.save({k: v for k, v in state.items() if "stage4" not in k}, tmp_path / "missing.pth")
    torch.save({**state, "another.weight": torch.zeros(2)}, tmp_path / "surplus.pth")
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    for file, named in {
        "nowhere.pth": "does not exist",
        "missing.pth": "feature_extractor.stage4.0",
        "surplus.pth": "another.weight",
        "cut.pth": "cannot be read",
    }.items():
        with pytest.raises(_weights.WeightsError, match=named) as caught:
            Ritm(weights=str(tmp_path / file))
        assert "\n" not in str(caught.value)


def test_initial_click_scale_is_its_documented_value(ritm):
    assert math.isclose(float(ritm.module.maps_transform[3].scale), 0.05, rel_tol=1e-6)
