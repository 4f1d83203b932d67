"""FLOP counting: operators, parts and routing against closed forms, every variant against torch's own counter."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import ClassVar

import flop_formulas as formulas
import flop_trace
import numpy as np
import pytest
import torch
from flop_references import reference_macs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from toy_segmenters import Tiny

from harness import cards
from harness.flops import measure
from harness.flops.counter import NotCountable, UnknownOperator, count
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
    attention, few, weight = F.scaled_dot_product_attention, 8 * 13 * 5 * 16, torch.randn(4, 6, 3, 3)
    chosen = torch.arange(13) % 5 == 1  # 3 of 13
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
        "attention by names": (lambda: attention(value=heads[:, :, :5], key=heads[:, :, :5], query=heads), few),
        "masked attention": (lambda: attention(heads, heads[:, :, :5], heads[:, :, :5], torch.ones(13, 5) > 0), few),
        # Values of another width than the keys have no fused kernel: products and a softmax run in its place.
        "attention in pieces": (lambda: attention(heads, heads, heads[..., :3]), 8 * 13 * 13 * (8 + 3)),
        "attention of chosen rows": (
            lambda: attention(heads[:, :, chosen.nonzero()[:, 0]], heads, heads),
            3 * 8 * 13 * 16,
        ),
        "einsum of three": (lambda: torch.einsum("bij,jk,kl->bil", y, z, z.t()), 2 * 2 * 5 * 7 * 3),
        "einsum with dots": (lambda: torch.einsum("...ij,jk->...ik", y[None], z), 2 * 5 * 7 * 3),
        "outer product": (lambda: torch.einsum("i,j->ij", z[:, 0], z[0]), 7 * 3),
        "convolution of one image": (lambda: F.conv2d(x[0], weight, padding=1), 4 * 6 * 9 * 9 * 11),
        "activation": (lambda: F.silu(x).add_(1).sqrt_(), 0),
    }


NOT_BY_TORCH = {"einsum of three", "outer product"}
"""Torch's counter sees the order of products that ran, and none where nothing is summed."""


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", ops())
def test_operators_against_closed_form_torch_and_fvcore(name, inference):
    call, expected = ops()[name]
    module = call.__closure__ and next((c.cell_contents for c in call.__closure__ if name.endswith("convolution")
                                        and isinstance(c.cell_contents, nn.Module)), None)  # fmt: skip
    with torch.inference_mode(inference):
        found = count(call, module)["total"]
    assert found.macs == expected
    if name not in NOT_BY_TORCH:
        assert reference_macs(call) == expected
    assert found == flop_trace.count(call, module)["total"]


def arithmetic():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 8, 12)
    n = x.numel()
    batch, group, instance = nn.BatchNorm2d(6).eval(), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6, affine=True)
    grid = torch.rand(2, 4, 4, 2)
    return {  # (call, module, FLOPs by the table of costs)
        "batch norm": (lambda: batch(x), batch, 2 * n),
        "group norm": (lambda: group(x), group, 5 * n),
        "instance norm": (lambda: instance(x), instance, 5 * n),
        "softmax": (lambda: x.softmax(-1), None, 3 * n),
        "log softmax": (lambda: F.log_softmax(x, 1), None, 3 * n),
        "attention's softmax": (lambda: F.scaled_dot_product_attention(x, x, x[..., :5]), None, 0),
        "vector norm": (lambda: torch.linalg.vector_norm(x, dim=1), None, 2 * n),
        "normalised": (lambda: F.normalize(x, dim=1), None, 2 * n),
        "spread": (lambda: x.std(dim=(2, 3)), None, 3 * n),
        "mean": (lambda: x.mean((2, 3)).sum(), None, n + 12),
        "one number an area": (lambda: F.adaptive_avg_pool2d(x, 1), None, n),
        "several an area": (lambda: F.adaptive_avg_pool2d(x, (2, 3)), None, n),
        "average pooling": (lambda: F.avg_pool2d(x, 2), None, n),
        "bilinear": (lambda: F.interpolate(x, scale_factor=2, mode="bilinear"), None, 8 * 4 * n),
        "sampling": (lambda: F.grid_sample(x, grid, align_corners=False), None, 8 * 2 * 6 * 16),
        "sum into places": (lambda: torch.zeros(3).index_add_(0, torch.tensor([0, 1, 1, 2]), torch.ones(4)), None, 4),
        "chosen rows": (lambda: x[x > 0].cumsum(0), None, int((x > 0).sum())),
    }


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", arithmetic())
def test_arithmetic_agrees_with_the_table_and_with_fvcore(name, inference):
    call, module, expected = arithmetic()[name]
    if module is not None:
        module.requires_grad_(False)  # inference mode outside of the trace
    with torch.inference_mode(inference):
        found = count(call, module)["total"]
    assert found.arithmetic == expected
    assert found == flop_trace.count(call, module)["total"]


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
    with pytest.raises(UnknownOperator, match=r"aten::_linalg_svd.*model\.1.*harness/flops/costs\.py"):
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


