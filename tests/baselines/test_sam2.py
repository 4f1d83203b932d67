"""SAM 2.1 and SAM 3's tracker: official names and transformers' folders, decoder in a second writing, choices, cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goldens import BASELINE_GOLDENS
from sam2_official import TRUNKS, as_sam, chosen, decode, draw, shapes

from baselines import _sam2_weights
from baselines._sam2_build import SAM2, build_sam2, build_sam3, complete
from baselines._weights import WeightsError
from baselines.sam2 import Sam2, prepare
from tests.baselines.sessions import Click, last_mask_decides, photograph

SIZE = 128
# sam2.md, section 4: parameters of encoder and of all, entries of the state dict.
COUNTS = {
    "hiera_tiny": (27219136, 31440721, 309),
    "hiera_small": (34316992, 38538577, 357),
    "hiera_base_plus": (69106816, 73328401, 453),
    "hiera_large": (212703280, 216924865, 741),
}


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    return draw("hiera_tiny")


@pytest.fixture(scope="module")
def loaded(official, tmp_path_factory) -> Sam2:
    file = tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": official}, file)
    return Sam2("hiera_tiny", weights=str(file), size=SIZE)


@pytest.mark.parametrize("model", TRUNKS)
def test_sizes_and_official_names(model):
    """Every official key has a place of its shape, and every place a key; point tables are four rows of one."""
    with torch.device("meta"):
        module = build_sam2(model, 1024)
        state = _sam2_weights.named({key: torch.empty(shape) for key, shape in shapes(model).items()})
    own = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in state.items()} == own
    encoder = sum(p.numel() for p in module.vision_encoder.parameters())
    assert (encoder, sum(p.numel() for p in module.parameters()), len(own)) == COUNTS[model]


def test_tiny_has_the_listed_keys():
    listed = BASELINE_GOLDENS.folder / "sam2_tiny_state_dict.json"
    if not listed.is_file():
        pytest.skip(f"no sam2_tiny_state_dict.json at {BASELINE_GOLDENS.folder}")
    entries = BASELINE_GOLDENS.read_json(listed.name)["variants"]["tiny"]["state_dict"]
    state = _sam2_weights.named({key: torch.empty(shape, device="meta") for key, shape in shapes("hiera_tiny").items()})
    assert {key: list(value.shape) for key, value in state.items()} == {key: shape for key, shape, _ in entries}


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("with_mask", [True, False])
def test_decoder_equals_its_second_writing(loaded, official, with_mask, several):
    """In float64, from the official file to masks: a wrong name, order or step shows."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    fine, coarse = [normal(1, 32, 32, 32), normal(1, 64, 16, 16)], normal(1, 256, 8, 8)
    previous = 5 * normal(1, 1, 32, 32) if with_mask else None
    points, labels = torch.tensor([[10.0, 20.0], [100.5, 3.0], [64.0, 127.0]]).double(), torch.tensor([1, 0, 1])
    masks, quality, logit = decode(fine, coarse, points, labels, previous, as_sam(official))
    module = loaded.module.double()
    try:
        with torch.no_grad():
            sparse, dense = module.prompt_encoder(points[None, None], labels[None, None], None, previous)
            found, iou, _, score = module.mask_decoder(
                image_embeddings=coarse,
                image_positional_embeddings=module.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=several,
                high_resolution_features=fine,
            )
    finally:
        module.float()
    best = int(iou[0, 0].argmax())
    torch.testing.assert_close(found[0, 0, best], chosen(masks, quality, several), atol=1e-9, rtol=0)
    if several:
        torch.testing.assert_close(found[0, 0], masks[1:], atol=1e-9, rtol=0)
        torch.testing.assert_close(iou[0, 0], quality[1:], atol=1e-9, rtol=0)
    torch.testing.assert_close(score.flatten(), logit, atol=1e-9, rtol=0)
    assert masks.std() > 0.5


