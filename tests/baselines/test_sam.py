"""SAM and SAM-HQ against plain forms in float64: preparation, forward passes, weights under both sets of names.

Goldens of the official code: test_sam_goldens.py. transformers builds our image encoder and is no reference here.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transcriptions_sam as plain
from goldens_baselines import fill

from baselines import sam
from baselines._images import MEAN, STD
from baselines._sam_decoder import MaskDecoder
from baselines._sam_hq_decoder import HqMaskDecoder
from baselines._sam_net import SamNet
from harness.flops.counter import count
from tests.baselines.sam_tiny import CLICKS, DEPTH, KINDS, SIZE, TINY, answers, official_state, picture, tiny  # noqa: F401


def triangles(before: int, after: int) -> np.ndarray:
    """Matrix (after, before) of the antialiased bilinear filter: a triangle as wide as the step, at least one pixel."""
    step = before / after
    distance = np.arange(before)[None] + 0.5 - (np.arange(after)[:, None] + 0.5) * step
    weights = np.clip(1 - np.abs(distance) / max(step, 1.0), 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(61, 87), (400, 300), (128, 128), (37, 2000), (40, 9)])
def test_preparation_equals_its_rule_in_float64(shape):
    image = picture(*shape)
    ours, frame = sam.prepare(image, 256)
    inner = ours[0, :, : frame.inner_height, : frame.inner_width].double().numpy()
    assert max(frame.inner_height, frame.inner_width) == 256
    mean, std = (np.array(values)[:, None, None] for values in (MEAN, STD))
    levels = inner * std + mean
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


@pytest.mark.parametrize(
    ("decoder", "once", "first", "later"), [(MaskDecoder, 0.0, 1.829, 1.847), (HqMaskDecoder, 4.161, 4.255, 4.273)]
)
@torch.no_grad()
def test_decoder_costs_what_its_specification_says(decoder, once, first, later):
    """GMACs at 1024 with three clicks (sam_state_dict.json, sam_hq_state_dict.json): the image's share is paid once."""
    net = SamNet(decoder(768 if decoder is HqMaskDecoder else 256)).eval().requires_grad_(False)
    fill(net, "sam_hq")
    image, early, previous = torch.randn(1, 256, 64, 64), torch.randn(1, 64, 64, 768), torch.randn(1, 1, 256, 256)
    points, kinds = torch.rand(1, 3, 2) * 1024, torch.tensor([[1, 0, 1]])
    parts = {"decoder": net.mask_decoder, "prompt": net.prompt_encoder}

    def encode():
        return net.encoded(image, *([net.mask_decoder.detail(image, early)] if once else []))

    assert count(encode, net, parts)["decoder"].macs / 1e9 == pytest.approx(once, rel=0.01)
    encoded = encode()
    for mask, expected in ((None, first), (previous, later)):
        found = count(lambda mask=mask: net.decode(encoded, points, kinds, mask), net, parts)
        assert found["total"].macs / 1e9 == pytest.approx(expected, rel=0.01)
        assert found["other"].macs < 0.001 * found["total"].macs


