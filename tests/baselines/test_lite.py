"""The lite baselines: dense-token and SAM-style decoders on the encoder of Inter2Former-lite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines import _lite
from baselines._weights import WeightsError
from baselines.dense_lite import DenseLite
from baselines.sam_lite import SamLite
from inter2former.build import build as build_inter2former
from inter2former.config import make_config
from inter2former.losses import normalised_focal_loss
from tests.baselines.sessions import Click, last_mask_decides, photograph

SYSTEMS = {"dense": DenseLite, "sam": SamLite}


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request) -> Any:
    return SYSTEMS[request.param]()


def linear(into: int, out: int) -> int:
    return into * out + out


def conv(into: int, out: int, kernel: int) -> int:
    return kernel**2 * into * out + out


def test_parameters_by_hand():
    """Closed forms of the decoders; the encoder is Inter2Former-lite's own."""
    stem = conv(3, 16, 3) + conv(16, 32, 3) + conv(32, 64, 3) + conv(64, 96, 3)
    block = linear(96, 288) + linear(96, 96) + linear(96, 384) + linear(384, 96) + 4 * 96
    head = conv(96, 32, 3) + conv(32, 16, 3) + conv(16, 1, 3) + 2 * (96 + 32 + 16)
    dense = DenseLite()
    encoder = sum(p.numel() for p in dense.module.backbone.parameters())
    assert dense.parameters == encoder + stem + 2 * block + head

    attention, cross = 4 * linear(96, 96), 3 * linear(96, 48) + linear(48, 96)
    layer = attention + 2 * cross + linear(96, 768) + linear(768, 96) + 4 * 2 * 96
    upscaling = 4 * 96 * 24 + 24 + 2 * 24 + 4 * 24 * 12 + 12
    classifier = 2 * linear(96, 96) + linear(96, 12)
    decoder = 2 * layer + cross + 2 * 96 + 2 * 96 + upscaling + classifier
    prompt = 4 * 96 + (4 * 4 + 4) + 2 * 4 + (4 * 4 * 16 + 16) + 2 * 16 + linear(16, 96)
    skips = linear(96, 24) + linear(32, 12)
    sam = SamLite()
    encoder = sum(p.numel() for p in sam.module.backbone.parameters())
    assert sam.parameters == encoder + decoder + prompt + skips


def test_cost_of_a_click_by_hand():
    """GMACs of products and convolutions at 512x512, where there are 32 x 32 tokens."""
    n = 32 * 32
    stem = (256**2 * 3 * 16 + 128**2 * 16 * 32 + 64**2 * 32 * 64 + n * 64 * 96) * 9
    block = n * (96 * 288 + 96 * 96 + 2 * 96 * 384) + 2 * n * n * 96
    head = (64**2 * 96 * 32 + 128**2 * 32 * 16 + 256**2 * 16) * 9
    dense = DenseLite().module
    maps = dense.encode(torch.zeros(1, 3, 512, 512))
    prompts = torch.zeros(1, 2, 512, 512), torch.zeros(1, 1, 512, 512)

    def counted(compute) -> int:
        # torch's counter does not know attention on the CPU; on the meta device it is made of products.
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            compute()
        return counter.get_total_flops() // 2

    dense = dense.to("meta")
    meta = [x.to("meta") for x in (*maps, *prompts)]
    assert counted(lambda: dense.decode(meta[:4], *meta[4:])) == stem + 2 * block + head

    sam = SamLite().module
    encoded = [x.to("meta") for x in sam.encode(torch.zeros(1, 3, 512, 512))]
    code = sam.neck.grid_code(32, 32).to("meta")
    points, kinds = torch.zeros(1, 2, 2, device="meta"), torch.ones(1, 2, dtype=torch.int64, device="meta")
    previous = torch.zeros(1, 1, 128, 128, device="meta")
    t = 5  # quality and mask token, two clicks, one padding token

    def cross(queries: int, keys: int) -> int:
        return 48 * 96 * 2 * (queries + keys) + 2 * queries * keys * 48

    layer = 4 * t * 96**2 + 2 * t * t * 96 + cross(t, n) + cross(n, t) + 2 * t * 96 * 768
    prompt = 2 * 2 * 48 + 64**2 * 4 * 4 + n * (4 * 4 * 16 + 16 * 96)
    upscaling = n * 96 * 4 * 24 + 4 * n * 24 * 4 * 12
    mask = 2 * 96**2 + 96 * 12 + 16 * n * 12
    sam = sam.to("meta")
    cost = counted(lambda: sam.decode(encoded, code, points, kinds, previous))
    assert cost == 2 * layer + cross(t, n) + prompt + upscaling + mask


