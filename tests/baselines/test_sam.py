"""SAM and SAM-HQ against transformers: preparation, forward passes, weights under both sets of names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import _sam_weights, _weights, sam
from harness.flops.trace import count

SIZE = 128
DEPTH = 3
CLICKS = [(30, 60, True), (10, 12, False), (50, 70, True), None]
KINDS = [sam.Sam, sam.SamHQ]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(sam.ARCHITECTURES, "tiny", sam.Architecture(32, DEPTH, 2, (0, 2)))


def picture(height=61, width=87, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def answers(segmenter, image, clicks=CLICKS):
    session = segmenter.start(segmenter.encode(image))
    return [session.click(click) for click in clicks]


@pytest.mark.parametrize("shape", [(61, 87), (400, 300), (128, 128), (37, 2000), (40, 9)])
def test_preparation_equals_transformers_processor(shape):
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    processor = SamImageProcessorPil(size={"longest_edge": 256}, pad_size={"height": 256, "width": 256})
    image = picture(*shape)
    expected = processor(image, return_tensors="pt")
    ours, frame = sam.prepare(image, 256)
    assert tuple(expected["reshaped_input_sizes"][0].tolist()) == (frame.inner_height, frame.inner_width)
    torch.testing.assert_close(ours, expected["pixel_values"].float(), atol=1e-5, rtol=0)


def triangles(before: int, after: int) -> np.ndarray:
    """Matrix (after, before) of the antialiased bilinear filter: a triangle as wide as the step, at least one pixel."""
    step = before / after
    distance = np.arange(before)[None] + 0.5 - (np.arange(after)[:, None] + 0.5) * step
    weights = np.clip(1 - np.abs(distance) / max(step, 1.0), 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(61, 87), (400, 300), (40, 9)])
def test_preparation_equals_its_rule_in_float64(shape):
    image = picture(*shape)
    ours, frame = sam.prepare(image, 256)
    inner = ours[0, :, : frame.inner_height, : frame.inner_width].double().numpy()
    assert max(frame.inner_height, frame.inner_width) == 256
    mean, std = (np.array(values)[:, None, None] for values in (sam.MEAN, sam.STD))
    levels = (inner * std + mean) * 255
    rows, columns = triangles(shape[0], frame.inner_height), triangles(shape[1], frame.inner_width)
    expected = rows @ image.transpose(2, 0, 1).astype(np.float64) @ columns.T
    # Pillow rounds to bytes after each of two passes: half a level each, which averaging does not enlarge.
    assert np.abs(levels - expected).max() <= 1.01
    assert not ours[..., frame.inner_height :, :].any() and not ours[..., frame.inner_width :].any()


@pytest.mark.parametrize("kind", KINDS)
def test_encoder_costs_its_closed_form(kind):
    """Multiply-adds by hand; the same sums give 486.0e9 for ViT-B at 1024."""
    segmenter = kind(model="tiny", size=SIZE)
    found = count(lambda: segmenter.encode(picture()), segmenter.module, segmenter.parts)
    wide, side, window = 32, SIZE // 16, 14
    tokens = side**2

    def attention(n: int, reach: int) -> int:  # projections, products, relative positions along two axes
        return n * 4 * wide**2 + 2 * n**2 * wide + 2 * n * reach * wide

    expected = tokens * 3 * 16**2 * wide + DEPTH * tokens * 8 * wide**2
    expected += 2 * attention(tokens, side) + attention(window**2, window)  # one window, padded to 14 x 14
    expected += tokens * wide * 256 + tokens * 9 * 256**2
    assert found["encoder"].macs == expected


@pytest.fixture
def precision(request):
    """Everything that torch makes from Python numbers, and the weights that the test converts."""
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("multimask", ["every", "first", "never"])
@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_episode_equals_transformers_full_forward(kind, precision, feedback, multimask):
    """Points, and with feedback masks."""
    segmenter = kind(model="tiny", size=SIZE, feedback=feedback, multimask=multimask)
    segmenter.module.to(precision)
    image = picture()
    ours = answers(segmenter, image)
    square, frame = sam.prepare(image, SIZE)
    previous, points, labels = None, [], []
    for number, click in enumerate(CLICKS):
        if click is not None:
            points.append([click[1] * frame.inner_width / 87, click[0] * frame.inner_height / 61])
            labels.append(int(click[2]))
        several = multimask == "every" or (multimask == "first" and number == 0)
        with torch.no_grad():
            output = segmenter.module(
                pixel_values=square,
                input_points=torch.tensor([[points]]),
                input_labels=torch.tensor([[labels]]),
                input_masks=previous if feedback else None,
                multimask_output=several,
            )
        best = int(output.iou_scores[0, 0].argmax()) if several else 0
        previous = output.pred_masks[:, 0, best : best + 1]
        full = torch.nn.functional.interpolate(previous, (SIZE, SIZE), mode="bilinear")
        full = full[..., : frame.inner_height, : frame.inner_width]
        full = torch.nn.functional.interpolate(full, (61, 87), mode="bilinear")[0, 0]
        assert square.dtype == full.dtype == precision
        # Logits reach 11 here. Float64 tells rounding from another computation.
        limit = 1e-5 if precision == torch.float32 else 1e-12
        np.testing.assert_allclose(ours[number], full.numpy(), atol=limit, rtol=0)
        assert np.ptp(full.numpy()) > 0.01  # not a constant map


@pytest.mark.parametrize("kind", KINDS)
def test_switches_change_the_answers(kind):
    image = picture()
    base = answers(kind(model="tiny", size=SIZE), image)
    without = answers(kind(model="tiny", size=SIZE, feedback=False), image)
    single = answers(kind(model="tiny", size=SIZE, multimask="never"), image)
    np.testing.assert_array_equal(base[0], without[0])
    assert not np.allclose(base[1], without[1])
    assert not np.allclose(base[0], single[0])


def test_high_quality_token_alone():
    image = picture()
    alone = answers(sam.SamHQ(model="tiny", size=SIZE, hq_token_only=True), image)
    assert not np.allclose(alone[0], answers(sam.SamHQ(model="tiny", size=SIZE), image)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (40, 300), (301, 40), (500, 500)])
def test_every_size_and_a_start_without_clicks(kind, shape):
    result = answers(kind(model="tiny", size=SIZE), picture(*shape), [None, (0, 0, True)])
    for scores in result:
        assert scores.shape == shape and scores.dtype == np.float32 and np.isfinite(scores).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sessions_are_repeatable_and_leave_the_embedding(kind):
    segmenter = kind(model="tiny", size=SIZE)
    embedding = segmenter.encode(picture())
    before = embedding.maps["image_embeddings"].clone()
    first, second = segmenter.start(embedding), segmenter.start(embedding)
    results = [(first.click(click), second.click(click)) for click in CLICKS]
    for a, b in results:
        np.testing.assert_array_equal(a, b)
    torch.testing.assert_close(embedding.maps["image_embeddings"], before, atol=0, rtol=0)


def test_replaced_prediction_reaches_the_decoder():
    segmenter = sam.Sam(model="tiny", size=SIZE)
    embedding = segmenter.encode(picture())
    mask = np.zeros((61, 87), dtype=bool)
    mask[20:50, 30:80] = True
    results = []
    for given in (mask, ~mask):
        session = segmenter.start(embedding)
        session.click(CLICKS[0])
        session.replace_prediction(given)
        back = session._restore(session.previous) > 0
        assert (back == given).mean() > 0.85  # quarter resolution of a 128 px input blurs the outline
        results.append(session.click(CLICKS[1]))
    assert not np.allclose(*results)


# Parameters of the released files: 93,735,472 / 312,342,832 / 641,090,608 (segment-anything's own count).
@pytest.mark.parametrize("model, count", [("vit_b", 93735472), ("vit_l", 312342832), ("vit_h", 641090608)])
def test_parameter_counts(model, count):
    with torch.device("meta"):
        assert _weights.count(sam.build(model)) == count
        # Hand count of what SAM-HQ adds: token 256; perceptron 2 (256² + 256) + 256·32 + 32; from the ViT: 2x2
        # transposed convolutions w→256 and 256→32 with a norm; from the embedding: 256→64→32; on masks: 32→64→32, 3x3.
        width = sam.ARCHITECTURES[model].width
        added = 256 + 2 * (256 * 256 + 256) + 256 * 32 + 32
        added += 4 * width * 256 + 256 + 2 * 256 + 4 * 256 * 32 + 32
        added += 4 * 256 * 64 + 64 + 2 * 64 + 4 * 64 * 32 + 32
        added += 9 * 32 * 64 + 64 + 2 * 64 + 9 * 64 * 32 + 32
        assert _weights.count(sam.build(model, quality=True)) == count + added


def original_keys(depth: int, quality: bool) -> set[str]:
    """Names in the released .pth files, written down from segment-anything's and SAM-HQ's module trees."""

    def both(*names):
        return {f"{name}.{end}" for name in names for end in ("weight", "bias")}

    keys = {"image_encoder.pos_embed"} | both("image_encoder.patch_embed.proj")
    for i in range(depth):
        block = f"image_encoder.blocks.{i}"
        keys |= both(*(f"{block}.{n}" for n in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")))
        keys |= {f"{block}.attn.rel_pos_h", f"{block}.attn.rel_pos_w"}
    keys |= {"image_encoder.neck.0.weight", "image_encoder.neck.2.weight"}
    keys |= both("image_encoder.neck.1", "image_encoder.neck.3")
    prompt = "prompt_encoder"
    keys |= {f"{prompt}.pe_layer.positional_encoding_gaussian_matrix", f"{prompt}.not_a_point_embed.weight"}
    keys |= {f"{prompt}.no_mask_embed.weight", *(f"{prompt}.point_embeddings.{i}.weight" for i in range(4))}
    keys |= both(*(f"{prompt}.mask_downscaling.{i}" for i in (0, 1, 3, 4, 6)))
    decoder = "mask_decoder"
    keys |= {f"{decoder}.iou_token.weight", f"{decoder}.mask_tokens.weight"}
    projections = ("q_proj", "k_proj", "v_proj", "out_proj")
    for i in range(2):
        layer = f"{decoder}.transformer.layers.{i}"
        for attention in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
            keys |= both(*(f"{layer}.{attention}.{p}" for p in projections))
        keys |= both(*(f"{layer}.norm{n}" for n in (1, 2, 3, 4)), f"{layer}.mlp.lin1", f"{layer}.mlp.lin2")
    keys |= both(*(f"{decoder}.transformer.final_attn_token_to_image.{p}" for p in projections))
    keys |= both(f"{decoder}.transformer.norm_final_attn", *(f"{decoder}.output_upscaling.{i}" for i in (0, 1, 3)))
    heads = [f"output_hypernetworks_mlps.{i}" for i in range(4)] + ["iou_prediction_head"]
    if quality:
        heads.append("hf_mlp")
        keys |= {f"{decoder}.hf_token.weight"}
        for name in ("compress_vit_feat", "embedding_encoder", "embedding_maskfeature"):
            keys |= both(*(f"{decoder}.{name}.{i}" for i in (0, 1, 3)))
    return keys | both(*(f"{decoder}.{head}.layers.{i}" for head in heads for i in range(3)))


@pytest.mark.parametrize("kind", KINDS)
def test_original_names_cover_the_module_exactly(kind):
    module = kind(model="tiny", size=SIZE).module
    renamed = _sam_weights.named(dict.fromkeys(original_keys(DEPTH, kind.quality), torch.zeros(1)))
    assert set(renamed) == set(module.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_original_file_gives_the_same_scores(kind, tmp_path):
    segmenter = kind(model="tiny", size=SIZE, seed=3)
    state = segmenter.module.state_dict()
    original = {}
    for key in original_keys(DEPTH, kind.quality):
        (target, *_) = _sam_weights.named({key: torch.zeros(1), "image_encoder.pos_embed": torch.zeros(1)})
        original[key] = state[target].clone()
    path = tmp_path / "sam.pth"
    torch.save(original, path)
    again = kind(model="tiny", size=SIZE, weights=str(path))
    assert again.weights_status == "released"
    for a, b in zip(answers(segmenter, picture()), answers(again, picture()), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_folder_and_own_file_give_the_same_scores(kind, tmp_path):
    segmenter = kind(model="tiny", size=SIZE, seed=3)
    expected = answers(segmenter, picture())
    segmenter.module.save_pretrained(tmp_path / "folder")
    segmenter.save(str(tmp_path / "own.safetensors"))
    for weights in ("folder", "own.safetensors"):
        again = kind(model="tiny", size=SIZE, weights=str(tmp_path / weights))
        assert again.weights_digest == segmenter.weights_digest
        for a, b in zip(expected, answers(again, picture()), strict=True):
            np.testing.assert_array_equal(a, b)


def test_bad_weights_end_in_one_line(tmp_path):
    state = sam.Sam(model="tiny", size=SIZE).module.state_dict()
    (tmp_path / "empty").mkdir()
    torch.save({k: v for k, v in state.items() if "neck" not in k}, tmp_path / "missing.pth")
    good = tmp_path / "good.pth"
    torch.save(state, good)
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    for file, named in {
        "nowhere.pth": "does not exist",
        "empty": "model.safetensors",
        "missing.pth": "vision_encoder.neck.conv1.weight",
        "cut.pth": "cannot be read",
    }.items():
        with pytest.raises(_weights.WeightsError, match=named) as caught:
            sam.Sam(model="tiny", size=SIZE, weights=str(tmp_path / file))
        assert "\n" not in str(caught.value)
    with pytest.raises(_weights.WeightsError, match="mask_decoder.hq_token.weight|mask_decoder"):
        sam.SamHQ(model="tiny", size=SIZE, weights=str(good))


@pytest.mark.parametrize(
    "arguments, named",
    [({"model": "vit_x"}, "vit_b"), ({"multimask": "sometimes"}, "every"), ({"size": 100}, "multiple of 16")],
)
def test_bad_arguments_name_what_is_allowed(arguments, named):
    with pytest.raises(ValueError, match=named):
        sam.Sam(**{"model": "tiny", "size": SIZE, **arguments})
