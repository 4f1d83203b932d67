"""EfficientSAM against the goldens of its official code, and its parts against plain forms in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transcriptions_sam as plain
from goldens import BASELINE_GOLDENS, assert_close
from goldens_baselines import fill, layouts, subsample, unpack

from baselines._weights import WeightsError
from baselines.efficientsam import WIDTHS, EfficientSam, EfficientSamNet, prepare
from harness.flops.counter import count
from tests.baselines.sessions import Click, photograph

MODELS = {"vitt": "ti", "vits": "s"}
SIZE = 64


@pytest.fixture(scope="module")
def filled():
    kept: dict = {}

    def get(model: str) -> EfficientSam:
        if model not in kept:
            kept.clear()
            kept[model] = EfficientSam(model)
            fill(kept[model].module, "efficientsam")
        return kept[model]

    return get


@pytest.mark.parametrize("entry", BASELINE_GOLDENS.cases("efficientsam"))
@torch.no_grad()
def test_efficientsam_golden(entry, filled):
    golden, checked = BASELINE_GOLDENS.load(entry), {"image_u8", "clicks"}
    segmenter = filled(MODELS[entry["meta"]["variant"]])

    def check(actual: torch.Tensor, name: str) -> None:
        if name in golden:
            part = subsample(actual, entry, name) if name.endswith("_sub") else actual
            assert_close(part, golden[name], entry, name)
            checked.add(name)

    def check_tokens(tokens: torch.Tensor, name: str) -> None:
        planes = tokens.view(1, 64, 64, -1).permute(0, 3, 1, 2)
        check(planes, f"{name}_sub")
        check(planes.mean((2, 3)), f"{name}_ch_mean")

    blocks = segmenter.module.image_encoder.blocks
    hooks = [blocks[0].register_forward_pre_hook(lambda _, inputs: check_tokens(inputs[0], "tokens"))]
    for number, block in enumerate(blocks):
        hooks.append(block.register_forward_hook(lambda *x, name=f"block{number}": check_tokens(x[2], name)))
    image = golden["image_u8"].numpy()
    check(prepare(image), "input_sub")
    embedding = segmenter.encode(image)
    for hook in hooks:
        hook.remove()
    check(embedding.image, "image_embed_sub")
    check(embedding.image.mean((2, 3)), "image_embed_ch_mean")
    session = segmenter.start(embedding)
    for step, (y, x, label) in enumerate(golden["clicks"].tolist()):
        logits = session.click(Click(y, x, bool(label)))
        points, labels = session.prompts()
        check(segmenter.module.prompt_encoder(points, labels, 1024), f"step{step}_sparse")
        masks, quality = segmenter.module.decode(embedding.image, embedding.code, points, labels)
        check(masks, f"step{step}_masks_sub")
        check(quality, f"step{step}_iou")
        check(1 + quality[0, 1:].argsort(descending=True), f"step{step}_order")
        check(torch.from_numpy(logits)[None, None], f"step{step}_logits_sub")
        if f"step{step}_mask_packed" in golden:
            expected = unpack(golden[f"step{step}_mask_packed"][0], *logits.shape)
            other = logits[(logits > segmenter.threshold) != expected]
            assert np.abs(other).max(initial=0.0) < 2e-4, f"{other.size} pixels of step {step}"
            checked.add(f"step{step}_mask_packed")
    assert not set(golden) - checked


@pytest.fixture(scope="module")
def small():
    """A segmenter on 64 px with the rule's weights, and its state in float64."""
    made = EfficientSam("ti", size=SIZE)
    fill(made.module, "efficientsam")
    return made, {key: value.double() for key, value in made.module.state_dict().items()}


@torch.no_grad()
def test_network_equals_its_plain_form_in_float64(small):
    segmenter, state = small
    net = copy.deepcopy(segmenter.module).double()
    image = prepare(photograph(40, 70), SIZE).double()
    embedding = net.image_encoder(image)
    torch.testing.assert_close(embedding, plain.efficient_encoder(image, state), atol=1e-9, rtol=0)
    code = net.prompt_encoder.pe_layer.grid(4, 4)
    clicks = [(10.5, 20.25, 1), (3.0, 60.0, 0), (44.0, 33.0, 1)]
    for used in (1, 3):
        sparse = plain.efficient_points(clicks[:used], SIZE, state)
        points, labels = torch.full((1, 6, 2), -1.0, dtype=torch.float64), torch.full((1, 6), -1)
        for number, (x, y, label) in enumerate(clicks[:used]):
            points[0, number], labels[0, number] = torch.tensor([y, x]), label
        torch.testing.assert_close(net.prompt_encoder(points, labels, SIZE)[0], sparse, atol=1e-9, rtol=0)
        expected = plain.efficient_decoder(embedding, sparse, state)
        found = net.decode(embedding, code, points, labels)
        # The norm over the whole map takes its scale and shift in float64 sums of float64 rows.
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
            assert theirs.std() > 0.01


