"""InterFormer against the goldens of the official code, and the identity behind its attention bias."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goldens import BASELINE_GOLDENS, assert_close, tolerance
from goldens_baselines import fill, layouts, subsample, unpack
from torch.nn import functional as F

from baselines import _labels
from baselines._imsa import pooled_size
from baselines._relative_bias import CELLS, GRID, TABLE_ROWS, attend, layout
from baselines.interformer import InterFormer, InterFormerNet


@pytest.fixture(scope="module")
def filled() -> InterFormer:
    segmenter = InterFormer()
    fill(segmenter.module, "interformer")
    return segmenter


@pytest.mark.parametrize("entry", BASELINE_GOLDENS.cases("interformer_light"))
def test_interformer_golden(entry, filled):
    golden = BASELINE_GOLDENS.load(entry)
    net = filled.module
    height, width = entry["meta"]["padded"]

    def check(actual: torch.Tensor, name: str) -> None:
        """Compare a (B, C, h, w) map where the file has it."""
        if name in golden:
            assert_close(subsample(actual, entry, name), golden[name], entry, name)

    def check_map(x: torch.Tensor, name: str) -> None:
        planes = x.permute(0, 3, 1, 2)
        check(planes, name)
        check(planes, f"{name}_sub")
        if f"{name}_ch_mean" in golden:
            assert_close(planes.mean((2, 3)), golden[f"{name}_ch_mean"], entry, name)

    embedding = filled.encode(golden["image_u8"].numpy())
    for level, value in enumerate(embedding.pyramid):
        check_map(value, f"pyramid_{level}")
    session = filled.start(embedding)
    assert session.labels.shape == (height, width)
    for step, (y, x, positive) in enumerate(golden["clicks"].tolist()):
        session.labels = _labels.after_click(session.labels, y, x, bool(positive))
        # A pixel at a tie may have flipped in the step before: its share is bounded, then the golden label is used.
        assert (session.labels != golden[f"ref_label_{step}"]).float().mean() < (1e-3 if step else 1e-9)
        session.labels = golden[f"ref_label_{step}"].clone()
        with torch.inference_mode():
            embedded = net.neck.embed_labels(session.labels[None]).permute(0, 3, 1, 2)
            check(embedded, f"prompt_embed_sub_{step}")
            maps = net.neck(embedding.pyramid[0], embedding.stored, session.labels[None])
            for level, value in enumerate(maps):
                check_map(value, f"neck_{step}_{level}")
            head = net.decode_head(maps)
            check(head, f"head_logits_{step}")
            logits = F.interpolate(head, (height, width), mode="bilinear", align_corners=False)
        check(logits, f"logits_sub_{step}")
        prediction = unpack(golden[f"prediction_{step}_packed"], height, width).astype(bool)
        # The session's own answer: its scores, its decision, and the label map that follows from it.
        scores = torch.from_numpy(session.click(None))
        difference = (logits[0, 1] - logits[0, 0])[: scores.shape[0], : scores.shape[1]]
        assert_close(scores, difference, entry, f"scores_{step}")
        flipped = (scores.numpy() > 0.0) != prediction[: scores.shape[0], : scores.shape[1]]
        assert flipped.mean() < 1e-3
        # Each of the two logits may be off by the tolerance.
        assert np.abs(scores.numpy()[flipped]).max(initial=0.0) < 2.0 * sum(tolerance(entry))


def test_released_layout_golden_names_and_shapes():
    layout_of_file = layouts("interformer")["interformer_light"]
    with torch.device("meta"):
        net = InterFormerNet()
    own = {key: list(value.shape) for key, value in net.state_dict().items()}
    released = {key: shape for key, shape, _ in layout_of_file["state_dict"]}
    assert own == {k: s for k, s in released.items() if not k.endswith("relative_position_index")}
    assert sum(p.numel() for p in net.parameters()) == layout_of_file["parameters"]["total"] == 97_373_348


@pytest.mark.parametrize("size", [(14, 20), (32, 32), (16, 64), (30, 54), (64, 64), (3, 70), (40, 33)])
def test_bias_by_sets_equals_the_full_matrix(size):
    """Slow reference: specification 2, the (1025, 1025) matrix resized by nearest neighbour, in float64."""
    height, width = size
    generator = torch.Generator().manual_seed(height * 1000 + width)
    heads, tokens = 2, height * width
    table = torch.randn(TABLE_ROWS, heads, generator=generator)
    query, key, value = torch.randn(3, 1, heads, 1 + tokens, 8, generator=generator)

    grid = torch.arange(GRID)
    y, x = grid.repeat_interleave(GRID), grid.repeat(GRID)
    rows = (y[:, None] - y + 31) * 63 + (x[:, None] - x + 31)
    native = torch.empty(heads, CELLS + 1, CELLS + 1)
    native[:, 1:, 1:] = table.T[:, rows]
    native[:, 0, 1:], native[:, 1:, 0], native[:, 0, 0] = table.T[:, 3969:3970], table.T[:, 3970:3971], table.T[:, 3971]
    if tokens == CELLS:
        cell = torch.arange(CELLS)
    else:
        at = [torch.arange(n) * GRID // n for n in size]
        cell = (at[0][:, None] * GRID + at[1]).flatten()
    index = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + cell])
    bias = native[:, index][:, :, index]
    expected = torch.softmax((query @ key.mT).double() / 8**0.5 + bias, dim=-1) @ value.double()

    plan = layout(height, width)
    assert sorted(plan.order.tolist()) == list(range(tokens))
    there = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + plan.order])
    actual = attend(query[:, :, there], key[:, :, there], value[:, :, there], table, plan)
    back = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + plan.inverse])
    torch.testing.assert_close(actual[:, :, back].double(), expected, atol=2e-5, rtol=0)


def test_pooled_sizes_of_the_specification():
    """Specification 5: at 512 the pooled sides are 11, 8, 6, 5 in stages 0 to 2 and 16, 8, 5, 4 in stage 3."""
    for side, ratios in ((128, (12, 16, 20, 24)), (64, (6, 8, 10, 12)), (32, (3, 4, 5, 6))):
        assert [pooled_size(side, ratio, side) for ratio in ratios] == [11, 8, 6, 5]
    assert [pooled_size(16, ratio, 16) for ratio in (1, 2, 3, 4)] == [16, 8, 5, 4]


def test_labels_follow_the_rules():
    """inter2former.md section 2: definite labels stay, others move one step; a disc has 81 pixels."""
    labels = torch.arange(5, dtype=torch.uint8).repeat(2, 1)
    prediction = torch.tensor([[False] * 5, [True] * 5])
    assert _labels.after_prediction(labels, prediction).tolist() == [[0, 1, 1, 2, 4], [0, 2, 3, 3, 4]]
    labels = _labels.start(40, 30)
    labels = _labels.after_click(labels, 20, 15, True)
    assert (labels == 4).sum() == 81
    labels = _labels.after_click(labels, 0, 29, False)  # a corner keeps the quarter disc with its axes: 26 pixels
    assert (labels == 0).sum() == 26
    assert labels[20, 20] == 4 and labels[20, 21] == 2
