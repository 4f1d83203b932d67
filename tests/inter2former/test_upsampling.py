"""DLU at inference against its stages as they are written, in float64; sparse prompt embedding against convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from inter2former.bicubic import doubling_kernel, doubling_rows, folded_kernel
from inter2former.label_tokens import TOKEN, Box
from inter2former.prompt_embedding import PromptEmbedding
from inter2former.sparse_stem import prepare, sparse_stem
from inter2former.upsampling import OUTSIDE, DecodeHead

WIDTHS = (24, 8, 4, 3)
CLOSE = {"atol": 3e-5, "rtol": 1e-5}


def make_head(seed: int, local: bool = True) -> DecodeHead:
    torch.manual_seed(seed)
    head = DecodeHead(WIDTHS, local)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head.eval()


def edge_maps(h: int, w: int, batch: int = 1) -> list[torch.Tensor]:
    return [torch.randn(batch, c, h * 2 ** (i + 1), w * 2 ** (i + 1)) for i, c in enumerate(WIDTHS)]


@pytest.mark.parametrize("size", [1, 2, 3, 9, 20])
def test_doubling_equals_pytorch_bicubic(size: int) -> None:
    x = torch.randn(1, 1, size, 1, dtype=torch.float64)
    expected = F.interpolate(x, (2 * size, 1), mode="bicubic", align_corners=False)[0, 0]
    torch.testing.assert_close(doubling_rows(range(2 * size), size) @ x[0, 0], expected)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_crop_equals_the_stages(data) -> None:
    """Any box, at the border of the image or not, down to one token."""
    h, w = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 13))
    top, left = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    box = Box(left, top, data.draw(st.integers(left + 1, w)), data.draw(st.integers(top + 1, h)))
    head = make_head(data.draw(st.integers(0, 99)))
    x, edges = torch.randn(1, WIDTHS[0], h, w), edge_maps(h, w)
    coarse = torch.full((1, 1, h, w), -5.0)
    coarse[..., box.slices[0], box.slices[1]] = 5.0
    with torch.no_grad():
        logits, boxes = head(x, edges, coarse)
        expected = head.double().crop(x.double(), [edge.double() for edge in edges], box).float()
    assert boxes == [box]
    rows, columns = (box * TOKEN).slices
    torch.testing.assert_close(logits[..., rows, columns], expected, **CLOSE)
    outside = torch.ones_like(logits, dtype=torch.bool)
    outside[..., rows, columns] = False
    assert (logits[outside] == OUTSIDE).all()


def test_off_is_the_whole_map() -> None:
    head, whole = make_head(1), make_head(1, local=False)
    x, edges = torch.randn(2, WIDTHS[0], 6, 9), edge_maps(6, 9, batch=2)
    everything = torch.full((2, 1, 6, 9), 5.0)
    with torch.no_grad():
        logits, boxes = whole(x, edges)
        torch.testing.assert_close(logits, whole.whole(x, edges), **CLOSE)
        torch.testing.assert_close(head(x, edges, everything)[0], logits, **CLOSE)
    assert boxes == [Box(0, 0, 9, 6)] * 2


def test_gradients_flow_through_the_crop() -> None:
    head = make_head(2)
    x = torch.randn(1, WIDTHS[0], 5, 6, requires_grad=True)
    coarse = torch.full((1, 1, 5, 6), -5.0)
    coarse[..., 1:3, 2:4] = 5.0
    logits, _ = head(x, edge_maps(5, 6), coarse)
    logits.sum().backward()
    assert (x.grad[..., 1:3, 2:4] != 0).any()
    assert (x.grad[..., 0, :] == 0).all()


@pytest.mark.parametrize("factor", [1, 2])
def test_one_convolution_doubles_and_convolves(factor: int) -> None:
    """Away from the border: the folded kernel equals bicubic, then convolution."""
    torch.manual_seed(3)
    weight, x = torch.randn(5, 3, 3, 3), torch.randn(1, 3, 16, 16)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="bicubic"), weight)
    folded = x.view(1, 3, 16 // factor, factor, 16 // factor, factor).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    out = F.conv2d(folded, doubling_kernel(weight, factor))[0]
    fine = 2 * factor
    out = out.unflatten(0, (fine, fine, 5)).permute(2, 3, 0, 4, 1).flatten(3).flatten(1, 2)
    margin = (2 if factor == 1 else 1) * fine
    inner = expected[0, :, margin - 1 : margin - 1 + out.shape[1], margin - 1 : margin - 1 + out.shape[2]]
    torch.testing.assert_close(out, inner, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("factor", [2, 4])
def test_folded_convolution(factor: int) -> None:
    torch.manual_seed(4)
    weight, x = torch.randn(5, 3, 3, 3), torch.randn(1, 3, 16, 24)
    out = F.conv2d(F.pixel_unshuffle(x, factor), folded_kernel(weight, factor), padding=1)[0]
    out = out.unflatten(0, (factor, factor, 5)).permute(2, 3, 0, 4, 1).flatten(3).flatten(1, 2)
    torch.testing.assert_close(out, F.conv2d(x, weight, padding=1)[0], atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_sparse_stem_equals_the_convolutions(data) -> None:
    height, width = TOKEN * data.draw(st.integers(1, 5)), TOKEN * data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    label = np.full((height, width), rng.integers(5), np.uint8)
    for _ in range(data.draw(st.integers(0, 3))):
        y, x = rng.integers(height), rng.integers(width)
        label[y : y + rng.integers(1, 50), x : x + rng.integers(1, 50)] = rng.integers(5)
    torch.manual_seed(0)
    dpe = PromptEmbedding(5, (6, 8, 10, 12))
    convolutions = [layer for layer in dpe.ref_conv.stem if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        levels = prepare(dpe.ref_embeds.weight, convolutions)
        found = sparse_stem(label, dpe.ref_embeds.weight, levels, most=2.0)
        assert found is not None
        rows, table = found
        torch.testing.assert_close(table[rows].permute(2, 0, 1), dpe.dense(label), **CLOSE)


def test_sparse_stem_gives_up_on_noise() -> None:
    dpe = PromptEmbedding(5, (6, 8, 10, 12))
    label = np.random.default_rng(0).integers(0, 5, (64, 64)).astype(np.uint8)
    with torch.no_grad():
        assert sparse_stem(label, dpe.ref_embeds.weight, dpe._levels()) is None


def test_dpe_off_differs_in_the_crops_first_row_and_column_only() -> None:
    """Section 5.1: the stem of the crop sees zeros where the whole map has background."""
    torch.manual_seed(5)
    on, off = PromptEmbedding(5, (6, 8, 10, 12)), PromptEmbedding(5, (6, 8, 10, 12), whole=True)
    off.load_state_dict(on.state_dict())
    label = np.ones((8 * TOKEN, 9 * TOKEN), np.uint8)
    label[60:80, 50:90] = 3
    box = Box(2, 2, 7, 6)
    x = torch.randn(72, 12)
    with torch.no_grad():
        difference = (on(x, label, box) - off(x, label, box)).view(8, 9, 12).abs().amax(-1)
    same = torch.ones(8, 9, dtype=torch.bool)
    same[2, 2:7] = same[2:6, 2] = False
    # The whole map sees zeros at its own border, where the box form has the background vector.
    same[0], same[:, 0] = False, False
    assert (difference[same] < 1e-5).all()
    assert (difference[~same] > 1e-5).all()


def test_embedding_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(6)
    dpe = PromptEmbedding(5, (6, 8, 10, 12))
    label = np.ones((6 * TOKEN, 6 * TOKEN), np.uint8)
    label[40:60, 30:55] = 2
    x = torch.randn(36, 12)
    box = Box(0, 1, 5, 5)
    trained = dpe(x, label, box)
    with torch.no_grad():
        torch.testing.assert_close(dpe(x, label, box), trained, **CLOSE)
