"""Losses against float64 transcriptions of their formulas."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inter2former.losses import coarse_target, commitment_loss, normalised_focal_loss


def slow_focal_loss(logits: torch.Tensor, target: torch.Tensor) -> float:
    """Section 8, pixel by pixel: alpha 0.5, gamma 2, scale = valid pixels / sum of (1 - pt)^2, mean over valid."""
    total, count = 0.0, 0
    for image, truth in zip(logits.double().flatten(1).tolist(), target.flatten(1).tolist(), strict=True):
        pixels = [(x if y == 1 else -x) for x, y in zip(image, truth, strict=True) if y != 255]
        pt = [1 / (1 + math.exp(-margin)) for margin in pixels]
        weight = sum((1 - p) ** 2 for p in pt)
        for p in pt:
            total += 0.5 * (1 - p) ** 2 * -math.log(p) * len(pt) / weight
        count += len(pt)
    return total / count if count else 0.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 3))
def test_normalised_focal_loss(seed: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, 1, 4, 5, generator=generator)
    target = torch.tensor([0, 1, 255])[torch.randint(0, 3, (batch, 1, 4, 5), generator=generator)]
    expected = slow_focal_loss(logits, target)
    torch.testing.assert_close(normalised_focal_loss(logits, target), torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_scale_gets_no_gradient() -> None:
    """With the scale constant, the gradient is that of the plain focal loss times the scale."""
    logits = torch.randn(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 2, (1, 1, 3, 3))
    margin = torch.where(target == 1, logits, -logits)
    pt = torch.sigmoid(margin)
    scale = 9 / (1 - pt).square().sum().detach()
    plain = (-0.5 * (1 - pt).square() * pt.log()).mean() * scale
    (expected,) = torch.autograd.grad(plain, logits)
    (gradient,) = torch.autograd.grad(normalised_focal_loss(logits, target), logits)
    torch.testing.assert_close(gradient, expected)


def test_extreme_logits_and_nothing_valid_stay_finite() -> None:
    logits = torch.tensor([[[[100.0, -100.0, 0.0]]]], requires_grad=True)
    for target in ([1, 0, 255], [0, 1, 255], [255, 255, 255]):
        loss = normalised_focal_loss(logits, torch.tensor(target).view(1, 1, 1, 3))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert float(loss.detach()) == 0


def test_commitment_loss() -> None:
    code = torch.randn(6, 8, requires_grad=True)
    signs = torch.where(code >= 0, 1.0, -1.0).requires_grad_()
    loss = commitment_loss(code, signs)
    torch.testing.assert_close(loss, 0.25 * (code - signs).square().mean())
    loss.backward()
    assert signs.grad is None and code.grad is not None


def test_coarse_target_is_the_largest_label_of_a_token() -> None:
    """Ground truth max-pooled to the grid (section 7); a token that holds object is object, whatever else it holds."""
    target = torch.zeros(1, 1, 32, 48)
    target[0, 0, 3, 20] = 1
    target[0, 0, 16:, :16] = 255
    target[0, 0, 20, 40:] = torch.tensor([255.0, 1, 0, 0, 0, 0, 0, 0])
    assert coarse_target(target, (2, 3))[0, 0].tolist() == [[0, 1, 0], [255, 0, 1]]
