"""HMoE: experts in groups against a loop over tokens, balancing, and the states of the switch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from inter2former.experts import BALANCE_STEP, BALANCE_STEPS, DenseFFN, HMoE

CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def make(seed: int, routed: bool = True) -> HMoE:
    torch.manual_seed(seed)
    moe = HMoE(24, 8, 5, routed)
    with torch.no_grad():
        for name, value in moe.state_dict().items():
            if name.endswith(("b1", "b2", "b3", "exp_bias")) or "ln" in name:
                value.add_(0.2 * torch.randn_like(value))
    return moe.eval()


def slow(moe: HMoE, x: torch.Tensor, z: torch.Tensor, boundary: list[int]) -> torch.Tensor:
    """Section 5.4, token by token in float64."""
    moe = moe.double()
    z = z.double()

    def swiglu(v, w1, b1, w2, b2, w3, b3, norm):
        hidden = F.silu(F.linear(v, w1, b1)) * F.linear(v, w2, b2)
        return F.linear(norm(hidden), w3, b3)

    rows = []
    for token, v in enumerate(z):
        f = moe.shared_ffn
        shared = swiglu(v, f.w1.weight, f.w1.bias, f.w2.weight, f.w2.bias, f.w3.weight, f.w3.bias, moe.shared_ln)
        if token in boundary:
            g_s, g = torch.sigmoid(moe.shared_gate(v)), torch.sigmoid(moe.expert_gate(v))
            e = int((g + moe.exp_bias).argmax())
            weights = torch.stack([g_s[0], g[e]]).softmax(0)
            parts = [getattr(moe, f"select_ffn_{kind}{i}")[e] for i in (1, 2, 3) for kind in "wb"]
            shared = weights[0] * shared + weights[1] * swiglu(v, *parts, moe.select_ln)
        rows.append(shared)
    result = (x.double() + torch.stack(rows)).float()
    moe.float()
    return result.detach()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40))
def test_grouped_experts_equal_a_loop(seed: int, count: int) -> None:
    moe = make(seed)
    x, z = torch.randn(2, 40, 24)
    boundary = torch.randperm(40)[:count].sort().values
    expected = slow(moe, x, z, boundary.tolist())
    torch.testing.assert_close(moe(x, z, boundary), expected, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(moe(x.clone(), z, boundary), expected, **CLOSE)


def test_shared_leaves_the_experts_out() -> None:
    """`shared` is what tokens get that are not boundary tokens."""
    moe = make(1)
    x, z = torch.randn(2, 40, 24)
    boundary = torch.tensor([3, 20])
    with torch.no_grad():
        everything = moe(x.clone(), z, boundary)
        moe.routed = False
        alone = moe(x.clone(), z, boundary)
    others = [token for token in range(40) if token not in (3, 20)]
    torch.testing.assert_close(alone[others], everything[others], **CLOSE)
    assert not torch.allclose(alone[boundary], everything[boundary], atol=1e-3)


def test_dense_is_one_feed_forward() -> None:
    torch.manual_seed(2)
    dense = DenseFFN(24, 40)
    x, z = torch.randn(2, 12, 24)
    f = dense.dense_ffn
    expected = x + f.w3(dense.dense_ln(F.silu(f.w1(z)) * f.w2(z)))
    torch.testing.assert_close(dense(x, z, torch.tensor([1])), expected, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(dense(x.clone(), z, torch.tensor([1])), expected, **CLOSE)


def test_balancing_moves_against_the_load() -> None:
    """exp_bias -= 1e-3 sign(count - mean), zero where equal (section 5.4)."""
    moe = make(3).train()
    before = moe.exp_bias.clone()
    moe.balance(torch.tensor([0, 0, 0, 1, 2]))
    expected = before - BALANCE_STEP * torch.tensor([1.0, 0.0, 0.0, -1.0, -1.0])
    torch.testing.assert_close(moe.exp_bias, expected)
    assert int(moe.steps) == 1
    moe.steps.fill_(BALANCE_STEPS)
    moe.balance(torch.tensor([0, 0, 0, 1, 2]))
    torch.testing.assert_close(moe.exp_bias, expected)


def test_balancing_waits_for_boundary_tokens_and_training() -> None:
    moe = make(4)
    x, z = torch.randn(2, 6, 24)
    moe(x, z, torch.tensor([1, 2]))
    assert int(moe.steps) == 0
    moe.train()
    moe(x, z, torch.tensor([], dtype=torch.int64))
    assert int(moe.steps) == 0
    moe(x, z, torch.tensor([1, 2]))
    assert int(moe.steps) == 1


@pytest.mark.parametrize("load", [torch.zeros(50, dtype=torch.int64)])
def test_selection_bias_does_not_enter_the_shares(load: torch.Tensor) -> None:
    """The bias picks the expert; the weights come from the gates alone."""
    moe = make(5)
    z = torch.randn(len(load), 24)
    moe.exp_bias.copy_(torch.tensor([100.0, 0, 0, 0, 0]))
    with torch.no_grad():
        chosen, share = moe.route(z)
        gates = torch.sigmoid(moe.expert_gate(z))[:, 0]
        expected = torch.stack([torch.sigmoid(moe.shared_gate(z))[:, 0], gates]).softmax(0)[1]
    assert torch.equal(chosen, load)
    torch.testing.assert_close(share, expected, **CLOSE)
