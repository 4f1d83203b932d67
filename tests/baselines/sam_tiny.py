"""SAM and SAM-HQ on an image encoder of three narrow blocks, for tests that hold at any size."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from baselines import sam

SIZE = 128
DEPTH = 3
CLICKS = [(30, 60, True), (10, 12, False), (50, 70, True), None]
KINDS = [sam.Sam, sam.SamHQ]


TINY = sam.Architecture(32, DEPTH, 2, (0, 2))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(sam.ARCHITECTURES, "tiny", TINY)


def picture(height=61, width=87, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def answers(segmenter, image, clicks=CLICKS):
    session = segmenter.start(segmenter.encode(image))
    return [session.click(click) for click in clicks]


def official_name(key: str) -> str:
    """The released name of an entry of ours: only the image encoder's differ."""
    for ours, released in (
        (r"^vision_encoder\.layers\.(\d+)\.layer_norm", r"vision_encoder.blocks.\1.norm"),
        (r"^vision_encoder\.layers", "vision_encoder.blocks"),
        (r"patch_embed\.projection", "patch_embed.proj"),
        (r"neck\.conv1", "neck.0"),
        (r"neck\.layer_norm1", "neck.1"),
        (r"neck\.conv2", "neck.2"),
        (r"neck\.layer_norm2", "neck.3"),
        (r"^vision_encoder", "image_encoder"),
    ):
        key = re.sub(ours, released, key)
    return key


def official_state(segmenter) -> dict[str, torch.Tensor]:
    return {official_name(key): value.clone() for key, value in segmenter.module.state_dict().items()}