def count_episode(segmenter, replay):
    """Counts of the encode and of each click of the first episode."""
    encoded = measure.count_encode(segmenter, replay.episodes[0].image)
    return [encoded.counts, *measure.count_clicks(segmenter, replay, 0, encoded.embedding).values()]


@pytest.mark.parametrize(("name", "side"), variants())
def test_every_variant_agrees_with_fvcore_and_with_torchs_counter(name, side, monkeypatch):
    config = plain(Config().load("variant", name))
    segmenter = build({**config, "size": side} if side else config, name)
    if getattr(segmenter, "module", None) is None:
        with pytest.raises(measure.NotCountable, match="not a torch model"):
            measure.count_encode(segmenter, sample().image)
        return
    if not side:  # position tables grow with the input
        assert segmenter.parameters == cards.load()[name].parameters
    segmenter.module.requires_grad_(False)  # torch's counter follows gradients, and trips over those switched off
    replay = Replay(segmenter, compose([sample()], 1, 128, 1), "truth")
    replay.record()
    episode_counts = count_episode(segmenter, replay)
    counted = [counts["total"].macs for counts in episode_counts]
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
    # Every part, products and other arithmetic and bytes, to the last one.
    monkeypatch.setattr(measure, "count", flop_trace.count)
    assert count_episode(segmenter, replay) == episode_counts


SWITCHES = {
    "dpe": ("on", "off"), "dha": ("on", "full", "bsq", "vq"), "routing": ("intended", "executed"),
    "hmoe": ("on", "shared", "dense"), "dlu": ("on", "off"),
}  # fmt: skip
QUICK_SWITCHES = [
    ("on", "on", "executed", "shared", "off"),
    ("off", "full", "intended", "on", "on"),
    ("on", "bsq", "intended", "dense", "off"),
    ("off", "vq", "intended", "shared", "on"),
]
"""Every value once, with `inter2former_lite` above."""


def combinations():
    for values in itertools.product(*SWITCHES.values()):
        if values[1] != "on" and values[2] == "executed":
            continue  # there is no routing where all tokens are treated alike
        yield pytest.param(values, marks=[] if values in QUICK_SWITCHES else pytest.mark.slow, id="-".join(values))


@pytest.mark.parametrize("values", combinations())
def test_every_combination_of_switches_agrees_with_fvcore(values, monkeypatch):
    config = plain(Config().load("variant", "inter2former_lite"))
    segmenter = build({**config, "weights": None, **dict(zip(SWITCHES, values, strict=True))}, "-".join(values))
    replay = Replay(segmenter, compose([sample()], 1, 128, 1), "truth")
    replay.keep()
    replay.record()
    clicks = measure.count_clicks(segmenter, replay, 0, replay.embeddings[0])
    monkeypatch.setattr(measure, "count", flop_trace.count)
    assert measure.count_clicks(segmenter, replay, 0, replay.embeddings[0]) == clicks
    assert len(clicks) == 2 and all(counts["total"].macs > 0 for counts in clicks.values())


class Shared(Tiny):
    """Counts how often each image is encoded; its attention is as wide as its name says, its encoder always equal."""

    encoded: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, name: str, key: str):
        super().__init__()
        self.name, self.encoder_key = name, key

    def encode(self, image):
        Shared.encoded.append((self.name, image.shape[1]))
        return super().encode(image)


def test_the_encode_is_counted_once_for_all_variants_of_one_encoder():
    """And embeddings of another encoder, or of another size, are not taken for it."""
    Shared.encoded.clear()
    segmenters = {"a": Shared("a", "one"), "b": Shared("b", "one"), "c": Shared("c", "two")}
    options = {"resolutions": [64, 32], "samples": 1, "later_clicks": 1}
    frame = measure.measure(dict.fromkeys(segmenters, {}), [sample()], options, segmenters=segmenters)
    # Once to fill what is kept, once counted, at each size: by the first variant of each encoder.
    assert Counter(Shared.encoded) == {("a", 64): 2, ("a", 32): 2, ("c", 64): 2, ("c", 32): 2}
    rows = frame[(frame["part"] == "total") & (frame["size_bin"] == "all")].set_index(["variant", "resolution", "kind"])
    assert (frame["error"] == "").all() and len(rows) == 3 * 2 * 3
    for resolution in (64, 32):  # one 3 x 3 convolution of 3 to 8 channels with stride 8
        cells = (resolution // 8) * (resolution * 3 // 4 // 8)
        for name in "abc":
            assert rows.loc[(name, resolution, "encode"), "gmacs"] == pytest.approx(cells * 27 * 8 / 1e9)


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
