"""SegNext against the goldens of the official code, and what holds for it at any weights."""

from __future__ import annotations

import pytest
import torch
from goldens import BASELINE_GOLDENS, assert_close
from goldens_baselines import fill, layouts, subsample, unpack

from baselines.segnext import SegNext, SegNextNet, draw_discs, scale_click


@pytest.fixture(scope="module")
def filled():
    """One segmenter per (variant, size), filled by the rule."""
    kept: dict = {}

    def get(variant: str, size: int) -> SegNext:
        if (variant, size) not in kept:
            kept.clear()
            kept[variant, size] = SegNext(variant, size=size)
            fill(kept[variant, size].module, "segnext")
        return kept[variant, size]

    return get


@pytest.mark.parametrize("entry", BASELINE_GOLDENS.cases("segnext"))
def test_segnext_golden(entry, filled):
    size = entry["meta"]["T"]
    segmenter = filled(f"sax{entry['meta']['fusion_depth']}", size)
    net, side = segmenter.module, size // 16
    golden = BASELINE_GOLDENS.load(entry)

    def check(actual: torch.Tensor, name: str) -> None:
        """Compare a (B, C, h, w) map or its (B, C) means where the file has them."""
        if name in golden:
            part = subsample(actual, entry, name) if actual.ndim == 4 else actual
            assert_close(part, golden[name], entry, name)

    def as_map(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.view(1, side, side, -1).permute(0, 3, 1, 2)

    image = golden["image_u8"].numpy()
    height, width = image.shape[:2]
    embedding = segmenter.encode(image)
    check(as_map(embedding.tokens), "image_embed_sub")
    check(as_map(embedding.tokens).mean((2, 3)), "image_embed_ch_mean")
    previous = None
    for number in range(sum(key.startswith("clicks_") for key in golden)):
        clicks = [(int(y), int(x), bool(p)) for y, x, p in golden[f"clicks_{number}"]]
        points = [(*scale_click(y, x, height, width, size), p) for y, x, p in clicks]
        slots = golden[f"points_scaled_{number}"][0]
        half = len(slots) // 2
        for positive, part in ((True, slots[:half]), (False, slots[half:])):
            expected = sorted((int(y), int(x)) for y, x, order in part if order >= 0)
            assert sorted((y, x) for y, x, p in points if p == positive) == expected
        discs = draw_discs(points, size)
        assert (discs.numpy() == unpack(golden[f"prompt_map_{number}_packed"], size, size)).all()

        session = segmenter.start(embedding)
        session.points, session.previous = points, previous
        with torch.inference_mode():
            prompt = torch.zeros(1, 3, size, size)
            prompt[0, 1:] = discs
            if previous is not None:
                prompt[:, :1] = torch.nn.functional.interpolate(
                    previous, (size, size), mode="bilinear", align_corners=False
                )
            embedded = net.embed_prompt(prompt)
            check(as_map(embedded), f"prompt_embed_sub_{number}")
            check(as_map(embedded).mean((2, 3)), f"prompt_embed_ch_mean_{number}")
            fused = net.fuse(embedding.tokens, embedded)
            check(as_map(fused), f"fused_sub_{number}")
            levels = net.neck(fused, side)
            for level, value in enumerate(levels):
                check(value.mean((1, 2)), f"pyramid_{number}_{level}_ch_mean")
            head = net.head(levels)
            check(head, f"head_logits_sub_{number}")
            logits = net.to_original(head, height, width)
        check(logits, f"logits_{number}")
        # The session answers the same: the decoder runs again on its clicks without a new one.
        scores = torch.from_numpy(session.click(None))
        assert_close(scores, torch.sigmoid(logits)[0, 0], entry, f"session scores {number}")
        previous = torch.sigmoid(logits)


def test_released_layout_golden_names_and_shapes():
    for variant, layout in layouts("segnext").items():
        with torch.device("meta"):
            net = SegNextNet(int(variant[-1]), 1024)
        own = {key: list(value.shape) for key, value in net.state_dict().items()}
        assert own == {key: shape for key, shape, _ in layout["state_dict"]}
        assert sum(p.numel() for p in net.parameters()) == layout["parameters"]["total"]