def test_preparation_is_the_rule_pixel_by_pixel():
    """Bilinear without antialiasing, each side on its own: sample position (i + 0.5) H / T - 0.5, edges repeated."""
    image = photograph(21, 50)
    levels = image.astype(np.float64) / 255
    ours = prepare(image, SIZE)[0].permute(1, 2, 0).double().numpy() * np.array([0.229, 0.224, 0.225])
    ours += np.array([0.485, 0.456, 0.406])

    def sampled(values: np.ndarray, side: int) -> np.ndarray:
        where = np.clip((np.arange(side) + 0.5) * len(values) / side - 0.5, 0, len(values) - 1)
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, len(values) - 1)
        share = (where - low)[:, None, None]
        return values[low] * (1 - share) + values[high] * share

    expected = sampled(sampled(levels, SIZE).transpose(1, 0, 2), SIZE).transpose(1, 0, 2)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_clicks_after_the_sixth_change_nothing_and_order_neither(small):
    segmenter, _ = small
    embedding = segmenter.encode(photograph(40, 70))
    clicks = [Click(5 * n + 3, 9 * n + 1, n % 2 == 0) for n in range(7)]
    session = segmenter.start(embedding)
    answers = [session.click(click) for click in clicks]
    assert (answers[5] == answers[6]).all()
    assert all((a != b).any() for a, b in zip(answers[:5], answers[1:6], strict=True))
    again = segmenter.start(embedding)
    for click in reversed(clicks[:6]):
        last = again.click(click)
    np.testing.assert_allclose(last, answers[5], atol=1e-4)
    assert not hasattr(session, "replace_prediction")  # there is no previous mask to replace


def test_a_logit_of_zero_is_object(small):
    """efficientsam.md 4.4: logit >= 0, by the harness's rule logit > threshold."""
    segmenter, _ = small
    logits = np.array([0.0, -0.0, -1e-30, 1e-30], np.float32)
    assert (logits > np.float32(segmenter.threshold)).tolist() == [True, True, False, True]
    assert (logits > segmenter.threshold).tolist() == [True, True, False, True]


def test_released_layout_golden_names_and_shapes():
    for variant, layout in layouts("efficientsam").items():
        with torch.device("meta"):
            net = EfficientSamNet(WIDTHS[MODELS[variant]])
        own = {key: list(value.shape) for key, value in net.state_dict().items()}
        assert own == {key: shape for key, shape, _ in layout["state_dict"]}
        assert sum(p.numel() for p in net.parameters()) == layout["parameters"]


def test_decoder_costs_what_its_specification_says():
    """1.845 GMACs per click at 1024, whatever the number of clicks. The image's: tests/harness/test_flop_figures.py."""
    net = EfficientSamNet(WIDTHS["ti"]).eval().requires_grad_(False)
    parts = {"prompt": net.prompt_encoder, "decoder": net.mask_decoder}
    image, points = torch.randn(1, 256, 64, 64), torch.rand(1, 6, 2) * 1024
    with torch.no_grad():
        found = count(lambda: net.decode(image, image, points, torch.ones(1, 6, dtype=torch.int64)), net, parts)
    assert found["total"].macs / 1e9 == pytest.approx(1.845, rel=0.01)
    assert found["decoder"].macs > 0.99 * found["total"].macs


def test_released_file_loads_strictly(tmp_path, small):
    """The state lies under the key "model"."""
    segmenter, _ = small
    state = segmenter.module.state_dict()
    path = tmp_path / "efficient_sam_vitt.pt"
    torch.save({"model": state}, path)
    again = EfficientSam("ti", weights=str(path), size=SIZE)
    assert again.weights_status == "released"
    image, click = photograph(30, 40), Click(5, 6, True)
    first, second = (s.start(s.encode(image)).click(click) for s in (segmenter, again))
    assert (first == second).all()
    with pytest.raises(WeightsError, match="shapes differ"):
        EfficientSam("s", weights=str(path), size=SIZE)
    segmenter.save(str(tmp_path / "own.safetensors"))
    assert (
        EfficientSam("ti", weights=str(tmp_path / "own.safetensors"), size=SIZE).weights_digest == again.weights_digest
    )


@pytest.mark.parametrize("shape", [(1, 1), (7, 200), (130, 33)])
def test_every_image_size_and_a_start_without_clicks(shape, small):
    segmenter, _ = small
    session = segmenter.start(segmenter.encode(photograph(*shape)))
    for click in (None, Click(shape[0] - 1, shape[1] - 1, False)):
        scores = session.click(click)
        assert scores.shape == shape and scores.dtype == np.float32 and np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("more", "words"),
    [({"model": "b"}, "one of ti, s"), ({"points": 0}, "at least 1"), ({"size": 100}, "multiple of 16")],
)
def test_bad_arguments_name_what_is_allowed(more, words):
    with pytest.raises(ValueError, match=words):
        EfficientSam(**more)
