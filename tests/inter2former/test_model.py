"""The model as a whole: sizes, names, every combination of switches, batches, and what each switch may change."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from goldens import GOLDENS
from models import make_tiny, tiny_model

from inter2former.build import build
from inter2former.config import Config, make_config
from inter2former.edges import CannyNet
from inter2former.encoders.hrsam import HRSAMEncoder
from inter2former.label_tokens import TOKEN
from inter2former.model import Inter2Former, Neck
from inter2former.upsampling import DecodeHead

COMBINATIONS = list(
    itertools.product(
        ("on", "off"),
        ("on", "full", "bsq", "vq"),
        ("intended", "executed"),
        ("on", "shared", "dense"),
        ("on", "off"),
    )
)
SIZES = ((5, 7), (1, 3), (4, 4))
"""Token grids; none gives a multiple of 256 pixels."""


def label_map(kind: str, height: int, width: int) -> np.ndarray:
    """An empty map (all background), a full one, one pixel, everything unknown, or a bit of all."""
    label = np.ones((height, width), np.uint8)
    if kind == "full":
        label[:] = 3
    elif kind == "pixel":
        label[height // 2, width // 3] = 4
    elif kind == "unknown":
        label[:] = 2
    elif kind == "mixed":
        label[height // 4 :, : width // 2] = 3
        label[height // 2, width // 2 :] = 2
        label[:3, :3] = 0
    return label


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_are_the_specifications() -> None:
    """Parameters as the specification states them, and as its table of sub-modules adds up."""
    config = make_config("vit_b")
    neck = Neck(config)
    assert count(neck) == 1_355_643
    assert count(neck.blocks[0]) == 483_313 and count(neck.blocks[0].ffn) == 448_393
    assert count(neck.dpe.ref_conv) == 388_992
    assert count(DecodeHead(config.head)) == 175_610


def test_state_dict_golden() -> None:
    """All 432 names in the released order, with the released shapes."""
    layout = GOLDENS.read_json("state_dict_spec.json")
    config = make_config("vit_b")
    with torch.device("meta"):
        backbone = HRSAMEncoder(config.dim)
    model = Inter2Former(config, backbone, CannyNet(config.head, config.edge_blocks))
    found = [[k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in model.state_dict().items()]
    assert found == layout["state_dict"]
    assert len(found) == layout["count"] == 432
    assert count(model.neck) == layout["parameters"]["neck"]
    assert count(model.decode_head) == layout["parameters"]["decode_head"]


@pytest.mark.parametrize("switches", COMBINATIONS, ids="-".join)
def test_every_combination_of_switches(switches) -> None:
    """Forward and backward with finite gradients; training and inference forms; odd sizes and odd label maps."""
    model = tiny_model(**dict(zip(("dpe", "dha", "routing", "hmoe", "dlu"), switches, strict=True)))
    number = COMBINATIONS.index(switches)
    h, w = SIZES[number % len(SIZES)]
    height, width = TOKEN * h, TOKEN * w
    kinds = ("empty", "full", "pixel", "unknown", "mixed")
    label = label_map(kinds[number % len(kinds)], height, width)
    torch.manual_seed(number)
    image = torch.randn(1, 3, height, width)
    output = model.train()(image, label)
    target = torch.from_numpy(label_map("mixed", height, width) == 3).float()[None, None]
    sum(model.loss(output, target).values()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
    model.eval().zero_grad()
    state = model.encode(image)
    logits = model.decode(state, label)
    logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        fast = model.decode(model.encode(image), label)
    assert fast.shape == (1, 1, height, width)
    torch.testing.assert_close(fast, logits.detach(), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("routing", ["intended", "executed"])
def test_a_batch_of_two_is_two_singles(routing: str) -> None:
    model = tiny_model(routing=routing)
    height, width = 6 * TOKEN, 5 * TOKEN
    torch.manual_seed(0)
    image = torch.randn(2, 3, height, width)
    labels = [label_map("mixed", height, width), label_map("pixel", height, width)]
    both = torch.from_numpy(np.stack(labels)[:, None])
    with torch.no_grad():
        together = model.decode(model.encode(image), both)
        for index, label in enumerate(labels):
            alone = model.decode(model.encode(image[index : index + 1]), label)
            torch.testing.assert_close(together[index : index + 1], alone, atol=1e-4, rtol=1e-4)
    model.train()
    together = model.decode_for_training(model.encode(image), both)
    alone = [model.decode_for_training(model.encode(image[i : i + 1]), label) for i, label in enumerate(labels)]
    torch.testing.assert_close(together.vq_loss, (alone[0].vq_loss + alone[1].vq_loss) / 2)


def test_decoding_leaves_the_state_as_it_is() -> None:
    model = tiny_model()
    label = label_map("mixed", 96, 80)
    with torch.no_grad():
        state = model.encode(torch.randn(1, 3, 96, 80))
        tokens = state.tokens.clone()
        first = model.decode(state, label)
        assert torch.equal(state.tokens, tokens)
        assert torch.equal(model.decode(state, label), first)


def test_dlu_off_agrees_outside_the_norms_reach() -> None:
    """With the whole map as the box, on and off are one; with a smaller box, the rest is -100."""
    on, off = tiny_model(dlu="on"), tiny_model(dlu="off")
    label = label_map("mixed", 96, 80)
    image = torch.randn(1, 3, 96, 80)
    with torch.no_grad():
        state = on.encode(image)
        everything = torch.full((1, 1, 6, 5), 5.0)
        torch.testing.assert_close(on.decode(state, label, everything), off.decode(state, label), atol=1e-5, rtol=1e-5)
        part = everything.clone()
        part[..., :3, :] = -5
        logits = on.decode(state, label, part)
    assert (logits[..., : 3 * TOKEN, :] == -100).all() and (logits[..., 3 * TOKEN :, :] > -100).all()


def test_variants_agree_where_they_have_the_same_weights() -> None:
    base, _ = build(make_config("lite"))
    other, _ = build(make_config("lite", dha="vq", hmoe="dense"))
    state = other.state_dict()
    shared = [key for key in base.state_dict() if key in state]
    assert len(shared) > 100
    assert all(torch.equal(base.state_dict()[key], state[key]) for key in shared)
    assert {key for key in state if key not in base.state_dict()} == {
        key for key in state if "vq_attn" in key or ".dense_" in key
    }


def test_used_parameters() -> None:
    full = tiny_model(dha="full")
    assert count(full) - full.used_parameters() == sum(count(b.attention.bsq_attn) for b in full.neck.blocks)
    shared, on = tiny_model(hmoe="shared"), tiny_model()
    assert on.used_parameters() == count(on)
    unused = count(shared) - shared.used_parameters()
    ffn = shared.neck.blocks[0].ffn
    assert unused == 2 * (count(ffn) - count(ffn.shared_ffn) - count(ffn.shared_ln))


def test_weights_can_change_under_the_caches() -> None:
    """Codebooks, folded kernels and tables follow the weights: after a step, results are those of a fresh model."""
    model, fresh = tiny_model(seed=0), tiny_model(seed=1)
    label, image = label_map("mixed", 96, 80), torch.randn(1, 3, 96, 80)
    with torch.no_grad():
        model.decode(model.encode(image), label)
        model.load_state_dict(fresh.state_dict())
        changed = model.decode(model.encode(image), label)
        torch.testing.assert_close(changed, fresh.decode(fresh.encode(image), label), atol=1e-5, rtol=1e-5)


def test_a_wrong_label_map_is_refused() -> None:
    model = tiny_model()
    with torch.no_grad():
        state = model.encode(torch.randn(1, 3, 64, 64))
    for label in (np.ones((64, 48), np.uint8), np.ones((64, 64), np.float32)):
        with pytest.raises(ValueError, match=r"need \(B, 1, 64, 64\) uint8"):
            model.decode(state, label)
    with pytest.raises(ValueError, match="2 label maps for 1"):
        model.decode(state, np.ones((2, 64, 64), np.uint8))


def test_trace_tells_what_was_done() -> None:
    model = tiny_model()
    label = label_map("mixed", 96, 80)
    trace: dict = {}
    with torch.no_grad():
        model.decode(model.encode(torch.randn(1, 3, 96, 80)), label, trace=trace)
    view = model.neck.view(label)
    assert trace["dpe_box"] == (view.box * TOKEN).as_tuple()
    assert np.array_equal(trace["boundary"], view.boundary)
    assert np.array_equal(trace["experts"] >= 0, view.boundary)


def test_config_is_checked() -> None:
    with pytest.raises(ValueError, match="dha='hybird' is unknown.*Allowed: on, full, bsq, vq, off"):
        make_config("lite", dha="hybird")
    with pytest.raises(ValueError, match="Did you mean 'executed'"):
        make_config("lite", routing="execute")
    with pytest.raises(ValueError, match="preset='vitb'.*Did you mean 'vit_b'"):
        make_config("vitb")
    with pytest.raises(ValueError, match="field='dhaa'"):
        make_config("lite", dhaa="on")
    assert make_config("lite", dpe=False, hmoe=False, dha=False).switches() == {
        "dpe": "off",
        "dha": "full",
        "routing": "intended",
        "hmoe": "dense",
        "dlu": "on",
    }
    assert make_config("lite", dpe=True).dpe == "on"
    with pytest.raises(ValueError, match="same tokens"):
        make_tiny(dim=48)  # type: ignore[arg-type]
    assert make_config(**Config().record()) == Config()