@pytest.fixture(scope="module")
def random_pair():
    """Segmenters with every entry random, and their state in float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam.ARCHITECTURES, "tiny", TINY)
        pairs = {}
        for kind in KINDS:
            segmenter = kind(model="tiny", size=SIZE)
            generator = torch.Generator().manual_seed(1)
            for key, value in segmenter.module.state_dict().items():
                if value.ndim == 1 or "rel_pos" in key:
                    value.copy_(torch.randn(value.shape, generator=generator) * 0.1 + key.endswith(".weight"))
            pairs[kind] = segmenter, {key: value.double() for key, value in official_state(segmenter).items()}
    return pairs


def plain_encoding(kind, square, state):
    image, early = plain.sam_encoder(square, state, TINY.heads, TINY.whole)
    return image, early if kind.quality else None


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_network_equals_its_plain_form_in_float64(kind, random_pair):
    """Same type on both sides: what remains is the order of sums."""
    segmenter, state = random_pair[kind]
    net = copy.deepcopy(segmenter.module).double()
    square = sam.prepare(picture(), SIZE)[0].double()
    encoded = net.encode(square)
    image, early = plain_encoding(kind, square, state)
    torch.testing.assert_close(encoded.image, image, atol=1e-9, rtol=0)
    previous = None
    for count_ in (1, 3):
        points = torch.tensor([[40.5, 20.25], [100.0, 7.0], [64.0, 90.0]], dtype=torch.float64)[:count_]
        labels = torch.tensor([1, 0, 1])[:count_]
        sparse, dense = plain.sam_prompts(points, labels, previous, SIZE // 16, state)
        expected = plain.sam_decoder(image, sparse, dense, state, early)
        found = net.decode(encoded, points[None].flip(-1), labels[None], previous)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
            assert theirs.std() > 0.01  # not constant
        previous = expected[0][:, :1]


@pytest.mark.parametrize("multimask", ["every", "first", "never"])
@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_episode_equals_its_plain_form(kind, feedback, multimask, random_pair):
    """Clicks scaled, answers chosen, added, fed back and brought to the image's size; the reference in float64."""
    segmenter, state = random_pair[kind]
    segmenter.feedback, segmenter.multimask = feedback, multimask
    image = picture()
    ours = answers(segmenter, image)
    square, frame = sam.prepare(image, SIZE)
    encoded, early = plain_encoding(kind, square.double(), state)
    previous, points, labels = None, [], []
    for number, click in enumerate(CLICKS):
        if click is not None:
            points.append([click[1] * frame.inner_width / 87, click[0] * frame.inner_height / 61])
            labels.append(int(click[2]))
        where = torch.tensor(points, dtype=torch.float64)
        sparse, dense = plain.sam_prompts(
            where, torch.tensor(labels), previous if feedback else None, SIZE // 16, state
        )
        masks, quality = plain.sam_decoder(encoded, sparse, dense, state, early)
        previous = plain.sam_answer(masks, quality, multimask == "every" or (multimask == "first" and number == 0))
        full = torch.nn.functional.interpolate(previous, (SIZE, SIZE), mode="bilinear")
        full = full[..., : frame.inner_height, : frame.inner_width]
        full = torch.nn.functional.interpolate(full, (61, 87), mode="bilinear")[0, 0]
        np.testing.assert_allclose(ours[number], full.numpy(), atol=2e-4, rtol=0)
        assert np.ptp(full.numpy()) > 0.1  # not a constant map


@torch.no_grad()
def test_high_quality_mask_sees_the_attended_image(random_pair):
    """The fault of transformers' decoder: masks upscaled from the image before the transformer are others."""
    segmenter, _ = random_pair[sam.SamHQ]
    net = segmenter.module
    maps = segmenter.encode(picture()).maps
    points, kinds = torch.tensor([[[20.0, 30.0]]]), torch.ones(1, 1, dtype=torch.int64)
    expected, _ = net.decode(maps, points, kinds, None)
    decoder = copy.deepcopy(net.mask_decoder)
    attend = decoder.attend

    def unattended(image, code, sparse, dense):
        return attend(image, code, sparse, dense)[0], (image + dense).flatten(2).transpose(1, 2)

    decoder.attend = unattended
    sparse, dense = net.prompt_encoder.sparse(points, kinds, (SIZE, SIZE)), net.prompt_encoder.dense(None, 1, 8, 8)
    wrong, _ = decoder(maps.image, maps.code, sparse, dense, maps.extras)
    assert (wrong - expected).abs().amax((0, 2, 3)).min() > 0.05


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
    before = embedding.maps.image.clone()
    first, second = segmenter.start(embedding), segmenter.start(embedding)
    results = [(first.click(click), second.click(click)) for click in CLICKS]
    for a, b in results:
        np.testing.assert_array_equal(a, b)
    torch.testing.assert_close(embedding.maps.image, before, atol=0, rtol=0)


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


@pytest.mark.parametrize(
    "arguments, named",
    [({"model": "vit_x"}, "vit_b"), ({"multimask": "sometimes"}, "every"), ({"size": 100}, "multiple of 16")],
)
def test_bad_arguments_name_what_is_allowed(arguments, named):
    with pytest.raises(ValueError, match=named):
        sam.Sam(**{"model": "tiny", "size": SIZE, **arguments})
