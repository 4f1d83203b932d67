"""Maps with channels last against torch's own layers, in float64 or on large maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines._maps import group_affine, group_norm, group_norm_linear, nest, one_group, pyramid_levels, run_level
from baselines._relative_bias import table_index


@pytest.mark.parametrize("level", range(4))
def test_pyramid_levels_equal_their_layers(level):
    """The layers run as torch runs them, channels first in float64."""
    torch.manual_seed(level)
    layers = pyramid_levels(16, (4, 6, 8, 10))[level].double().requires_grad_(False)
    for layer in layers:
        if isinstance(layer, nn.GroupNorm):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    x = torch.randn(2, 6, 4, 16, dtype=torch.float64)
    expected = layers(x.permute(0, 3, 1, 2))
    actual = run_level(layers, x.flatten(1, 2), 6, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(actual, expected)


def test_one_group_norm_keeps_its_precision_on_large_maps():
    """inter2former.md 9.15: torch's channels-last GroupNorm is off by 3e-4 here; float64 is the reference."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 512 * 512, 16, generator=generator) * 0.1 + 0.5
    norm = one_group(16)
    scale, shift = group_affine(norm, x)
    wide = x.double()
    deviation = (wide.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(scale.double(), (1 / deviation).expand(1, 16), rtol=1e-6, atol=0)
    torch.testing.assert_close(shift.double(), (-wide.mean() / deviation).expand(1, 16), rtol=1e-6, atol=0)


def test_norm_folded_into_a_product():
    torch.manual_seed(1)
    norm, linear = one_group(5).double(), nn.Linear(5, 7).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 11, 5, dtype=torch.float64)
    planes = norm(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(group_norm(norm, x), planes)
    torch.testing.assert_close(group_norm_linear(norm, x, linear.weight, linear.bias), linear(planes))


@pytest.mark.parametrize("doublings", [1, 2])
def test_nested_order_is_that_of_transposed_convolutions(doublings):
    """Nesting a map gives the rows in the order in which stacked 2x2 transposed convolutions produce them."""
    height, width = 3, 2
    parents = torch.arange(height * width).view(1, 1, height, width)
    rows = torch.arange(height * width * 4**doublings).view(1, -1, 1)
    side = 2**doublings
    x = torch.randint(0, 100, (1, height * side, width * side, 5))
    nested = nest(x, doublings)
    block = x[0, :side, :side]  # the first parent's children
    first = nested[0, : 4**doublings]
    if doublings == 1:
        assert (first == block.reshape(4, 5)).all()
    else:
        quarters = [block[i : i + 2, j : j + 2].reshape(4, 5) for i in (0, 2) for j in (0, 2)]
        assert (first == torch.cat(quarters)).all()
    assert nested.shape == (1, rows.numel(), 5)
    enlarged = parents.repeat_interleave(side, 2).repeat_interleave(side, 3).permute(0, 2, 3, 1)
    assert (nest(enlarged, doublings)[0, :, 0] == torch.arange(height * width).repeat_interleave(side**2)).all()


def test_bias_table_rows_of_the_specification():
    """interformer.md 2: row (yq - yk + 31) * 63 + (xq - xk + 31); 3969, 3970, 3971 for the class token."""
    index = table_index()
    assert index[1 + 5 * 32 + 7, 1 + 2 * 32 + 9] == (5 - 2 + 31) * 63 + (7 - 9 + 31)
    assert (index[0, 1:] == 3969).all() and (index[1:, 0] == 3970).all() and index[0, 0] == 3971
