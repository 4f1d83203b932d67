"""Episodes of the released model under the weight rule, replayed step by step as the manifest says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from goldens import cases, load, tolerance
from models import rule_model

from inter2former.inputs import prepare
from inter2former.label_map import add_clicks, add_prediction, new_label_map
from inter2former.segmenter import Inter2FormerSegmenter, Session


class Click(NamedTuple):
    y: int
    x: int
    positive: bool


UNSURE = 1e-3
"""Predictions may differ where the logit is smaller (manifest)."""


def segmenter_for(entry) -> Inter2FormerSegmenter:
    segmenter = Inter2FormerSegmenter.__new__(Inter2FormerSegmenter)
    segmenter.model = rule_model(entry["meta"]["uncertainty"])
    segmenter.config, segmenter.keep_trace = segmenter.model.config, True
    segmenter.channels, segmenter.target_size = "rgb", entry["meta"]["target_size"]
    return segmenter


@pytest.mark.parametrize("entry", cases("h_episode"))
def test_episode_golden(entry) -> None:
    tensors, meta = load(entry), entry["meta"]
    segmenter = segmenter_for(entry)
    embedding = segmenter.encode(tensors["image_u8"].numpy())
    atol, rtol = tolerance(entry)
    gt = tensors["gt"].numpy()
    for step, (y, x, sign) in enumerate(meta["clicks"]):
        session: Session = segmenter.start(embedding)
        session.label[...] = tensors[f"ref_label_before_{step}"][0, 0].numpy()
        before = session.label.copy()
        # The stored label map holds the click already; writing it again changes nothing.
        scores = session.click(Click(y, x, sign == "positive"))
        golden = tensors[f"logits_{step}_sub"].numpy()
        np.testing.assert_allclose(scores[::2, ::2], golden, atol=atol, rtol=rtol)
        prediction = tensors[f"pred_{step}"].numpy() == 1
        differs = (scores > 0) != prediction
        assert not (differs & (np.abs(scores) >= UNSURE)).any()
        assert int(session.trace["boundary"].sum()) == meta["boundary_tokens"][step]
        intersection, union = ((scores > 0) & (gt == 1)).sum(), ((scores > 0) | (gt == 1)).sum()
        assert intersection / union == pytest.approx(meta["iou"][step], abs=1e-3)
        assert np.array_equal(before[before == 0], session.label[before == 0])


@pytest.mark.parametrize("entry", cases("h_episode"))
def test_episode_golden_coarse_mask(entry) -> None:
    tensors = load(entry)
    model = rule_model(entry["meta"]["uncertainty"])
    image, _ = prepare(tensors["image_u8"].numpy(), target_size=entry["meta"]["target_size"])
    atol, rtol = tolerance(entry)
    with torch.no_grad():
        state = model.encode(image)
        for step in range(len(entry["meta"]["clicks"])):
            label = tensors[f"ref_label_before_{step}"][0, 0].numpy()
            tokens, _, _ = model.neck(state.tokens, state.grid, [label])
            coarse = model.decode_head.coarse(tokens.transpose(1, 2).unflatten(2, state.grid))
            torch.testing.assert_close(coarse, tensors[f"coarse_{step}"], atol=atol, rtol=rtol)


@pytest.mark.parametrize("entry", cases("h_episode"))
def test_episode_golden_label_maps(entry) -> None:
    """From one stored label map, by our logits and the next click, to the next stored map."""
    tensors, meta = load(entry), entry["meta"]
    model = rule_model(meta["uncertainty"])
    image, frame = prepare(tensors["image_u8"].numpy(), target_size=meta["target_size"])
    label = new_label_map(*frame.input_size)
    unsure = np.zeros(label.shape, bool)
    with torch.no_grad():
        state = model.encode(image)
        for step, (y, x, sign) in enumerate(meta["clicks"]):
            row, column = frame.to_input(y, x)
            add_clicks(label, [Click(row, column, sign == "positive")])
            stored = tensors[f"ref_label_before_{step}"][0, 0].numpy()
            assert not ((label != stored) & ~unsure).any()
            label = stored.copy()
            logits = model.decode(state, label)[0, 0].numpy()
            unsure = np.abs(logits) < UNSURE
            add_prediction(label, logits > 0)
