"""SimpleClick: released files, cost, float64 transcription, and what the pipeline does around the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goldens import BASELINE_GOLDENS
from goldens_baselines import layouts
from torch.utils.flop_counter import FlopCounterMode
from transcriptions_simpleclick import simpleclick

from baselines import _weights, _zoom
from baselines._simpleclick_net import LAYOUTS, SimpleClickNet
from baselines.simpleclick import SimpleClick
from tests.baselines.sessions import Click, last_mask_decides, photograph

# simpleclick.md: parameters, entries, GMACs of one forward at 448 and 672, global blocks counted from 1.
FACTS = {
    "vit_xtiny": (4_053_577, 166, 5.0, 13.4, (2, 4, 6, 8)),
    "vit_b": (98_025_513, 214, 80.8, 187.0, (6, 12)),
    "vit_l": (324_206_377, 358, 262.8, 605.5, (6, 12, 18, 24)),
    "vit_h": (662_184_793, 454, 700.0, 1605.1, (8, 16, 24, 32)),
}


def meta_net(variant: str) -> SimpleClickNet:
    with torch.device("meta"):
        return SimpleClickNet(LAYOUTS[variant]).eval()


@pytest.fixture(scope="module")
def tiny() -> SimpleClick:
    return SimpleClick("vit_xtiny", size=224)


@pytest.mark.parametrize("variant", FACTS)
def test_keys_shapes_and_parameters_are_those_of_the_released_files(variant):
    parameters, entries, _, _, global_blocks = FACTS[variant]
    net = meta_net(variant)
    state = net.state_dict()
    assert (sum(p.numel() for p in net.parameters()), len(state)) == (parameters, entries)
    assert tuple(number + 1 for number in LAYOUTS[variant].global_blocks) == global_blocks
    listed = layouts("simpleclick")[variant]["state_dict"]
    assert {key: (list(value.shape), "float32") for key, value in state.items()} == {
        key: (shape, kind) for key, shape, kind in listed
    }


def test_a_released_file_loads_strictly(tmp_path):
    """The released form: {"state_dict": …, "config": …}; another variant's file is refused in one line."""
    listed = BASELINE_GOLDENS.read_json("simpleclick_state_dict.json")["variants"]["vit_xtiny"]["state_dict"]
    state = {key: torch.full(shape, 0.01) for key, shape, _ in listed}
    file = tmp_path / "cocolvis_vit_xtiny.pth"
    torch.save({"state_dict": state, "config": {"class": "PlainVitModel", "params": {"use_disks": True}}}, file)
    segmenter = SimpleClick("vit_xtiny", weights=str(file))
    assert segmenter.weights_status == "released"
    assert all(torch.equal(value, state[key]) for key, value in segmenter.module.state_dict().items())
    with pytest.raises(_weights.WeightsError, match="do not fit SimpleClick vit_b") as caught:
        SimpleClick("vit_b", weights=str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", FACTS)
@pytest.mark.parametrize("size", [448, 672])
def test_cost_of_one_forward(variant, size):
    net = meta_net(variant)
    planes = torch.empty(1, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(planes, planes)
    expected = FACTS[variant][2 if size == 448 else 3]
    assert counter.get_total_flops() / 2e9 == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("size", "batch"), [(448, 1), (224, 2), (672, 1)])
def test_network_equals_its_transcription_in_float64(size, batch):
    segmenter = SimpleClick("vit_xtiny", size=size, seed=3)
    net = segmenter.module.double()
    generator = torch.Generator().manual_seed(size)
    image = torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64)
    maps = torch.rand(batch, 3, size, size, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        expected = simpleclick(image, maps, dict(net.state_dict()), 4, (2, 4, 6, 8))
        assert expected.std() > 1e-3
        torch.testing.assert_close(net(image, maps), expected, atol=1e-9, rtol=1e-9)


def test_positions_follow_the_weights(tiny):
    backbone = SimpleClickNet(LAYOUTS["vit_xtiny"]).backbone
    assert not backbone.positions(672).any()
    assert backbone.positions(672) is backbone.positions(672)
    with torch.no_grad():
        backbone.state_dict()["pos_embed"].fill_(2.0)
    torch.testing.assert_close(backbone.positions(672), torch.full((42**2, 160), 2.0))


@pytest.mark.parametrize("size", [(1, 1), (7, 200), (230, 33)])
def test_every_image_size(tiny, size):
    session = tiny.start(tiny.encode(photograph(*size)))
    for click in (Click(size[0] - 1, size[1] - 1, True), Click(0, 0, False), None):
        scores = session.click(click)
        assert scores.shape == size and scores.dtype == np.float32
        assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1


def test_episodes_are_deterministic_and_apart(tiny):
    embedding = tiny.encode(photograph(60, 90))
    clicks = [Click(30, 40, True), Click(5, 80, False), None]
    first, second = tiny.start(embedding), tiny.start(embedding)
    kept = [first.click(click) for click in clicks]
    copies = [scores.copy() for scores in kept]
    assert all((second.click(click) == copy).all() for click, copy in zip(clicks, copies, strict=True))
    assert all((scores == copy).all() for scores, copy in zip(kept, copies, strict=True))
    assert (copies[0] != copies[1]).any()


def test_the_last_mask_decides(tiny):
    last_mask_decides(tiny)


class Spots(torch.nn.Module):
    """Answers 0.75 around the positive clicks and 0.25 elsewhere, and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, image: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        self.seen.append((image, maps))
        return torch.logit(0.25 + 0.5 * torch.nn.functional.max_pool2d(maps[:, 1:2], 21, 1, 10))


def spots(flip: bool = False, **more) -> tuple[SimpleClick, Spots]:
    segmenter = SimpleClick("vit_xtiny", size=224, flip=flip, **more)
    network = Spots()
    segmenter.module = network  # type: ignore[assignment]
    return segmenter, network


def test_the_first_click_sees_the_whole_image_as_a_square_with_aligned_corners():
    segmenter, network = spots()
    image = photograph(100, 300)
    session = segmenter.start(segmenter.encode(image))
    session.click(Click(50, 150, True))
    assert session.region == (0, 99, 0, 299)
    seen, maps = network.seen[0]
    assert seen.shape == (1, 3, 224, 224)
    rgb = seen * torch.tensor(_zoom.STD).view(3, 1, 1) + torch.tensor(_zoom.MEAN).view(3, 1, 1)
    for y, x in ((0, 0), (-1, -1), (0, -1)):
        np.testing.assert_allclose(rgb[0, :, y, x].numpy(), image[y, x] / 255, atol=1e-6)
    # Clicks scale by S / n: 224 * 50 / 100 and 224 * 150 / 300.
    assert torch.equal(maps[0, 1:], _zoom.draw_discs([(112.0, 112.0, True)], 224, 224))


def test_region_moves_by_overlap_and_clicks_and_falls_back_to_the_whole_image():
    """simpleclick.md, section 6: a first region is always held; an empty answer offers the whole image."""
    segmenter, _ = spots(min_crop=40)
    session = segmenter.start(segmenter.encode(photograph(240, 300)))
    session.click(Click(60, 80, True))
    session.click(Click(62, 82, True))  # the object is a spot: its box overlaps the whole image by less than half
    region = session.region
    assert region is not None and region != (0, 239, 0, 299) and _zoom.holds(region, session.points)
    session.click(Click(64, 81, False))
    assert session.region == region
    session.previous = torch.full_like(session.previous, 0.5)  # exactly 0.5 is no object
    session.click(Click(5, 5, False))
    assert session.region == (0, 239, 0, 299)


def test_while_the_region_is_the_whole_image_a_click_on_its_last_row_replaces_it():
    segmenter, _ = spots()
    session = segmenter.start(segmenter.encode(photograph(240, 300)))
    session.previous = torch.ones_like(session.previous)  # the candidate is the whole image, too
    session.click(Click(100, 100, True))
    session.previous = torch.zeros_like(session.previous)
    session.previous[:, :, 100:235, 60:260] = 0.75
    # Expanded 1.4 times from the middle: rows 167 -+ 94.5, columns 159.5 -+ 140, halves to even, clamped; the last row
    # belongs to the box for the click on it.
    candidate = _zoom.object_region(session.previous[0, 0] > 0.5, [(239, 100, True), (100, 100, True)], 1.4, 200)
    assert candidate is not None and _zoom.overlap(candidate, (0, 239, 0, 299)) >= 0.5
    session.click(Click(120, 120, False))
    assert session.region == (0, 239, 0, 299)
    session.previous = torch.zeros_like(session.previous)
    session.previous[:, :, 100:235, 60:260] = 0.75
    session.click(Click(239, 100, True))
    assert session.region == candidate != (0, 239, 0, 299)


def test_mean_of_logits_of_the_image_and_its_mirror():
    plain, _ = spots()
    both, network = spots(flip=True)
    clicks = [Click(20, 30, True)]
    image = photograph(60, 90)
    one = plain.start(plain.encode(image)).click(clicks[0])
    two = both.start(both.encode(image)).click(clicks[0])
    images, maps = network.seen[0]
    assert torch.equal(images[1], images[0].flip(2)) and torch.equal(maps[1, 0], maps[0, 0].flip(1))
    # 224 - 224 * 30 / 90 - 1 is the mirrored column.
    at = [(224 * 20 / 60, 224 - 224 * 30 / 90 - 1, True)]
    assert torch.equal(maps[1, 1:], _zoom.draw_discs(at, 224, 224))
    np.testing.assert_allclose(one, two, atol=0.3)
    expected = torch.sigmoid(_zoom.mean_logits(Spots()(images, maps)))
    np.testing.assert_allclose(two, _zoom.paste(expected, (0, 59, 0, 89), 60, 90)[0, 0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "vit_s"}, "variant='vit_s': choose vit_b, vit_l, vit_h, vit_xtiny"),
        ({"size": 200}, "size=200: 12 tokens of 16 px a side do not divide into windows; choose 448, or 672"),
        ({"size": 450}, "size=450: 28 tokens of 16 px a side do not divide"),
        ({"size": 464}, "size=464: 29 tokens of 16 px a side do not divide"),
        ({"expansion": 0.5}, "expansion=0.5, min_crop=200: both must be 1 or more"),
        ({"min_crop": 0}, "expansion=1.4, min_crop=0: both must be 1 or more"),
    ],
)
def test_bad_arguments_name_the_value_and_the_choice(arguments, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        SimpleClick(**arguments)


def test_saved_and_reloaded_scores_are_the_same(tiny, tmp_path):
    tiny.save(str(tmp_path / "tiny.safetensors"))
    again = SimpleClick("vit_xtiny", weights=str(tmp_path / "tiny.safetensors"), size=224)
    assert again.weights_digest == tiny.weights_digest and again.weights_status == "untrained"
    image = photograph(50, 60)
    scores = [system.start(system.encode(image)).click(Click(9, 9, True)) for system in (tiny, again)]
    np.testing.assert_array_equal(*scores)