def test_the_encoder_starts_as_inter2formers():
    """Equal seeds: the same values in all parts of the encoder that both have."""
    wanted = build_inter2former(make_config("lite"), seed=3)[0].backbone.state_dict()
    dense, sam = (make(seed=3).module.backbone.state_dict() for make in (DenseLite, SamLite))
    assert dense.keys() == wanted.keys()
    assert all(torch.equal(dense[key], wanted[key]) for key in wanted)
    assert sam.keys() == {key for key in wanted if not key.startswith("levels.2.")}
    assert all(torch.equal(sam[key], wanted[key]) for key in sam)


@pytest.mark.parametrize("size", [(1, 1), (7, 200), (130, 33), (64, 96)])
def test_every_image_size(system, size):
    session = system.start(system.encode(photograph(*size)))
    for click in (Click(size[0] - 1, size[1] - 1, True), Click(0, 0, False), None):
        scores = session.click(click)
        assert scores.shape == size and scores.dtype == np.float32 and np.isfinite(scores).all()


@pytest.mark.parametrize("make", SYSTEMS.values())
def test_target_size(make):
    segmenter = make(target_size=96)
    session = segmenter.start(segmenter.encode(photograph(130, 40)))
    assert session.click(Click(129, 39, True)).shape == (130, 40)
    assert make(target_size=96).encoder_key == segmenter.encoder_key != make().encoder_key
    with pytest.raises(ValueError, match="multiple of 32"):
        make(target_size=100)


def test_a_frame_maps_clicks_as_pixels_are_mapped():
    """A square of twice the target: input pixel = half the image pixel, and the scores come back at full size."""
    planes, frame = _lite.prepare(photograph(128, 96), 64)
    assert planes.shape == (1, 3, 64, 64) and frame.padded == (128, 128)
    assert frame.to_input(127, 95) == (63, 47) and frame.to_input(0, 1) == (0, 0)
    ramp = torch.arange(64.0).view(1, 1, 64, 1).expand(1, 1, 64, 64)
    restored = frame.restore(ramp)
    assert restored.shape == (128, 96)
    assert restored[64, 0] == pytest.approx((64 + 0.5) / 2 - 0.5)


@pytest.mark.parametrize("target_size", [None, 64])
def test_a_replaced_prediction_stands_for_the_last_answer(system, target_size):
    segmenter = type(system)(target_size=target_size)
    embedding, mask = last_mask_decides(segmenter)
    placed = embedding.frame.place(torch.from_numpy(mask).float()[None, None])
    assert placed.shape[2:] == embedding.frame.size
    assert ((embedding.frame.restore(placed) > 0.5) == mask).mean() > 0.95


def test_episodes_are_deterministic_and_apart(system):
    embedding = system.encode(photograph(60, 90))
    clicks = [None, Click(30, 40, True), Click(5, 80, False), None]
    first = system.start(embedding)
    kept = [first.click(click) for click in clicks]
    copies = [scores.copy() for scores in kept]
    second = system.start(embedding)
    for earlier, copy, click in zip(kept, copies, clicks, strict=True):
        assert (second.click(click) == copy).all()
        assert (earlier == copy).all(), "a later click changed scores that were handed out"
    assert (copies[1] != copies[2]).any()


def test_training_forward_is_what_the_session_answers():
    """At a size without padding the first click of a session equals `forward` on the same prompts."""
    image = photograph(64, 96)
    planes, _ = _lite.prepare(image, None)
    dense, sam = DenseLite(), SamLite()
    discs = torch.zeros(1, 2, 64, 96)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    discs[0, 0] = ((rows - 20) ** 2 + (columns - 91) ** 2 <= 25).float()
    expected = dense.module(planes, discs, torch.zeros(1, 1, 64, 96))[0, 0].detach().numpy()
    scores = dense.start(dense.encode(image)).click(Click(20, 91, True))
    np.testing.assert_allclose(scores, expected, atol=1e-5)

    session = sam.start(sam.encode(image))
    points, kinds = torch.tensor([[[20.0, 91.0]]]), torch.tensor([[1]])
    expected = sam.module(planes, points, kinds)[0, 0].detach().numpy()
    np.testing.assert_allclose(session.click(Click(20, 91, True)), expected, atol=1e-5)


