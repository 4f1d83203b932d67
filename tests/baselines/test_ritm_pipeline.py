"""RITM's pipeline against goldens of the released code, and what the zoom-in does when the last answer is empty."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from goldens import BASELINE_GOLDENS, assert_close
from goldens_baselines import fill, unpack

from baselines import _zoom
from baselines.ritm import Ritm, Session


def _forced(height: int, width: int, region: list[int], inside: float, outside: float) -> torch.Tensor:
    previous = torch.full((1, 1, height, width), outside)
    top, bottom, left, right = region
    previous[:, :, top : bottom + 1, left : right + 1] = inside
    return previous


def _segmenter(entry: dict[str, Any], **more: Any) -> Ritm:
    meta = entry["meta"]
    names = ("target_size", "min_crop", "expansion", "flip", "zoom_in")
    segmenter = Ritm(**{name: meta[name] for name in names}, **more)
    fill(segmenter.module, "ritm")
    return segmenter


class _Watched:
    """A session's steps with what went into the network and what came out of its parts."""

    def __init__(self, segmenter: Ritm, entry: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        self.image: list[torch.Tensor] = []
        self.maps: list[torch.Tensor] = []
        self.logits: list[torch.Tensor] = []
        self.regions: list[_zoom.Region | None] = []
        self.answers: list[torch.Tensor] = []
        self.parts: dict[str, list[torch.Tensor]] = {}
        handles = self._watch(segmenter.module)
        session = segmenter.start(segmenter.encode(tensors["image_u8"].numpy()))
        for step, click in enumerate(tensors["clicks"].tolist()):
            self._force(session, entry["meta"].get("forced_previous", {}).get(str(step)))
            answer = session.click((click[0], click[1], click[2] == 1))
            self.regions.append(session.region)
            self.answers.append(torch.from_numpy(answer)[None, None])
        for handle in handles:
            handle.remove()

    @staticmethod
    def _force(session: Session, forced: dict[str, Any] | None) -> None:
        if forced:
            session.previous = _forced(*session.image.shape[2:], **forced)

    def _watch(self, module: torch.nn.Module) -> list[Any]:
        def network(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.image.append(inputs[0])
            self.maps.append(inputs[1])
            self.logits.append(output)

        def keep(name: str) -> Any:
            def hook(_: Any, __: Any, output: Any) -> None:
                for branch, x in enumerate(output if isinstance(output, list) else [output]):
                    self.parts.setdefault(f"{name}_{branch}" if isinstance(output, list) else name, []).append(x)

            return hook

        extractor = module.get_submodule("feature_extractor")
        named = {"maps_transform": module.get_submodule("maps_transform")}
        names = ("layer1", "stage2", "stage3", "stage4", "aux_head", "conv3x3_ocr", "ocr_distri_head", "cls_head")
        named |= {name: extractor.get_submodule(name) for name in names}
        handles = [part.register_forward_hook(keep(name)) for name, part in named.items()]
        stem = extractor.get_submodule("conv2")
        handles.append(
            stem.register_forward_hook(lambda _, inputs, __: keep("stem_with_clicks")(None, None, inputs[0]))
        )
        return [*handles, module.register_forward_hook(network)]


@cache
def _run(file: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], _Watched]:
    entry = next(e for e in BASELINE_GOLDENS.manifest()["files"] if e["file"] == file)
    tensors = BASELINE_GOLDENS.load(entry)
    return entry, tensors, _Watched(_segmenter(entry), entry, tensors)


GOLDEN = pytest.mark.parametrize("entry", BASELINE_GOLDENS.cases("ritm"))


@GOLDEN
def test_golden_regions_and_network_sizes(entry):
    entry, tensors, run = _run(entry["file"])
    regions = [(-1, -1, -1, -1) if region is None else region for region in run.regions]
    assert regions == [tuple(region) for region in tensors["regions"].tolist()]
    assert [list(image.shape[2:]) for image in run.image] == tensors["network_sizes"].tolist()
    full = list(tensors["image_u8"].shape[:2])
    for size, cropped in zip(tensors["network_sizes"].tolist(), tensors["crop_used"].tolist(), strict=True):
        assert cropped or size == full


@GOLDEN
def test_golden_network_at_the_first_click(entry):
    entry, tensors, run = _run(entry["file"])
    names = [name for name in tensors if name.startswith("step0_") and name.endswith("_ch_mean")]
    assert len(names) == 16
    for name in names:
        part = run.parts[name.removeprefix("step0_").removesuffix("_ch_mean")][0]
        assert_close(part.mean((2, 3)), tensors[name], entry, name)
    auxiliary = _zoom.bilinear(run.parts["aux_head"][0], *run.image[0].shape[2:], align_corners=True)
    loose = {**entry, "tolerance": {**entry["tolerance"], "float_atol": entry["tolerance"]["float_atol_logits"]}}
    assert_close(auxiliary[:, :, 3::4, 3::4], tensors["step0_aux_logits_sub"], loose, "step0_aux_logits_sub")


@GOLDEN
def test_golden_inputs_logits_and_answers_of_every_step(entry):
    entry, tensors, run = _run(entry["file"])
    height, width = tensors["image_u8"].shape[:2]
    loose = {**entry, "tolerance": {**entry["tolerance"], "float_atol": entry["tolerance"]["float_atol_logits"]}}
    for step, answer in enumerate(run.answers):
        name = f"step{step}_"
        assert_close(
            run.maps[step][:, :1, 3::4, 3::4], tensors[name + "input_prev_sub"], entry, name + "input_prev_sub"
        )
        assert_close(run.logits[step][:, :, 3::4, 3::4], tensors[name + "logits_sub"], loose, name + "logits_sub")
        assert_close(answer[:, :, 1::3, 1::3], tensors[name + "prob_sub"], entry, name + "prob_sub")
        mask = unpack(tensors[name + "mask_packed"], height, width)[0].reshape(height, width)
        near = np.abs(answer[0, 0].numpy() - 0.49) < entry["tolerance"]["float_atol"]
        np.testing.assert_array_equal((answer[0, 0].numpy() > 0.49)[~near], mask[~near] == 1)
        assert near.sum() <= entry["meta"]["near_threshold_pixels"][f"step{step}"]


@GOLDEN
def test_golden_points_give_the_discs_that_the_network_got(entry):
    entry, tensors, run = _run(entry["file"])
    for step, maps in enumerate(run.maps):
        for copy, slots in enumerate(tensors[f"step{step}_points"]):
            half = len(slots) // 2
            points = [(y, x, slot < half) for slot, (y, x, order) in enumerate(slots.tolist()) if order >= 0]
            expected = _zoom.draw_discs(points, *maps.shape[2:])
            torch.testing.assert_close(maps[copy, 1:], expected, atol=0, rtol=0)


@GOLDEN
def test_reset_gives_another_answer_from_the_empty_map_on(entry):
    """ritm_pipeline.md, item 7: up to 0.99 in probability at the step whose last answer is empty."""
    entry, tensors, kept = _run(entry["file"])
    reset = _Watched(_segmenter(entry, empty_zoom="reset"), entry, tensors)
    whole = [not cropped for cropped in tensors["crop_used"].tolist()]
    first = next(step for step, empty in enumerate(whole) if empty and step)
    for step in range(first):
        torch.testing.assert_close(reset.answers[step], kept.answers[step], atol=0, rtol=0)
    assert reset.regions[first] is None and kept.regions[first] == kept.regions[first - 1]
    # Both saw the whole image; only what becomes of the answer differs.
    torch.testing.assert_close(reset.logits[first], kept.logits[first], atol=0, rtol=0)
    assert (reset.answers[first] - kept.answers[first]).abs().max() > 0.9


class Spots(torch.nn.Module):
    """Answers 0.75 around the clicks and `floor` elsewhere."""

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, image: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        near = torch.nn.functional.max_pool2d(maps[:, 1:2], 21, 1, 10)
        return torch.logit(self.floor + (0.75 - self.floor) * near)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("empty_zoom", ["keep", "reset"])
def test_what_becomes_of_the_region_when_the_last_answer_is_empty(empty_zoom, flip):
    segmenter = Ritm(flip=flip, target_size=96, min_crop=40, empty_zoom=empty_zoom)
    segmenter.module = Spots(0.25)
    session = segmenter.start(segmenter.encode(np.zeros((120, 160, 3), np.uint8)))
    session.click((60, 80, True))
    session.click((62, 82, True))
    held = session.region
    assert held is not None
    session.previous = torch.full((1, 1, 120, 160), 0.5)  # exactly 0.5 is no object
    whole = segmenter.module(session.image, _zoom.click_maps(session.previous, [*session.points, (5, 5, False)], False))
    answer = session.click((5, 5, False))
    whole = torch.sigmoid(whole)
    if empty_zoom == "reset":
        assert session.region is None
        np.testing.assert_allclose(answer, whole[0, 0].numpy(), atol=1e-6)
        return
    assert session.region == held
    top, bottom, left, right = held
    inner = torch.nn.functional.interpolate(
        whole, (bottom - top + 1, right - left + 1), mode="bilinear", align_corners=True
    )
    np.testing.assert_allclose(answer[top : bottom + 1, left : right + 1], inner[0, 0].numpy(), atol=1e-6)
    outside = np.ones_like(answer, dtype=bool)
    outside[top : bottom + 1, left : right + 1] = False
    assert not answer[outside].any() and answer.any()


def test_an_empty_answer_before_any_zoom_leaves_the_whole_image():
    segmenter = Ritm(flip=False, target_size=96)
    segmenter.module = Spots(0.25)
    session = segmenter.start(segmenter.encode(np.zeros((120, 160, 3), np.uint8)))
    session.click((60, 80, False))  # a negative click draws no spot: everything is 0.25
    answer = session.click((20, 20, False))
    assert session.region is None
    np.testing.assert_allclose(answer, 0.25, atol=1e-6)


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="empty_zoom='drop': choose keep or reset"):
        Ritm(empty_zoom="drop")


def test_a_point_with_two_negative_coordinates_is_an_empty_slot():
    """simpleclick.md 1.2: one negative coordinate still draws the visible part of a disc."""
    assert not _zoom.draw_discs([(-1.0, -1.0, True)], 20, 20).any()
    assert _zoom.draw_discs([(-1.0, 8.0, True)], 20, 20)[0].any()


def test_the_image_is_cut_and_normalised_once_while_the_region_stays():
    segmenter = Ritm(flip=False, target_size=96, min_crop=100)
    segmenter.module = Spots(0.1)
    session = segmenter.start(segmenter.encode(np.zeros((200, 300, 3), np.uint8)))
    seen = []
    segmenter.module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    for click in [(100, 150, True), (102, 152, True), (104, 150, False), (103, 151, False)]:
        session.click(click)
    assert seen[1] is seen[2] is seen[3] and seen[0] is not seen[1]
    black = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])  # ImageNet's, as published
    for image in seen[:2]:
        torch.testing.assert_close(image, black[None, :, None, None].expand_as(image), atol=1e-6, rtol=0)
