"""MobileSAM against the goldens of its official code, and its encoder against a plain form in float64."""

from __future__ import annotations

import copy

import pytest
import torch
import transcriptions_sam as plain
from goldens import BASELINE_GOLDENS
from goldens_baselines import fill, layouts

from baselines._weights import WeightsError
from baselines.mobilesam import MobileSam, MobileSamNet
from baselines.sam import prepare
from harness.flops.counter import count
from tests.baselines.sam_goldens import Golden, check_chains, check_episodes, restorer
from tests.baselines.sessions import Click, last_mask_decides, photograph

SIZE = 112  # maps of 14 and 7: the 14 x 14 windows of stage 2 are padded, those of stage 1 are not


@pytest.fixture(scope="module")
def segmenter():
    made = MobileSam()
    fill(made.module, "mobilesam")
    return made


@pytest.mark.parametrize("entry", BASELINE_GOLDENS.cases("mobilesam"))
@torch.no_grad()
def test_mobilesam_golden(entry, segmenter):
    golden, meta = Golden(entry, BASELINE_GOLDENS.load(entry)), entry["meta"]
    encoder = segmenter.module.image_encoder
    names = {name.removesuffix("_sub") for name in golden.tensors}
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: golden.check(output, name))
        for name, module in encoder.named_modules()
        if name in names
    ]
    image = golden.tensors["image_u8"].numpy()
    golden.check(prepare(image)[0], "input")
    embedding = segmenter.encode(image)
    for hook in hooks:
        hook.remove()
    golden.check(embedding.maps.image, "image_embed")
    frame = embedding.frame
    assert [frame.inner_height, frame.inner_width] == meta["resized"]
    scale = frame.inner_height / frame.height, frame.inner_width / frame.width
    check_chains(golden, segmenter.module, embedding.maps, scale, restorer(frame, 1024))
    check_episodes(golden, segmenter, embedding)
    assert not golden.rest()


@torch.no_grad()
def test_encoder_equals_its_plain_form_in_float64(segmenter):
    encoder = copy.deepcopy(segmenter.module.image_encoder).double()
    state = {f"image_encoder.{key}": value for key, value in encoder.state_dict().items()}
    for size in (SIZE, 176):
        image = torch.randn(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
        torch.testing.assert_close(encoder(image), plain.tinyvit(image, state), atol=1e-9, rtol=0)


@torch.no_grad()
def test_encoder_takes_batches(segmenter):
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    both = segmenter.module.image_encoder(images)
    for number in range(2):
        alone = segmenter.module.image_encoder(images[number : number + 1])
        torch.testing.assert_close(both[number : number + 1], alone, atol=1e-5, rtol=1e-5)


def test_released_layout_golden_names_and_shapes():
    (layout,) = layouts("mobilesam").values()
    with torch.device("meta"):
        net = MobileSamNet()
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == {
        key: shape for key, shape, _ in layout["state_dict"]
    }
    assert sum(p.numel() for p in net.parameters()) == layout["parameters"] == 10130092


def test_costs_what_its_specification_says():
    """38.77 GMACs once per image with padded windows, 1.85 per click with a previous mask (mobilesam.md)."""
    made = MobileSam()
    image = photograph(1024, 1024)
    found = count(lambda: made.encode(image), made.module, made.parts)
    assert found["encoder"].macs / 1e9 == pytest.approx(38.77, rel=0.01)
    assert found["total"].macs / 1e9 == pytest.approx(38.77, rel=0.01)
    embedding = made.encode(image)
    session = made.start(embedding)
    for clicks, expected in ((3, 1.829), (1, 1.847)):
        for number in range(clicks):
            click = Click(100 + 50 * number, 300, number != 1)
            found = count(lambda click=click: session.click(click), made.module, made.parts)
        assert found["total"].macs / 1e9 == pytest.approx(expected, rel=0.011)


def test_released_file_loads_strictly(tmp_path):
    made = MobileSam(size=SIZE, seed=2)
    state = made.module.state_dict()
    path = tmp_path / "mobile_sam.pt"
    torch.save(state, path)
    again = MobileSam(weights=str(path), size=SIZE)
    assert (again.weights_status, again.weights_digest) == ("released", made.weights_digest)
    torch.save({key: value for key, value in state.items() if "attention_biases" not in key}, path)
    with pytest.raises(WeightsError, match="10 of 439 expected keys are missing"):
        MobileSam(weights=str(path), size=SIZE)


def test_replaced_mask_decides_and_every_size_is_answered():
    made = MobileSam(size=SIZE)
    last_mask_decides(made)
    for shape in ((1, 1), (7, 200), (130, 33)):
        session = made.start(made.encode(photograph(*shape)))
        for click in (None, Click(0, 0, True)):
            scores = session.click(click)
            assert scores.shape == shape and torch.isfinite(torch.from_numpy(scores)).all()


@pytest.mark.parametrize(
    ("more", "words"), [({"multimask": "maybe"}, "first or never"), ({"size": 100}, "multiple of 16")]
)
def test_bad_arguments_name_what_is_allowed(more, words):
    with pytest.raises(ValueError, match=words):
        MobileSam(**more)