def test_a_batch_equals_its_samples(system):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 64, 96, generator=generator)
    if isinstance(system, DenseLite):
        prompts = torch.rand(2, 2, 64, 96, generator=generator), torch.rand(2, 1, 64, 96, generator=generator)
    else:
        kinds = torch.tensor([[1, 0, -1], [0, 1, 1]])
        points = torch.randint(0, 64, (2, 3, 2), generator=generator).float()
        prompts = points, kinds, torch.randn(2, 1, 16, 24, generator=generator)
    with torch.no_grad():
        both = system.module(images, *prompts)
        for number in range(2):
            part = slice(number, number + 1)
            alone = system.module(images[part], *(prompt[part] for prompt in prompts))
            torch.testing.assert_close(both[number], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("make", SYSTEMS.values())
def test_training_lowers_the_loss_and_reaches_every_parameter(make, precision):
    """Forty steps on two shapes, two clicks each: the loss halves, and every trainable value gets a gradient."""
    torch.manual_seed(0)
    segmenter = make()
    trainee = segmenter.trainee(precision)
    images = torch.randint(90, 110, (2, 3, 64, 64), dtype=torch.uint8)
    target = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    target[0, 0, 10:40, 20:50], target[1, 0, 30:60, 5:30], target[1, 0, :4] = 1, 1, 255
    images[:, 1:].masked_fill_(target == 1, 200)
    clicks = [[Click(25, 35, True), Click(45, 15, True)], [None, Click(10, 50, False)]]
    parameters = [p for p in trainee.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    losses = []
    trainee.module.train()
    for _ in range(40):
        encoded = trainee.encode(images)
        prompts = trainee.prompts(2, 64, 64)
        total = torch.zeros(())
        for step in clicks:
            prompts.add_clicks(step)
            logits, terms = trainee.decode(encoded, prompts, target)
            assert logits.shape == (2, 1, 64, 64) and logits.dtype == torch.float32
            total = total + sum(terms.values())
            prompts.add_predictions(logits)
        optimizer.zero_grad()
        total.backward()
        assert not losses or all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(total.detach()))
    assert np.median(losses[-5:]) < losses[0] / 2
    assert {name.split(".")[0] for name, p in trainee.module.named_parameters() if not p.requires_grad} == {"backbone"}


def test_loss_equals_the_models():
    """Another implementation of the same formula, inter2former.losses; and nothing valid gives 0."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 1, 8, 9, generator=generator)
    target = torch.tensor([0, 1, 255], dtype=torch.uint8)[torch.randint(0, 3, (3, 1, 8, 9), generator=generator)]
    expected = normalised_focal_loss(logits, target)
    torch.testing.assert_close(_lite.normalised_focal_loss(logits, target), expected)
    assert _lite.normalised_focal_loss(logits, torch.full_like(target, 255)) == 0


@pytest.mark.parametrize("half", [False, True])
def test_trained_weights_give_the_same_scores(system, half, tmp_path):
    """A file as harness.train leaves it: without the frozen trunk, matrices perhaps in half precision."""
    from harness.training.checkpoints import save_weights

    if half:
        for key, value in system.module.state_dict().items():
            if value.ndim > 1 and "trunk." not in key:
                value.copy_(value.half().float())
    image, click = photograph(50, 70), Click(20, 30, True)
    expected = system.start(system.encode(image)).click(click)
    path = tmp_path / "weights.safetensors"
    save_weights(path, system.module, {"weights_status": "trained here"}, system.trainee().pretrained(), half)
    loaded = type(system)(weights=str(path), seed=9)
    assert loaded.weights_status == "trained here"
    assert (loaded.start(loaded.encode(image)).click(click) == expected).all()
    own = tmp_path / "own.safetensors"
    system.save(str(own))
    assert type(system)(weights=str(own)).weights_status == "untrained"


def test_decoders_share_the_encoder_of_inter2former(system, tmp_path):
    """A file that names Inter2Former-lite's encoder as its base: parts that this decoder has no use for are left."""
    from safetensors.torch import save_file

    from inter2former.segmenter import Inter2FormerSegmenter

    encoder = Inter2FormerSegmenter(preset="lite", seed=4).model.state_dict()
    shared = {k: v.contiguous().clone() for k, v in encoder.items() if k.startswith(("backbone.", "edge_detector."))}
    save_file(shared, str(tmp_path / "encoder.safetensors"))
    own = {k: v.contiguous().clone() for k, v in system.module.state_dict().items() if not k.startswith("backbone.")}
    path = tmp_path / "decoder.safetensors"
    save_file(own, str(path), {"base": "encoder", "weights_status": "trained here"})
    loaded = type(system)(weights=str(path), seed=9)
    state = loaded.module.state_dict()
    assert all(torch.equal(state[k], v) for k, v in own.items())
    assert all(torch.equal(v, shared[k]) for k, v in state.items() if k.startswith("backbone."))
    assert loaded.weights_status == "trained here"


def test_weights_of_another_model_end_in_one_line(tmp_path):
    path = tmp_path / "dense.safetensors"
    DenseLite().save(str(path))
    with pytest.raises(WeightsError, match="SAM-style lite baseline") as error:
        SamLite(weights=str(path))
    assert "\n" not in str(error.value) and "skips.0.weight" in str(error.value)
    assert "levels.2" in str(error.value)


def test_no_prompt_map_is_shared_between_samples():
    net = DenseLite().module
    encoded = net.encode(torch.zeros(2, 3, 32, 32))
    discs = torch.zeros(2, 2, 32, 32)
    discs[0, 0, 10, 10] = 1.0
    with torch.no_grad():
        logits = net.decode(encoded, discs, torch.zeros(2, 1, 32, 32))
        plain = net.decode(encoded, torch.zeros_like(discs), torch.zeros(2, 1, 32, 32))
    torch.testing.assert_close(logits[1], plain[1])
    assert (logits[0] - plain[0]).abs().max() > 1e-4
