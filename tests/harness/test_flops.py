"""FLOP counting: operators, parts and routing against closed forms, every variant against torch's own counter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from flop_references import reference_macs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from harness.flops import formulas as formulas
from harness.flops import measure
from harness.flops.trace import NotCountable, UnknownOperator, count
from harness.latency.replay import Replay
from harness.latency.workload import compose
from harness.planning.config import Config, build, plain
from harness.sample import Sample


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with torch.no_grad():
        yield


def ops():
    torch.manual_seed(0)
    x, y, z = torch.randn(2, 6, 9, 11), torch.randn(2, 5, 7), torch.randn(7, 3)
    heads = torch.randn(2, 4, 13, 8)
    grouped, transposed = nn.Conv2d(6, 12, 3, groups=3), nn.ConvTranspose2d(6, 4, 2, stride=2)
    out = torch.empty(2, 5, 3)
    return {  # expected MACs in closed form
        "grouped convolution": (lambda: grouped(x), 2 * 12 * 2 * 9 * 7 * 9),
        "transposed convolution": (lambda: transposed(x), 2 * 6 * 4 * 4 * 9 * 11),
        "linear": (lambda: F.linear(y, z.t()), 2 * 5 * 7 * 3),
        "broadcast product": (lambda: y @ z, 2 * 5 * 7 * 3),
        "product with out": (lambda: torch.bmm(y, z.expand(2, -1, -1), out=out), 2 * 5 * 7 * 3),
        "vector product": (lambda: z @ z[0], 7 * 3),
        "addmm": (lambda: torch.addmm(z, torch.eye(7), z), 7 * 7 * 3),
        "baddbmm": (lambda: torch.baddbmm(out, y, z.expand(2, -1, -1)), 2 * 5 * 7 * 3),
        "einsum": (lambda: torch.einsum("bij,jk->bik", y, z), 2 * 5 * 7 * 3),
        "attention": (lambda: F.scaled_dot_product_attention(heads, heads[:, :, :5], heads[:, :, :5]), 8 * 13 * 5 * 16),
        "activation": (lambda: F.silu(x).add_(1).sqrt_(), 0),
    }


@pytest.mark.parametrize("name", ops())
def test_operators_against_closed_form_and_torch(name):
    call, expected = ops()[name]
    module = call.__closure__ and next((c.cell_contents for c in call.__closure__ if name.endswith("convolution")
                                        and isinstance(c.cell_contents, nn.Module)), None)  # fmt: skip
    assert count(call, module)["total"].macs == expected
    assert reference_macs(call) == expected


def test_hidden_parameters_are_an_error():
    net = nn.Linear(3, 3)
    with pytest.raises(NotCountable, match=r"outside segmenter\.module"):
        count(lambda: net(torch.ones(1, 3)), None)


def test_work_without_effect_on_the_result_is_counted_and_shapes_stay_numbers():
    net = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    seen = []

    def call():
        x = torch.ones(10, 8)
        if (net(x) > 0).any():  # the result only decides
            pass
        seen.extend([type(x.shape[0]), type(x.size(1)), type(x.numel()), type(len(x))])
        return x.numpy()

    parts = {"first": net[0], "second": net[1]}
    found = count(call, net, parts)
    assert found["total"].macs == 10 * (8 * 4 + 4 * 2)
    assert found["first"].macs == 320 and found["second"].macs == 80 and found["other"].macs == 0
    assert set(seen) == {int}
    # Parameters, inputs and outputs once each, four bytes a number.
    assert found["first"].bytes == 4 * (8 * 4 + 4 + 10 * 8 + 10 * 4)


def test_arithmetic_is_flops_but_not_macs():
    norm = nn.LayerNorm(16)
    found = count(lambda: F.interpolate(norm(torch.ones(1, 3, 8, 16)), scale_factor=2, mode="bicubic"), norm)["total"]
    # Five FLOPs an element for the norm, 16 products and sums for each bicubic output.
    assert (found.macs, found.flops) == (0, 5 * 384 + 32 * 384 * 4)


def test_unknown_operator_is_an_error_that_names_it_and_its_module():
    class Strange(nn.Module):
        def forward(self, x):
            return torch.linalg.svdvals(x)

    net = nn.Sequential(nn.Linear(4, 4), Strange())
    with pytest.raises(UnknownOperator, match=r"aten::linalg_svdvals.*model\.1.*harness/flops/handles\.py"):
        count(lambda: net(torch.ones(4, 4)), net)


def sample(height=96, width=128, box=(20, 60, 30, 80)):
    mask = np.zeros((height, width), np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 1
    rng = np.random.default_rng(0)
    return Sample("a", rng.integers(0, 255, (height, width, 3), np.uint8), mask)


def test_rows_follow_the_routing():
    variants = {"tiny": {"_target_": "toy_segmenters.Tiny"}, "none": {"_target_": "toy_segmenters.Raises"}}
    options = {"resolutions": [64], "samples": 1, "later_clicks": 1}
    frame = measure.measure(variants, [sample(48, 64, (0, 8, 0, 64))], options)
    assert "width=0: must be positive" in frame.loc[frame["variant"] == "none", "error"].item()
    chosen = frame[(frame["variant"] == "tiny") & (frame["size_bin"] == "all")].set_index(["kind", "part"])
    # 6 x 8 tokens of width 8. First click: all attend; qkv 48*8*24 and 48*48*16 for scores and sum.
    assert chosen.loc[("first", "attention"), "gmacs"] == pytest.approx((48 * 8 * 24 + 48 * 48 * 16) / 1e9)
    # A later click attends with fewer tokens, those in the mask of the workload.
    assert chosen.loc[("later", "attention"), "gmacs"] < chosen.loc[("first", "attention"), "gmacs"]
    gmacs, gflops = chosen.loc[("encode", "total"), ["gmacs", "gflops"]]
    assert gmacs == pytest.approx(48 * 27 * 8 / 1e9) and gflops == pytest.approx(2 * gmacs)


SMALL = {1024: 256, 448: 224}
"""Side at which networks of a fixed input run the same operators in a fraction of the time."""


LONG = ("hrsam_plusplus", "sam3_tracker", "ritm_hrnet18", "ritm_hrnet32", "simpleclick_vit_b")
"""More than ten seconds; hrnet18s and vit_xtiny run the same operators."""
PIXELS_ONLY = ("ritm", "simpleclick", "focalclick")


def variants():
    """(name, side): every variant, networks of a fixed input at a small side, and as they are configured."""
    for name in Config().options("variant"):
        fixed = SMALL.get(plain(Config().load("variant", name)).get("size"))
        # Hundreds of millions of random weights to draw; a second scale and scans of it, whatever the image.
        long = name.endswith(("vit_h", "vit_l", "large", "base_plus", "hiera_small")) or name in LONG
        yield pytest.param(name, fixed, marks=[pytest.mark.slow] if long else [])
        if fixed and not name.endswith(("vit_h", "vit_l")):
            yield pytest.param(name, None, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "side"), variants())
def test_every_variant_agrees_with_torchs_counter(name, side):
    config = plain(Config().load("variant", name))
    segmenter = build({**config, "size": side} if side else config, name)
    if getattr(segmenter, "module", None) is None:
        with pytest.raises(measure.NotCountable, match="not a torch model"):
            measure.count_episode(segmenter, Replay(segmenter, compose([sample()], 1, 128, 1)), 0)
        return
    segmenter.module.requires_grad_(False)  # torch's counter follows gradients, and trips over those switched off
    replay = Replay(segmenter, compose([sample()], 1, 128, 1), "truth")
    replay.record()
    counted = [found["total"].macs for _, found in measure.count_episode(segmenter, replay, 0)]
    episode = replay.episodes[0]
    kept = []
    expected = [reference_macs(lambda: kept.append(segmenter.encode(episode.image)))]
    session = segmenter.start(kept[0])
    for k, click in enumerate(replay.clicks[0]):
        if k:
            replay.prepare(session, episode, k)
        expected.append(reference_macs(lambda click=click: session.click(click)))
    assert counted == pytest.approx(expected, rel=0.01)
    # Systems of RITM's family keep nothing of the image but its pixels.
    assert min(counted[1:]) > 0 and (counted[0] > 0) == (not name.startswith(PIXELS_ONLY))


@settings(max_examples=15, deadline=None)
@given(
    share=st.floats(0, 1), seed=st.integers(0, 99), kind=st.sampled_from(["on", "full", "bsq", "vq"]),
    hmoe=st.sampled_from(["on", "shared", "dense"]),
)  # fmt: skip
def test_routing_changes_the_count_as_the_closed_form_says(share, seed, kind, hmoe):
    from inter2former.config import make_config
    from inter2former.model import Block

    config = make_config("lite", dha=kind, hmoe=hmoe)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    h, w = int(rng.integers(3, 9)), int(rng.integers(3, 9))
    tokens = torch.randn(h * w, config.dim)
    boundary = torch.from_numpy(np.flatnonzero(rng.random(h * w) < share))
    block = Block(config).eval()
    rows = [boundary]
    with torch.no_grad():
        block(tokens[None], (h, w), rows)  # fills what is derived from weights once
        parts = {"attention": block.attention, "experts": block.ffn}
        found = count(lambda: block(tokens[None], (h, w), rows), block, parts)
    n = len(boundary)
    # With few boundary tokens all attend to codes, and those few are overwritten: cheaper than gathering the rest.
    coarse = h * w if kind != "on" or 2 * n < h * w else h * w - n
    sizes = (config.dim, config.head_dim, config.code_bits, kind, coarse, True)
    # 1 %: packing the bits into a code may be a product, too.
    assert found["attention"].macs == pytest.approx(formulas.hybrid_attention(h * w, n, *sizes), rel=0.01)
    assert found["experts"].macs == formulas.mixture(h * w, n, config.dim, config.hidden, config.experts, hmoe, True)


@pytest.mark.parametrize(("box_h", "box_w"), [(4, 6), (2, 3)])
def test_box_size_changes_dpe_and_dlu_as_the_closed_form_says(box_h, box_w):
    """Plain forms, which run with gradients enabled; the fast forms at inference get the same by other products."""
    from inter2former.build import build as build_model
    from inter2former.config import make_config
    from inter2former.label_tokens import Box

    config = make_config("lite")
    model, _ = build_model(config)
    h, w = 4, 6
    with torch.enable_grad():
        label = np.full((16 * h, 16 * w), 2, np.uint8)
        box = Box(0, 0, box_w, box_h)
        tokens = torch.randn(h * w, config.dim)
        dpe = count(lambda: model.neck.dpe(tokens, label, box), model.neck.dpe)["total"].macs
        edges = [torch.randn(1, c, h * 2**j, w * 2**j) for j, c in enumerate(config.head, start=1)]
        x = tokens.t().reshape(1, -1, h, w)
        dlu = count(lambda: model.decode_head.crop(x, edges, box), model.decode_head)["total"].macs
    background = formulas.prompt_stem(48, 48, config.stem, config.label_dim)
    stem = formulas.prompt_stem(16 * box_h, 16 * box_w, config.stem, config.label_dim)
    assert dpe == stem + background
    assert dlu == formulas.upsampling(box_h * box_w, config.head)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 20, 21])
def test_counted_clicks_stand_for_the_whole_episode(length):
    """Every later click is stood for by the nearest counted one, so that a cost linear between them has a fair mean."""
    stands = measure.counted_clicks(length)
    assert sum(stands.values()) == length and stands[1] == 1 and length in stands
    if length <= 3:
        assert set(stands.values()) == {1}
