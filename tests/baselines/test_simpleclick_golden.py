"""SimpleClick against goldens of the released code: network, position table and the whole pipeline click by click."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from goldens import BASELINE_GOLDENS, assert_close
from goldens_baselines import fill, unpack

from baselines import _zoom
from baselines._images import bilinear
from baselines._vit import unwindows
from baselines.simpleclick import SimpleClick

GOLDEN = pytest.mark.parametrize("entry", BASELINE_GOLDENS.cases("simpleclick"))


@cache
def _segmenter(variant: str, weights_model: str, size: int) -> SimpleClick:
    segmenter = SimpleClick(variant, size=size)
    fill(segmenter.module, weights_model)
    return segmenter


def _of(entry: dict[str, Any], size: int) -> SimpleClick:
    return _segmenter(entry["meta"]["variant"], entry["meta"]["weights_model"], size)


def _like(x: torch.Tensor, golden: torch.Tensor) -> torch.Tensor:
    """Every so many-th of each axis, the steps taken from the two shapes."""
    return x[tuple(slice(None, None, -(-size // kept)) for size, kept in zip(x.shape, golden.shape, strict=True))]


def _points(slots: torch.Tensor) -> list[_zoom.Point]:
    half = len(slots) // 2
    return [(y, x, slot < half) for slot, (y, x, order) in enumerate(slots.tolist()) if order >= 0]


@GOLDEN
@pytest.mark.parametrize("number", [0, 1])
def test_golden_network(entry, number):
    tensors = BASELINE_GOLDENS.load(entry)
    size = entry["meta"]["model_size"][0]
    module = _of(entry, size).module
    rgb = bilinear(tensors["image_u8"].permute(2, 0, 1)[None].float() / 255, size, size, align_corners=True)
    previous = torch.zeros(1, 1, size, size)
    if number:
        previous = bilinear(tensors["prev_small"], size, size, align_corners=True)
    maps = _zoom.click_maps(previous, _points(tensors[f"points_{number}"][0]), False)
    np.testing.assert_array_equal(
        maps[0, 1:].flatten(1).numpy(), unpack(tensors[f"disc_packed_{number}"], size, size).reshape(2, -1)
    )

    layout = module.backbone.layout
    side = size // layout.patch
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, __, output: outputs.__setitem__(name, output)

    named = {f"block{k + 1}": block for k, block in enumerate(module.backbone.blocks)}
    named |= {"prompt": module.patch_embed_coords, "tokens": module.backbone, "pyramid": module.neck}
    named["head_logits"] = module.head
    handles = [part.register_forward_hook(keep(name)) for name, part in named.items()]
    with torch.inference_mode():
        logits = module(_zoom.normalise(rgb), maps)
    for handle in handles:
        handle.remove()

    compared = 0
    for name, golden in tensors.items():
        part = name.removesuffix(f"_sub_{number}")
        if part in outputs and part != name:
            x = outputs[part]
            if part.startswith("block"):
                x = unwindows(x, 1, side, layout.window(size))
            x = x if x.ndim == 4 else x.view(1, side, side, -1)
            assert_close(_like(x, golden), golden, entry, name)
            compared += 1
    assert compared >= 5  # the prompt, three blocks or more, the head
    assert_close(outputs["tokens"].mean(0, keepdim=True), tensors[f"tokens_ch_mean_{number}"], entry, "tokens")
    for level, x in enumerate(outputs["pyramid"]):  # type: ignore[arg-type]
        assert_close(x.mean((1, 2)), tensors[f"pyramid_{number}_{level}_ch_mean"], entry, f"pyramid {level}")
    assert_close(_like(logits, tensors[f"logits_sub_{number}"]), tensors[f"logits_sub_{number}"], entry, "logits")
    means = torch.stack([logits.double().mean(), logits.double().abs().mean()])
    assert_close(means, tensors[f"logits_mean_abs_{number}"], entry, "means")


@GOLDEN
def test_golden_position_table_at_672(entry):
    tensors = BASELINE_GOLDENS.load(entry)
    if "davis_pos_embed_sub" not in tensors:
        pytest.skip("this golden has no second size")
    backbone = _of(entry, 672).module.backbone
    table = backbone.positions(672).view(1, 42, 42, -1)
    assert_close(_like(table, tensors["davis_pos_embed_sub"]), tensors["davis_pos_embed_sub"], entry, "table")


def _pipelines() -> list[Any]:
    """(golden, prefix, size); the larger models need more than ten seconds for their clicks."""
    params = []
    for case in BASELINE_GOLDENS.cases("simpleclick"):
        long = case.values[0] and case.values[0]["meta"]["variant"] != "vit_xtiny"
        for prefix, size in (("pipe", 448), ("davis", 672)):
            marks = [*case.marks, *([pytest.mark.slow] if long else [])]
            params.append(pytest.param(case.values[0], prefix, size, id=f"{case.id}-{prefix}", marks=marks))
    return params


@pytest.mark.parametrize(("entry", "prefix", "size"), _pipelines())
def test_golden_pipeline(entry, prefix, size):
    tensors = BASELINE_GOLDENS.load(entry)
    if f"{prefix}_clicks" not in tensors:
        pytest.skip("this golden has no second size")
    segmenter = _of(entry, size)
    height, width = tensors["image_u8"].shape[:2]
    session = segmenter.start(segmenter.encode(tensors["image_u8"].numpy()))
    seen: list[tuple[torch.Tensor, ...]] = []
    handle = segmenter.module.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
    probabilities = {**entry, "tolerance": {**entry["tolerance"], "float_atol": 2e-4}}  # as the manifest's note says
    deviation, mean = torch.tensor(_zoom.STD), torch.tensor(_zoom.MEAN)
    for step, (y, x, positive) in enumerate(tensors[f"{prefix}_clicks"].tolist()):

        def golden(name: str, step: int = step) -> torch.Tensor:
            return tensors[f"{prefix}_{name}_{step}"]

        before = session.region
        answer = torch.from_numpy(session.click((y, x, positive == 1)))
        assert session.region is not None
        assert [*session.region, int(session.region != before)] == golden("roi").tolist()
        image, maps, logits = seen[step]
        rgb = image[0].mean((1, 2), dtype=torch.float64) * deviation + mean
        assert_close(torch.cat([rgb, maps[0, :1].double().mean((1, 2))]), golden("input_mean"), entry, "input_mean")
        sub = golden("input_prev_sub")
        assert_close(_like(maps[:1, :1], sub), sub, probabilities, "input_prev_sub")
        assert maps[:, 1:].sum((2, 3)).tolist() == golden("disc_sums").tolist()
        for copy, slots in enumerate(golden("points")):
            assert torch.equal(maps[copy, 1:], _zoom.draw_discs(_points(slots), size, size))
        sub = golden("logits_sub")
        assert_close(_like(_zoom.mean_logits(logits), sub), sub, entry, "logits_sub")
        assert_close(_like(answer, golden("prob_sub")), golden("prob_sub"), probabilities, "prob_sub")
        assert_close(answer.double().mean()[None], golden("prob_mean"), probabilities, "prob_mean")
        prediction = unpack(golden("pred_packed"), height, width)[0].reshape(height, width)
        near = np.abs(answer.numpy() - segmenter.threshold) < 3e-4
        assert near.mean() < 0.01
        np.testing.assert_array_equal((answer.numpy() > segmenter.threshold)[~near], prediction[~near] == 1)
    handle.remove()
