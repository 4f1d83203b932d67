"""HRSAM and HRSAM++ against the goldens of the official code, and the identities behind their scan and windows."""

from __future__ import annotations

import pytest
import torch
from goldens import BASELINE_GOLDENS, assert_close, network_input, seeded_normal
from goldens_baselines import fill, layouts, subsample
from torch.nn import functional as F

from baselines._hrsam_windows import WindowAttention, window_cells
from baselines._scan import ScanBlock, cycle_scan
from baselines.hrsam import HRSAM, Frame, HRSAMNet
from inter2former.encoders.hrsam import window_rotations


@pytest.fixture(scope="module")
def filled():
    kept: dict = {}

    def get(variant: str) -> HRSAMNet:
        if variant not in kept:
            kept.clear()
            kept[variant] = HRSAM(variant).module
            fill(kept[variant], "hrsam")
        return kept[variant]

    return get


@pytest.mark.parametrize("entry", BASELINE_GOLDENS.cases("hrsam"))
@torch.inference_mode()
def test_hrsam_golden(entry, filled):
    golden = BASELINE_GOLDENS.load(entry)
    net = filled(entry["model"])

    def check(actual: torch.Tensor, name: str) -> None:
        if name in golden:
            assert_close(subsample(actual, entry, name), golden[name], entry, name)

    if "image_u8" in golden:
        trace: dict[str, torch.Tensor] = {}
        image = net.backbone(network_input(golden["image_u8"]), trace)
        for name, tokens in trace.items():
            check(tokens[0], f"{name}_sub")
        assert sum(f"{name}_sub" in golden for name in trace) == sum(
            key.startswith(("block", "mamba", "ms_mamba")) for key in golden
        )
    else:
        image = seeded_normal(entry["meta"]["seed"], golden["image_embeds"].shape)
    check(image, "image_embeds")
    h, w = image.shape[2:]
    code = net.neck.grid_code(h, w)
    check(code, "image_pos_embeds_sub")
    previous = None
    for step in range(len(golden["clicks"])):
        clicks = golden["clicks"][: step + 1]
        points, kinds = clicks[None, :, :2].float(), clicks[None, :, 2]
        sparse = net.neck.sparse(points, kinds, (16 * h, 16 * w))
        assert_close(sparse, golden[f"sparse_embeds_{step}"], entry, f"sparse_embeds_{step}")
        check(net.neck.dense(previous, 1, h, w), f"dense_embeds_sub_{step}")
        masks, quality = net.decode(image, code, points, kinds, previous)
        check(masks, f"masks_{step}")
        assert_close(quality, golden[f"iou_pred_{step}"], entry, f"iou_pred_{step}")
        previous = masks[:, :1]
        logits = F.interpolate(previous, (16 * h, 16 * w), mode="bilinear", align_corners=False)
        check(logits, f"logits_sub_{step}")


def test_released_layout_golden_names_and_shapes():
    for variant, layout in layouts("hrsam").items():
        with torch.device("meta"):
            net = HRSAMNet(variant == "hrsam_plusplus")
        own = {key: list(value.shape) for key, value in net.state_dict().items()}
        assert own == {key: shape for key, shape, _ in layout["state_dict"]}
        parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
        assert parameters == {name: layout["parameters"][name] for name in parameters}
        assert sum(parameters.values()) == layout["parameters"]["total"]


@pytest.mark.parametrize("length", [1, 7, 64, 150])
def test_cycle_scan_equals_the_plain_recurrence(length):
    """Slow reference: the recurrence of specification 2 over the sequence repeated three times, in float64."""
    generator = torch.Generator().manual_seed(length)
    batch, channels, states, cycles = 2, 3, 4, 3
    x = torch.randn(batch, length, channels, generator=generator)
    dt = F.softplus(torch.randn(batch, length, channels, generator=generator))
    write, read = torch.randn(2, batch, length, states, generator=generator)
    rate = torch.rand(channels, states, generator=generator) + 0.01
    gamma = torch.randn(channels, cycles, generator=generator)
    expected = torch.zeros(batch, length, channels, dtype=torch.float64)
    state = torch.zeros(batch, channels, states, dtype=torch.float64)
    for cycle in range(cycles):
        for t in range(length):
            decay = torch.exp(-dt[:, t, :, None].double() * rate)
            state = decay * state + (dt * x)[:, t, :, None].double() * write[:, t, None, :]
            expected[:, t] += gamma[:, cycle] * (state * read[:, t, None, :]).sum(-1)
    actual = cycle_scan(x, dt, write, read, rate, gamma)
    torch.testing.assert_close(actual.double(), expected, atol=2e-5, rtol=1e-5)


def test_scan_block_scans_each_length_on_its_own():
    torch.manual_seed(0)
    block = ScanBlock(8).eval().requires_grad_(False)
    x = torch.randn(1, 12, 8)
    alone = torch.cat([block(x[:, :5], (5,)), block(x[:, 5:], (7,))], dim=1)
    torch.testing.assert_close(block(x, (5, 7)), alone)
    assert (block(x, (12,))[:, :5] - alone[:, :5]).abs().max() > 1e-4


@pytest.mark.parametrize("odd", [False, True])
def test_windows_pad_before_odd_blocks_whatever_the_size(odd):
    """Specification 2: 8 rows and columns before, also for grids of one window; then full windows."""
    cells = window_cells(2, ((20, 5), (16, 16)), odd)
    side = {False: (2 * 1, 1 * 1), True: (2 * 1, 2 * 2)}[odd]
    assert cells.token.numel() == 2 * sum(side) * 256
    tokens = 2 * (100 + 256)
    assert (cells.token[cells.cell] == torch.arange(tokens)).all()
    assert (cells.token == tokens).sum() == cells.token.numel() - tokens
    assert int(cells.cell[0]) == (8 * 16 + 8 if odd else 0)


def test_skipping_padded_cells_changes_nothing():
    torch.manual_seed(1)
    full = WindowAttention(skip_padded=False).requires_grad_(False)
    full.padding.normal_()
    lean = WindowAttention(skip_padded=True).requires_grad_(False)
    lean.load_state_dict(full.state_dict())
    cells = window_cells(1, ((10, 20),), True)
    x = torch.randn(200, 768)
    rotations = window_rotations(10000.0 ** (-torch.arange(0, 32, 2).float() / 32), 12, torch.float32)
    torch.testing.assert_close(lean(x, cells, rotations, x), full(x, cells, rotations, x), atol=2e-5, rtol=1e-5)


def test_frame_of_the_specification():
    """Section 4: pad to multiples of 32, longer side to the size, int(size / longest * side + 0.5)."""
    assert Frame.of(375, 500, 1024) == Frame(375, 500, (384, 512), (768, 1024))
    assert Frame.of(480, 854, 1024) == Frame(480, 854, (480, 864), (569, 1024))
