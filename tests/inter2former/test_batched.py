"""The batched training forms compute what the model computes as it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from inter2former import batched
from inter2former.build import build
from inter2former.config import make_config
from inter2former.label_map import add_clicks, add_prediction, new_label_map
from inter2former.model import Inter2Former
from inter2former.segmenter import Point

VARIANTS: list[dict[str, Any]] = [
    {},
    {"dpe": "off"},
    {"dha": "full"},
    {"dha": "bsq"},
    {"dha": "vq"},
    {"hmoe": "dense"},
    {"hmoe": "shared"},
    {"routing": "executed"},
]


def model_of(switches: dict[str, Any]) -> Inter2Former:
    model, _ = build(make_config("lite", **switches), seed=4)
    torch.manual_seed(5)
    for lateral in model.edge_detector.lateral_convs:  # zero at the start, which would hide the edge maps
        torch.nn.init.normal_(lateral.weight, std=0.3)
        torch.nn.init.normal_(lateral.bias, std=0.3)
    for block in model.neck.blocks:
        if hasattr(block.ffn, "steps"):
            block.ffn.steps.fill_(10**6)  # balancing is over: both forms choose by the same bias
    return model.train()


def label_maps(height: int, width: int) -> list[np.ndarray]:
    """One map with discs of both signs, settled and open predictions; one with a first click only."""
    later = new_label_map(height, width)
    add_clicks(later, [Point(40, 50, True)])
    prediction = np.zeros((height, width), bool)
    prediction[20:60, 35:75] = True
    add_prediction(later, prediction)
    prediction[50:60, 35:50] = False
    add_prediction(later, prediction)
    add_clicks(later, [Point(8, 70, False)])
    first = new_label_map(height, width)
    add_clicks(first, [Point(30, 30, True)])
    return [later, first]


@pytest.mark.parametrize("switches", VARIANTS, ids=lambda v: "-".join(map(str, v.values())) or "on")
def test_values_and_gradients_are_those_of_the_model_as_written(switches: dict[str, Any]) -> None:
    # Reference: `decode_for_training`, image by image, stage by stage. Tolerance: float32 sums in another order.
    model = model_of(switches)
    image = torch.randn(2, 3, 64, 96)
    labels = label_maps(64, 96)
    target = torch.from_numpy(np.stack(labels) >= 3)[:, None].to(torch.uint8)

    expected = model.decode_for_training(model.encode(image), np.stack(labels)[:, None])
    sum(model.loss(expected, target).values()).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)

    found = batched.decode(model, batched.encode(model, image), labels)
    sum(model.loss(found, target).values()).backward()
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.coarse, expected.coarse, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.vq_loss, expected.vq_loss, rtol=1e-4, atol=1e-7)
    for name, parameter in model.named_parameters():
        if name in gradients:
            assert parameter.grad is not None, name
            scale = gradients[name].abs().max().clamp_min(1e-6)
            torch.testing.assert_close(parameter.grad / scale, gradients[name] / scale, rtol=0, atol=2e-3, msg=name)


def test_half_precision_stays_near(recwarn: pytest.WarningsRecorder) -> None:
    # bfloat16 has 8 bits of mantissa; the head's four stages leave about one per cent.
    model = model_of({})
    image, labels = torch.randn(2, 3, 64, 96), label_maps(64, 96)
    with torch.no_grad():
        exact = batched.decode(model, batched.encode(model, image), labels).logits
        with torch.autocast("cpu", torch.bfloat16):
            half = batched.decode(model, batched.encode(model, image), labels).logits
    assert half.dtype == torch.float32
    assert (half - exact).square().mean().sqrt() < 0.03 * exact.square().mean().sqrt()