def test_a_session_asks_for_what_the_rules_say(loaded, official):
    """Two clicks against the second writing: axes scaled apart, feedback clamped, three masks at the first alone."""
    image = photograph(60, 100)
    embedding = loaded.encode(image)
    session = loaded.start(embedding)
    state = as_sam(official)
    previous, clicks = None, [Click(30, 40, True), Click(5, 80, False)]
    for number, click in enumerate(clicks):
        scores = session.click(click)
        points = torch.tensor([[c.x * SIZE / 100, c.y * SIZE / 60] for c in clicks[: number + 1]]).double()
        labels = torch.tensor([int(c.positive) for c in clicks[: number + 1]])
        fine = [x.double() for x in embedding.fine]
        masks, quality, _ = decode(fine, embedding.coarse.double(), points, labels, previous, state)
        low = chosen(masks, quality, several=number == 0)[None, None]
        expected = torch.nn.functional.interpolate(low, (60, 100), mode="bilinear", align_corners=False)
        np.testing.assert_allclose(scores, expected[0, 0].numpy(), atol=2e-3 * float(low.std()))
        previous = low.clamp(-32, 32)
    assert float(session.previous.abs().max()) <= 32


def test_the_square_input():
    """By hand: constant colours stay, and become (value / 255 - mean) / std; a side of another ratio is distorted."""
    image = np.empty((30, 50, 3), np.uint8)
    image[:, :25], image[:, 25:] = (255, 0, 51), (0, 255, 102)
    square = prepare(image, 64, SAM2)
    assert square.shape == (1, 3, 64, 64)
    expected = (torch.tensor([1.0, 0.0, 0.2]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(square[0, :, 10, 10], expected, atol=1e-5, rtol=0)
    assert float(square[0, 0, 10, 31]) > float(square[0, 0, 10, 32])


def test_official_file_and_transformers_folder_hold_the_same(loaded, tmp_path):
    folder = tmp_path / "sam2.1-hiera-tiny"
    loaded.module.save_pretrained(folder)
    from_folder = Sam2("hiera_tiny", weights=str(folder), size=SIZE)
    assert from_folder.weights_digest == loaded.weights_digest
    assert from_folder.weights_status == "released"
    image, click = photograph(40, 50), Click(20, 30, True)
    one, two = (s.start(s.encode(image)).click(click) for s in (loaded, from_folder))
    assert (one == two).all()


@pytest.mark.parametrize("model", ["hiera_small", "hiera_base_plus"])
def test_weights_of_another_size_say_whose_they_are(model, official, tmp_path):
    torch.save({"model": official}, tmp_path / "tiny.pt")
    with pytest.raises(WeightsError, match="do not fit SAM 2.1") as error:
        Sam2(model, weights=str(tmp_path / "tiny.pt"), size=SIZE)
    assert "\n" not in str(error.value)
    held = error.value.shapes
    assert held is not None
    assert [name for name in TRUNKS if Sam2.would_fit(held, model=name)] == ["hiera_tiny"]


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ("sam_prompt_encoder.point_embeddings.1.weight", "prompt_encoder.point_embed.weight"),
        ("sam_mask_decoder.pred_obj_score_head.layers.1.weight", "mask_decoder.pred_obj_score_head.layers.0.weight"),
        ("no_mem_embed", "no_memory_embedding"),
    ],
)
def test_nothing_stays_random_in_silence(gone, expected, official, tmp_path):
    """A file without one entry, or with an entry of an unknown name, is refused by name."""
    torch.save({"model": {k: v for k, v in official.items() if k != gone}}, tmp_path / "less.pt")
    with pytest.raises(WeightsError, match=expected.replace(".", r"\.")):
        Sam2("hiera_tiny", weights=str(tmp_path / "less.pt"), size=SIZE)
    torch.save({"model": {**official, "image_encoder.trunk.extra": torch.zeros(2)}}, tmp_path / "more.pt")
    with pytest.raises(WeightsError, match="extra"):
        Sam2("hiera_tiny", weights=str(tmp_path / "more.pt"), size=SIZE)


