"""CannyNet: goldens (the 1024-pixel one shows the GroupNorm trap), float64 transcription, and the fast path."""

from __future__ import annotations

import copy

import pytest
import torch
from goldens import assert_close, cases, load, network_input, rule_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transcriptions import canny, canny_net

from inter2former.convolution import MIN_WINOGRAD_CHANNELS, can_reuse_memory
from inter2former.edges import CannyNet, NormSiLU, stack_maps
from inter2former.winograd import Winograd, transform_kernel, transforms

MAPS = ("grad_mag", "grad_ori", "thin", "thresh", "early")
LARGE_STRIDES = ((16, 4), (4, 8), (1, 16), (1, 32))
"""Channel and pixel strides of the sub-sampled maps in z_large (its manifest entry, meta.strides)."""


@pytest.fixture(scope="module")
def released() -> CannyNet:
    net = CannyNet().eval()
    net.load_state_dict(rule_state_dict("edge_detector."))
    return net


def random_net(widths=(16, 8, 6, 4), blocks=2, seed=0) -> CannyNet:
    """A small detector with every parameter random, output layers included."""
    net = CannyNet(widths, blocks).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        if parameter.requires_grad:
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return net


def photo(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth random image in the normalised range, with hard borders."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, 3, height, width, generator=generator)
    image = F.avg_pool2d(F.pad(noise, (2, 2, 2, 2), mode="replicate"), 5, stride=1) * 3
    image[:, :, height // 3 :, width // 2 :] += 1.5
    return image


@pytest.mark.parametrize("entry", cases("a_"))
def test_canny_golden(entry, released):
    tensors = load(entry)
    x = network_input(tensors["image_u8"])
    with torch.no_grad():
        maps, edges = released.canny(x), released(x)
    stack = stack_maps(maps)
    assert_close(released.canny.blur(x), tensors["blurred"], entry, "blurred")
    for name, found in zip(MAPS, maps, strict=True):
        differ = (found[:, None] - tensors[name]).abs() > entry["tolerance"]["float_atol"]
        # The manifest's note: orientation may differ in up to 2e-4 of the pixels, thinned maps there.
        allowed = 0.0 if name in ("grad_mag", "early") else 2e-4
        assert differ.float().mean().item() <= allowed, name
    assert_close(stack[:, :, ::4, ::4], tensors["normalised_stack_sub"], entry, "stack")
    assert_close(stack.mean((2, 3)), tensors["normalised_stack_ch_mean"], entry, "stack mean")
    for index, found in enumerate(edges):
        assert_close(found, tensors[f"edge_map_{index}"], entry, f"edge map {index}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("entry", cases("z_"))
def test_large_edge_maps_golden(entry, threads, released):
    tensors = load(entry)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            edges = released(network_input(tensors["image_u8"]))
    finally:
        torch.set_num_threads(before)
    for index, (found, (channels, pixels)) in enumerate(zip(edges, LARGE_STRIDES, strict=True)):
        name = f"edge_map_{index}_sub"
        assert_close(found[:, ::channels, ::pixels, ::pixels], tensors[name], entry, name)


def test_parameters_agree_with_the_specification(released):
    # Header of the specification: 5,269,360, of them 100 fixed filter taps.
    assert sum(p.numel() for p in released.parameters()) == 5_269_360
    assert sum(p.numel() for p in released.parameters() if not p.requires_grad) == 100
    assert all(p.requires_grad == (".canny." not in f".{name}") for name, p in released.named_parameters())


def test_a_fresh_detector_adds_nothing():
    # Section 6: lateral convolutions start at zero.
    with torch.no_grad():
        assert all((edge == 0).all() for edge in CannyNet((16, 8, 6, 4), 1)(photo(1, 32, 40)))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 2))
def test_equals_float64_transcription(rows, columns, batch):
    net, image = random_net().double(), photo(batch, 8 * rows, 8 * columns, seed=rows).double()
    # In float64 rounding moves no pixel to another octant, except where both gradients vanish.
    with torch.no_grad():
        expected = canny_net(image, dict(net.state_dict()))
        for found, wanted in zip(net(image), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("height,width", [(8, 8), (40, 24), (136, 200), (256, 128)])
@pytest.mark.parametrize("widths", [(16, 8, 6, 4), (MIN_WINOGRAD_CHANNELS, 32, 8, 4)])
def test_buffers_and_winograd_equal_the_plain_path(height, width, widths):
    net, image = random_net(widths, blocks=2), photo(2, height, width)
    plain = [edge.detach() for edge in net(image)]
    with torch.no_grad():
        assert can_reuse_memory(image), "the fast path is not taken on this machine"
        for found, wanted in zip(net(image), plain, strict=True):
            torch.testing.assert_close(found, wanted, atol=5e-5, rtol=1e-4)


def test_float32_network_is_near_float64_on_a_million_pixels():
    # Own statistics: 3e-5 off here; nn.GroupNorm on channels-last maps would be 0.1 to 0.3 off (section 9.15).
    net, image = random_net((16, 8, 6, 4), blocks=4), photo(1, 1024, 1024)
    with torch.no_grad():
        stack = stack_maps(net.canny(image))
        exact = canny_net(image, {k: v.double() for k, v in net.state_dict().items()}, stack.double())
        for found, wanted in zip(net(image), exact, strict=True):
            assert (found - wanted).abs().max() < 1e-4


def test_norm_keeps_its_digits_far_from_zero():
    norm = NormSiLU(4)
    x = (1000.0 + torch.randn(1, 4, 512, 512)).contiguous(memory_format=torch.channels_last)
    exact = F.silu(F.group_norm(x.double(), 1))
    with torch.no_grad():
        # A value of 1000 is known to 6e-5; the deviation is 1.
        assert (norm(x) - exact).abs().max() < 2e-4
        assert (norm(x, out=x) - exact).abs().max() < 2e-4


def test_norm_of_a_constant_is_finite():
    with torch.no_grad():
        assert torch.isfinite(NormSiLU(4)(torch.full((1, 4, 16, 16), 3.0))).all()


@pytest.mark.parametrize("fill", [-2.0, 0.0, 5.0])
def test_flat_images_give_finite_maps(fill):
    with torch.no_grad():
        assert all(torch.isfinite(edge).all() for edge in random_net()(torch.full((1, 3, 64, 48), fill)))


def test_canny_equals_transcription_bit_by_bit(released):
    # The order of the sums decides octants within rounding; the transcription uses PyTorch's convolutions.
    image = photo(1, 200, 312)
    expected = canny(image, dict(released.state_dict()))
    for name, found in zip(MAPS, released.canny(image), strict=True):
        share = (found[:, None] - expected[name]).abs().gt(1e-4).float().mean().item()
        assert share <= 2e-4, name


def test_gradients_are_finite_and_reach_everything():
    net = random_net()
    sum(edge.square().sum() for edge in net(photo(2, 40, 56))).backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


def test_changed_kernels_are_noticed_and_copies_work():
    net, image = random_net((MIN_WINOGRAD_CHANNELS, 8, 6, 4), blocks=1), photo(1, 64, 64)
    with torch.no_grad():
        before = net(image)[0]
        net.block_list[3][0].conv1.weight.mul_(1.5)
        after = net(image)[0]
        assert (after - before).abs().max() > 1e-3
        assert torch.equal(copy.deepcopy(net)(image)[0], after)


def test_operator_counters_see_direct_convolutions():
    # Closed form: nine products per weight and pixel for each 3x3 layer, one for each 1x1; filters of Canny left out.
    net, side = random_net((MIN_WINOGRAD_CHANNELS, 8, 6, 4), blocks=1), 64
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(photo(1, side, side))
    levels, products = (4, 6, 8, MIN_WINOGRAD_CHANNELS), 9 * 5 * 4 * side**2
    for level, width in enumerate(levels):
        pixels = (side >> level) ** 2
        products += pixels * (2 * 9 * width**2 + width**2)
        products += pixels * 9 * levels[level - 1] * width if level else 0
    assert counter.get_total_flops() == 2 * products


def test_winograd_transforms_are_exact():
    # F(4, 3) in float64: four outputs of a three-tap correlation over six inputs.
    output, kernel, data = transforms()
    d, g = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    found = torch.from_numpy(output) @ ((torch.from_numpy(kernel) @ g) * (torch.from_numpy(data) @ d))
    torch.testing.assert_close(found, F.conv1d(d.view(1, 1, 6), g.view(1, 1, 3)).flatten(), atol=1e-12, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.booleans())
def test_winograd_equals_the_direct_sum(height, width, add):
    generator = torch.Generator().manual_seed(height * 100 + width)
    x, out = (torch.randn(2, height, width, 8, generator=generator) for _ in range(2))
    weight, bias = torch.randn(8, 8, 3, 3, generator=generator) / 8, torch.randn(8, generator=generator)
    expected = F.conv2d(x.permute(0, 3, 1, 2).double(), weight.double(), bias.double(), padding=1).permute(0, 2, 3, 1)
    expected = expected + out if add else expected
    Winograd(height, width, 8).convolve(x, transform_kernel(weight), bias, out, add)
    torch.testing.assert_close(out, expected.float(), atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 8"):
        CannyNet((8, 8, 8, 8), 1)(torch.zeros(shape))
