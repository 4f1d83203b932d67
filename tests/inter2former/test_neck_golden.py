"""Label map in, tokens out: DPE, DHA and HMoE against the goldens, at inference and in training."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from goldens import assert_close, cases, load, seeded_normal
from models import rule_neck

from inter2former.attention import BSQ
from inter2former.label_tokens import TOKEN

TINY_MARGIN = 1e-5
"""Below this margin one decision may come out differently (manifest)."""


def tokens_of(entry, label: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """The stored rule's input as tokens (B, h * w, 256), and the grid."""
    batch, _, height, width = label.shape
    grid = height // TOKEN, width // TOKEN
    x = seeded_normal(entry["meta"]["seed"], (batch, 256, *grid))
    return x.flatten(2).transpose(1, 2).contiguous(), grid


class Spy:
    """Collects what the blocks do; gives back the stored codes where a sign is undecided."""

    def __init__(self, tensors: dict[str, torch.Tensor], margins: dict[str, float], blocks: int, batch: int):
        self.tensors, self.margins, self.batch = tensors, margins, batch
        self.calls = 0

    def codes(self, quantiser: BSQ, key: torch.Tensor, original) -> torch.Tensor:
        block, index = divmod(self.calls, self.batch)
        self.calls += 1
        mine = original(quantiser, key)
        stored = self.tensors[f"codes_b{block}"].long().view(self.batch, -1)[index]
        differs = (mine != stored).nonzero()[:, 0]
        if self.margins.get(f"min_abs_code_b{block}", 1.0) >= TINY_MARGIN:
            assert len(differs) == 0
        assert len(differs) <= 1
        for token in differs:
            assert bin(int(mine[token]) ^ int(stored[token])).count("1") == 1
        return stored


@pytest.mark.parametrize("entry", cases("c_neck"))
def test_neck_golden(entry) -> None:
    tensors, meta = load(entry), entry["meta"]
    label = tensors["ref_label"]
    x, grid = tokens_of(entry, label)
    neck = rule_neck(meta["uncertainty"])
    blocks: list[torch.Tensor] = []  # copies: the next block overwrites
    experts: list[torch.Tensor] = []
    after_dpe: list[torch.Tensor] = []
    for block in neck.blocks:
        block.register_forward_hook(lambda _, __, out: blocks.append(out[0].clone()))
        route = block.ffn.route

        def spy_route(z, route=route):
            chosen, share = route(z)
            experts.append(chosen)
            return chosen, share

        block.ffn.route = spy_route
    neck.dpe.register_forward_hook(lambda _, __, out: after_dpe.append(out.clone()))
    spy = Spy(tensors, meta["margins"], len(neck.blocks), len(label))
    original = BSQ.codes
    with torch.no_grad(), mock.patch.object(BSQ, "codes", lambda q, key: spy.codes(q, key, original)):
        out, loss, views = neck(x, grid, list(label[:, 0].numpy()))
    assert [list((view.box * TOKEN).as_tuple()) for view in views] == tensors["bbox"].tolist()
    assert np.array_equal(np.stack([view.boundary for view in views]), tensors["boundary_mask"].numpy() == 1)
    assert float(loss) == 0
    with torch.no_grad():
        assert_close(neck.dpe.background(), tensors["back_embed"], entry, "background")
    for got, name in ((torch.cat(after_dpe), "x_after_dpe_sub"), (blocks[0], "block0_sub"), (blocks[1], "block1_sub")):
        flat, stored = got.reshape(-1, 256), tensors[name]
        assert_close(flat[:, :: 256 // stored.shape[1]], stored, entry, name)
    for number, chosen in enumerate(experts):
        assert_close(chosen.to(torch.uint8), tensors[f"experts_b{number}"], entry, f"experts {number}")
    assert len(experts) == (2 if meta["boundary_tokens"] else 0)
    out = out.transpose(1, 2).unflatten(2, grid)
    assert_close(out[:, :: 256 // tensors["output"].shape[1]], tensors["output"], entry, "output")


@pytest.mark.parametrize("entry", cases("c_neck"))
def test_attention_golden(entry) -> None:
    """The first block's attention before its output projection, for boundary tokens and for the others."""
    tensors = load(entry)
    label = tensors["ref_label"]
    x, grid = tokens_of(entry, label)
    neck = rule_neck(entry["meta"]["uncertainty"])
    attended: list[tuple[torch.Tensor, torch.Tensor]] = []
    attention = neck.blocks[0].attention
    original = attention.attend
    attention.attend = lambda *args: attended.append(original(*args)) or attended[-1]
    with torch.no_grad():
        neck(x, grid, list(label[:, 0].numpy()))
    boundary = tensors["boundary_mask"].bool().flatten()
    out = torch.cat([part for part, _ in attended])
    for rows, name in ((boundary, "loc_b0"), (~boundary, "bsq_b0")):
        if name in tensors:
            assert_close(out[rows], tensors[name], entry, name)
        else:
            assert not rows.any()


@pytest.mark.parametrize("entry", cases("d_train"))
def test_training_golden(entry) -> None:
    """Training form: same values, quantisation loss, gradients, and the balancing step of the experts."""
    tensors, meta = load(entry), entry["meta"]
    label = tensors["ref_label"]
    x, grid = tokens_of(entry, label)
    neck = rule_neck(meta["uncertainty"]).train()
    for number, block in enumerate(neck.blocks):
        assert_close(block.ffn.exp_bias, tensors[f"exp_bias_before_b{number}"], entry, "bias before")
    x.requires_grad_()
    out, loss, views = neck(x, grid, list(label[:, 0].numpy()))
    out = out.transpose(1, 2).unflatten(2, grid)
    scalar = (out * seeded_normal(meta["seed"] + 5, out.shape)).mean() + loss
    scalar.backward()
    assert [list((view.box * TOKEN).as_tuple()) for view in views] == tensors["bbox"].tolist()
    assert_close(out[:, ::2], tensors["output"], entry, "output")
    assert float(loss.detach()) == pytest.approx(float(tensors["vq_loss"]), abs=1e-7)
    assert_close(scalar.detach()[None], tensors["scalar"], entry, "scalar")
    assert [int(block.ffn.steps) for block in neck.blocks] == meta["ffn_steps_after"]
    for number, block in enumerate(neck.blocks):
        assert_close(block.ffn.exp_bias, tensors[f"exp_bias_after_b{number}"], entry, "bias after")
    gradients = {"x": x.grad.transpose(1, 2).unflatten(2, grid)[:, ::4]}
    expected = {"x": tensors["grad_x_sub"]}
    long_names = {id(parameter): parameter for parameter in neck.parameters()}
    short_names = {
        key: long_names[id(value)] for key, value in neck.state_dict(keep_vars=True).items() if id(value) in long_names
    }
    for name, stored in tensors.items():
        if name.startswith("grad."):
            gradient = short_names[name.removeprefix("grad.")].grad
            assert gradient is not None, name
            gradients[name] = gradient if gradient.shape == stored.shape else gradient[::4, ::4]
            expected[name] = stored
    assert len(expected) > 10
    for name, stored in expected.items():
        # The manifest's tolerance for gradients.
        torch.testing.assert_close(
            gradients[name], stored, atol=1e-6, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}"
        )
    without = sorted(key for key, parameter in short_names.items() if parameter.grad is None)
    assert without == meta["parameters_without_gradient"]