def test_random_weights_click_through_an_image():
    """Both codes of positions are one matrix; masks are not constant; sizes, None, replaced masks, episodes apart."""
    segmenter = Sam2("hiera_tiny", size=SIZE, seed=4)
    assert segmenter.weights_status == "untrained" and segmenter.threshold == 0
    module = segmenter.module
    one, other = module.shared_image_embedding, module.prompt_encoder.shared_embedding
    assert (one.positional_embedding == other.positional_embedding).all()
    for size in ((1, 1), (7, 200), (130, 33)):
        session = segmenter.start(segmenter.encode(photograph(*size)))
        for click in (None, Click(size[0] - 1, size[1] - 1, True), Click(0, 0, False), None):
            scores = session.click(click)
            assert scores.shape == size and scores.dtype == np.float32 and np.isfinite(scores).all()
    embedding = segmenter.encode(photograph(60, 90))
    before = [x.clone() for x in (*embedding.fine, embedding.coarse, embedding.code)]
    clicks = [Click(30, 40, True), Click(5, 80, False), None]
    first, second = segmenter.start(embedding), segmenter.start(embedding)
    kept = [first.click(click) for click in clicks]
    assert all((second.click(click) == scores).all() for click, scores in zip(clicks, kept, strict=True))
    assert all((x == y).all() for x, y in zip(before, (*embedding.fine, embedding.coarse, embedding.code), strict=True))
    assert kept[0].std() > 0.01
    last_mask_decides(segmenter)


def test_switches():
    """never + unstable: the best of three unless `stability` is off; every: three at each click."""
    asked = []
    for options in ({"multimask": "never"}, {"multimask": "first"}, {"multimask": "every"}):
        segmenter = Sam2("hiera_tiny", size=SIZE, **options)
        original = segmenter.module.mask_decoder.forward

        def forward(*arguments, original=original, **named):
            asked.append(named["multimask_output"])
            return original(*arguments, **named)

        segmenter.module.mask_decoder.forward = forward
        session = segmenter.start(segmenter.encode(photograph(30, 40)))
        for click in (Click(3, 4, True), None, Click(9, 9, True)):
            session.click(click)
    assert asked == [False] * 3 + [True, True, False] + [True] * 3
    assert not Sam2("hiera_tiny", size=SIZE, stability=False).module.mask_decoder.dynamic_multimask_via_stability


def test_sam3_tracker_is_built_whole():
    """sam2.md, section 1: 458,260,369 parameters; no table without values; folders with the detector beside it."""
    with torch.device("meta"):
        module = build_sam3()
    assert sum(p.numel() for p in module.parameters()) == 458260369
    complete(module)
    kept = set(module.state_dict())
    loose = {name: value for name, value in module.named_buffers() if name not in kept}
    assert loose and not any(value.is_meta for value in loose.values())
    layer = module.vision_encoder.backbone.layers[0]
    # Axial rotary tables by hand: theta 10000, 16 frequencies of a head of 64; rows of 24 x 24 windows.
    expected = 10000 ** (-torch.arange(0, 32, 2) / 32)
    torch.testing.assert_close(layer.rotary_emb.inv_freq, expected, rtol=1e-6, atol=0)
    assert layer.position_ids.tolist()[:2] == [[0, 0], [1, 0]] and len(layer.position_ids) == 24 * 24
    own = module.state_dict()
    renamed = {}
    for key, value in own.items():
        trunk, neck = "vision_encoder.backbone.", "vision_encoder.neck."
        name = f"detector_model.{key}" if key.startswith(trunk) else f"tracker_model.{key}"
        renamed[f"tracker_neck.{key.removeprefix(neck)}" if key.startswith(neck) else name] = value
    renamed["detector_model.text_encoder.weight"] = renamed["tracker_model.memory_encoder.x"] = torch.zeros(1)
    assert set(_sam2_weights.named(renamed)) == set(own)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "tiny"}, "choose one of hiera_tiny, hiera_small"),
        ({"size": 100}, "positive multiple of 32"),
        ({"multimask": "sometimes"}, "choose every, first or never"),
    ],
)
def test_wrong_settings_name_what_is_allowed(options, words):
    with pytest.raises(ValueError, match=words):
        Sam2(**options)
