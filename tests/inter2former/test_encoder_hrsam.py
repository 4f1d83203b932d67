"""The ViT-B encoder: goldens, a float64 transcription at every kind of size, and what its shortcuts must not change."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from goldens import assert_close, cases, load, rule_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transcriptions import encode

from inter2former.encoders.hrsam import HRSAMEncoder
from inter2former.encoders.windows import plan_windows


def small_encoder(seed: int = 0) -> HRSAMEncoder:
    """Three blocks of two heads with every parameter random, padding vectors included."""
    encoder = HRSAMEncoder(out_channels=8, dim=128, depth=3, heads=2, fused_after=(2,)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return encoder


@pytest.fixture(scope="module")
def released() -> HRSAMEncoder:
    encoder = HRSAMEncoder().eval()
    encoder.load_state_dict(rule_state_dict("backbone."))
    return encoder


@pytest.mark.parametrize("entry", cases("b_"))
def test_backbone_golden(entry, released):
    tensors, seen = load(entry), {}

    def keep_block(number):
        def hook(module, inputs, output):
            seen[f"block{number:02d}_sub"] = output[inputs[1].inverse][::16, ::8]

        return hook

    def keep_lateral(number):
        return lambda module, inputs, output: seen.update({f"lateral{number}_sub": output})

    hooks = [block.register_forward_hook(keep_block(i)) for i, block in enumerate(released.blocks)]
    hooks += [lateral[1].register_forward_hook(keep_lateral(i)) for i, lateral in enumerate(released.lateral_convs)]
    with torch.no_grad():
        output = released(tensors["input"])
    for hook in hooks:
        hook.remove()
    assert_close(output, tensors["output"], entry, "output")
    for name, expected in tensors.items():
        if name.startswith("block"):
            assert_close(seen[name], expected, entry, name)
        if name.startswith("lateral"):
            as_map = seen[name].view(*output.shape[2:], -1).permute(2, 0, 1)[None]
            assert_close(as_map[:, ::8], expected, entry, name)


def test_parameters_agree_with_the_specification(released):
    # Header of the specification: backbone 87,389,440.
    assert sum(p.numel() for p in released.parameters()) == 87_389_440


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 2))
def test_equals_float64_transcription_with_padded_queries(rows, columns, batch):
    encoder = small_encoder().double()
    image = torch.randn(batch, 3, 16 * rows, 16 * columns, generator=torch.Generator().manual_seed(rows)).double()
    with torch.no_grad():
        expected = encode(image, dict(encoder.state_dict()))
        torch.testing.assert_close(encoder(image), expected, atol=1e-9, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 3), st.sampled_from([0, 1]))
def test_every_token_is_in_one_window(rows, columns, batch, parity):
    plan = plan_windows(batch, ((rows, columns), (16, 16)), parity)
    total = batch * (rows * columns + 256)
    assert torch.equal(plan.order.sort().values, torch.arange(total))
    assert torch.equal(plan.order[plan.inverse], torch.arange(total))
    assert sum(group.count * len(group.cells) for group in plan.groups) == total
    assert all(len(group.cells) + len(group.padded) == 256 for group in plan.groups)


def test_shifted_windows_leave_nothing_padded_but_the_border():
    # 64x64 tokens shifted by 8: 3x3 whole windows, 12 halves, 4 corners; the anchor is one more whole window.
    counts = {len(g.cells): 0 for g in plan_windows(1, ((64, 64), (16, 16)), 1).groups}
    for group in plan_windows(1, ((64, 64), (16, 16)), 1).groups:
        counts[len(group.cells)] += group.count
    assert counts == {256: 10, 128: 12, 64: 4}


def test_inference_equals_the_differentiable_path():
    encoder, image = small_encoder(), torch.randn(1, 3, 288, 304)
    differentiable = encoder(image)
    with torch.no_grad():
        torch.testing.assert_close(encoder(image), differentiable.detach(), atol=2e-5, rtol=1e-4)


def test_every_parameter_gets_a_finite_gradient_where_windows_are_padded():
    encoder = small_encoder()
    encoder(torch.randn(1, 3, 288, 304)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        # Blocks 0 and 2 are padded too, since 18x19 tokens are no multiple of 16.
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_batch_of_two_equals_two_singles():
    encoder, images = small_encoder(), torch.randn(2, 3, 288, 160)
    with torch.no_grad():
        singles = torch.cat([encoder(images[:1]), encoder(images[1:])])
        torch.testing.assert_close(encoder(images), singles, atol=2e-5, rtol=1e-4)


def test_changed_weights_are_noticed():
    encoder, image = small_encoder(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder(image)
        for parameter in encoder.blocks[1].mlp.parameters():
            parameter.mul_(2.0)
        after = encoder(image)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, encoder(image).detach(), atol=2e-5, rtol=1e-4)


def test_used_encoder_can_be_copied_and_pickled():
    encoder, image = small_encoder(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = encoder(image)
        for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
            assert torch.equal(twin(image), expected)


def test_plans_made_in_inference_mode_serve_training():
    plan_windows.cache_clear()
    encoder, image = small_encoder(), torch.randn(1, 3, 272, 48)
    with torch.inference_mode():
        encoder(image)
    encoder(image).sum().backward()
    assert encoder.blocks[0].attn.padding.grad is not None


def test_bfloat16_stays_near_float32_and_reports_it():
    encoder, image = small_encoder(), torch.randn(1, 3, 288, 304)
    report = encoder.precision_error(image)
    with torch.no_grad():
        full = encoder(image)
        encoder.precision = "bf16"
        difference = encoder(image) - full
    assert report["max_abs"] == pytest.approx(difference.abs().max().item(), rel=1e-6)
    # bfloat16 rounds to 8 bits: a few roundings of 2 ** -9 each, added as independent errors.
    assert 2**-12 < report["relative_rms"] < 8 * 2**-9
    assert encoder(image).requires_grad, "bfloat16 is for inference only"


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_extreme_images_stay_finite(scale):
    with torch.no_grad():
        assert torch.isfinite(small_encoder()(scale * torch.randn(1, 3, 272, 64))).all()


def test_operator_counters_see_every_product():
    # Closed form at 16x16 tokens and the anchor (no padding): per token and block 12 dim^2 in linear layers; patches;
    # fusion of the fine tokens; depthwise 3x3; attention 2 * 256 * dim per token where the counter knows it.
    encoder, dim = small_encoder(), 128
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(torch.randn(1, 3, 256, 256))
    tokens = 512
    products = tokens * (3 * 12 * dim**2 + 768 * dim) + 256 * (2 * dim * 8 + 9 * 8)
    attention = 3 * tokens * 2 * 256 * dim
    assert counter.get_total_flops() in (2 * products, 2 * (products + attention))


@pytest.mark.parametrize("shape", [(1, 3, 250, 256), (1, 1, 256, 256), (1, 3, 0, 16)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 16"):
        small_encoder()(torch.zeros(shape))


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="fp32 or bf16"):
        HRSAMEncoder(depth=0, precision="fp16")
