"""Attention: codes as one softmax, routing, rotary positions, and the training forms, against slow transcriptions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inter2former.attention import BSQ, VQ, Attention, code_attention, full_attention, rotate, rotations

EXACT = {"atol": 2e-5, "rtol": 1e-5}
"""Float32 rounding of sums over some hundred tokens, against float64."""


def slow_softmax_attention(query: torch.Tensor, keys: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Softmax attention token by token in float64."""
    scores = query.double() @ keys.double().t() / math.sqrt(query.shape[1])
    return (scores.softmax(-1) @ value.double()).float()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(1, 150))
def test_bsq_is_softmax_over_quantised_keys(seed: int, tokens: int) -> None:
    torch.manual_seed(seed)
    bsq = BSQ(32, 8)
    query, key, value = torch.randn(3, tokens, 32)
    with torch.no_grad():
        codes = bsq.codes(key)
        out = code_attention(query, bsq.keys(), codes, value)
        # Section 5.3, bit by bit: codebook row j where the bit is set, row 8 + j where it is not.
        quantised = torch.stack(
            [sum(bsq.codebook[j if int(code) >> (7 - j) & 1 else 8 + j] for j in range(8)) for code in codes]
        )
    torch.testing.assert_close(out, slow_softmax_attention(query, quantised, value), **EXACT)


def test_a_code_of_zero_counts_as_positive() -> None:
    bsq = BSQ(4, 8)
    torch.nn.init.zeros_(bsq.code_proj.weight)
    torch.nn.init.zeros_(bsq.code_proj.bias)
    assert bsq.codes(torch.randn(3, 4)).tolist() == [255] * 3


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_vq_takes_the_nearest_vector(seed: int) -> None:
    torch.manual_seed(seed)
    vq = VQ(8, 32)
    query, key, value = torch.randn(3, 40, 8)
    nearest = torch.cdist(key.double(), vq.codebook.double()).argmin(-1)
    with torch.no_grad():
        assert torch.equal(vq.codes(key), nearest)
        out = code_attention(query, vq.keys(), nearest, value)
        torch.testing.assert_close(out, slow_softmax_attention(query, vq.codebook[nearest], value), **EXACT)


@pytest.mark.parametrize("quantiser", [BSQ(32, 8), VQ(32, 256)])
def test_straight_through_keeps_values_and_passes_gradients(quantiser) -> None:
    torch.manual_seed(1)
    key = torch.randn(50, 32, requires_grad=True)
    quantised, loss = quantiser.quantise(key)
    torch.testing.assert_close(quantised, quantiser.keys()[quantiser.codes(key)], atol=1e-5, rtol=1e-5)
    quantised.square().sum().backward()
    assert key.grad.abs().sum() > 0 and torch.isfinite(key.grad).all()
    assert float(loss.detach()) > 0


def test_bsq_loss_reaches_the_code_only() -> None:
    """0.25 mean((s - code)^2), s constant: the gradient of the code is 0.5 (code - s) / count (closed form)."""
    torch.manual_seed(2)
    bsq = BSQ(16, 8)
    key = torch.randn(30, 16)
    code = torch.nn.functional.normalize(bsq.code_proj(key), dim=-1)
    _, loss = bsq.quantise(key)
    (gradient,) = torch.autograd.grad(loss, bsq.code_proj.bias)
    signs = torch.where(code >= 0, 1.0, -1.0) / math.sqrt(8)
    (expected,) = torch.autograd.grad(code, bsq.code_proj.bias, 0.5 * (code - signs).detach() / code.numel())
    torch.testing.assert_close(gradient, expected)
    assert bsq.codebook.grad is None


def test_rotary_positions_depend_on_differences_only() -> None:
    """Section 4's pair formula, written out, and invariance under a shift of the grid."""
    torch.manual_seed(3)
    height, width, channels = 5, 7, 32
    x = torch.randn(height * width, channels)
    turned = rotate(x, rotations(height, width, channels))
    for token in (0, 9, 34):
        row, column = divmod(token, width)
        for n in range(8):
            for half, position in ((0, row), (16, column)):
                angle = 0.5 * position * 10000 ** (-2 * n / 16)
                u, v = x[token, half + 2 * n], x[token, half + 2 * n + 1]
                expected = torch.stack(
                    [u * math.cos(angle) + v * math.sin(angle), v * math.cos(angle) - u * math.sin(angle)]
                )
                got = turned[token, half + 2 * n : half + 2 * n + 2]
                torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    q, k = torch.randn(2, channels)
    factors = rotations(height, width, channels)

    def score(a: int, b: int) -> float:
        return float(rotate(q[None], factors[a : a + 1]) @ rotate(k[None], factors[b : b + 1]).t())

    assert score(0, width + 1) == pytest.approx(score(2 * width + 3, 3 * width + 4), abs=1e-5)


@pytest.mark.parametrize("count", [0, 1, 10, 25, 34, 35])
def test_hybrid_routes_token_by_token(count: int) -> None:
    """Boundary tokens get full attention, all others BSQ, whatever their number."""
    torch.manual_seed(4)
    attention = Attention(24, 32, 8, "on").eval()
    grid, tokens = (5, 7), 35
    z = torch.randn(tokens, 24)
    boundary = torch.randperm(tokens)[:count].sort().values
    with torch.no_grad():
        out, loss = attention.attend(z, grid, boundary)
        query, key, value = attention.qkv_proj(z).chunk(3, -1)
        factors = rotations(*grid, 32)
        close = full_attention(rotate(query, factors), rotate(key, factors), value)
        quantised = attention.bsq_attn.keys()[attention.bsq_attn.codes(key)]
        expected = slow_softmax_attention(query, quantised, value)
        expected[boundary] = close[boundary]
    torch.testing.assert_close(out, expected, **EXACT)
    assert float(loss) == 0


@pytest.mark.parametrize("kind", ["on", "bsq", "vq", "full"])
def test_training_form_has_the_values_of_inference(kind: str) -> None:
    torch.manual_seed(5)
    attention = Attention(24, 32, 8, kind)
    x, z = torch.randn(2, 2, 35, 24)
    boundary = [torch.tensor([0, 3, 17]), torch.tensor([], dtype=torch.int64)]
    with torch.no_grad():
        expected, _ = attention.eval()(x.clone(), z, (5, 7), boundary)
    out, loss = attention.train()(x, z, (5, 7), boundary)
    torch.testing.assert_close(out, expected, **EXACT)
    assert (float(loss.detach()) > 0) == (kind != "full")
