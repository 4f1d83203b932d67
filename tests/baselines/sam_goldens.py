"""What the goldens of SAM, SAM-HQ and MobileSAM have in common: chains of clicks, with and without feedback."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from goldens import assert_close
from goldens_baselines import subsample, unpack

from baselines._images import bilinear
from baselines._sam_prompts import click_tensors


class Golden:
    """One golden file; tensors of the chain with feedback have a tolerance of their own."""

    def __init__(self, entry: dict[str, Any], tensors: dict[str, torch.Tensor]):
        self.entry, self.tensors = entry, tensors
        stated = entry["tolerance"]
        self.loose = {**entry, "tolerance": {**stated, "float_atol": stated["float_atol_fb"]}}
        self.checked: set[str] = set()

    def check(self, actual: torch.Tensor, name: str) -> None:
        """Compare with `name`, or with its subsample and channel means, where the file has them."""
        entry = self.loose if name.startswith("fb_") else self.entry
        for stored in (name, f"{name}_sub"):
            if stored in self.tensors:
                part = actual if stored == name else subsample(actual, self.entry, stored)
                assert_close(part, self.tensors[stored], entry, stored)
                self.checked.add(stored)
        if f"{name}_ch_mean" in self.tensors:
            assert_close(actual.mean((2, 3)), self.tensors[f"{name}_ch_mean"], entry, f"{name}_ch_mean")
            self.checked.add(f"{name}_ch_mean")

    def check_mask(self, logits: torch.Tensor, name: str) -> None:
        """Compare the mask of logits (h, w) with the packed one; it may differ where a logit is about 0."""
        expected = unpack(self.tensors[f"{name}_packed"][0], *logits.shape)
        other = logits.numpy()[(logits.numpy() > 0) != expected]
        bound = (self.loose if name.startswith("fb_") else self.entry)["tolerance"]["float_atol"]
        assert np.abs(other).max(initial=0.0) < max(bound, 2e-4), f"{name}: {other.size} pixels"
        self.checked.add(f"{name}_packed")

    def rest(self) -> set[str]:
        """Names that nothing was compared with, but for the inputs."""
        return set(self.tensors) - self.checked - {"image_u8", "clicks", "image_embed_head", "block2_head"}


@torch.no_grad()
def check_episodes(golden: Golden, segmenter: Any, embedding: Any) -> None:
    """Sessions answer every click as stored: logits and mask at the image's size, both chains."""
    for feedback in (False, True):
        segmenter.feedback = feedback
        session = segmenter.start(embedding)
        for step, (y, x, label) in enumerate(golden.tensors["clicks"].tolist()):
            logits = torch.from_numpy(session.click((y, x, bool(label))))
            prefix = f"{'fb' if feedback else 'nofb'}_{step}"
            for answer in ("multi", "sum_multi"):
                if f"{prefix}_{answer}_logits_sub" in golden.tensors:
                    golden.check(logits[None, None], f"{prefix}_{answer}_logits")
                    golden.check_mask(logits, f"{prefix}_{answer}_mask")
            if f"{prefix}_logits_sub" in golden.tensors:
                golden.check(logits[None, None], f"{prefix}_logits")
                golden.check_mask(logits, f"{prefix}_mask")


@torch.no_grad()
def check_chains(golden: Golden, net: Any, encoded: Any, scale: tuple[float, float], restore: Any) -> None:
    """The network's own tensors of every step.

    Args:
        net: a `SamNet`.
        encoded: of the golden's image.
        scale: network pixels per image pixel, down and across.
        restore: logits at low resolution -> (H, W) logits of the file's masks.
    """
    decoder, quality_net = net.mask_decoder, hasattr(net.mask_decoder, "hf_token")
    side = encoded.image.shape[2]
    clicks = [(y * scale[0], x * scale[1], bool(k)) for y, x, k in golden.tensors["clicks"].tolist()]
    for feedback in (False, True):
        previous = None
        for step in range(len(clicks)):
            prefix = f"{'fb' if feedback else 'nofb'}_{step}"
            points, kinds = click_tensors(clicks[: step + 1])
            sparse = net.prompt_encoder.sparse(points, kinds, (16 * side, 16 * side))
            dense = net.prompt_encoder.dense(previous, 1, side, side)
            tokens, pixels = decoder.attend(encoded.image, encoded.code, sparse, dense)
            fine = decoder.upscale(pixels)
            golden.check(sparse, f"{prefix}_sparse")
            golden.check(dense, f"{prefix}_dense")
            golden.check(tokens, f"{prefix}_hs")
            golden.check(pixels.transpose(1, 2).unflatten(2, (side, side)), f"{prefix}_attended")
            if f"{prefix}_upscaled_sub" in golden.tensors:
                planes = fine.view(1, side, side, 2, 2, 2, 2, -1).permute(0, 7, 1, 3, 5, 2, 4, 6)
                golden.check(planes.reshape(1, -1, 4 * side, 4 * side), f"{prefix}_upscaled")
            if f"{prefix}_mask_feature_sub" in golden.tensors:
                golden.check(decoder.mask_features(fine, side, side), f"{prefix}_mask_feature")
            masks, quality = net.decode(encoded, points, kinds, previous)
            golden.check(masks, f"{prefix}_masks")
            golden.check(quality, f"{prefix}_iou")
            best = 1 + quality[:, 1:].argmax(1)
            golden.check(best, f"{prefix}_best")
            chosen, single = masks[:, best], masks[:, :1]
            if quality_net:
                answers = {"sum_multi": chosen + masks[:, 4:], "sum_single": single + masks[:, 4:], "hq": masks[:, 4:]}
                chosen = answers["sum_multi"]
            else:
                answers = {"multi": chosen, "single": single}
            for name, low in answers.items():
                if f"{prefix}_{name}_mask_packed" in golden.tensors:
                    golden.check_mask(restore(low)[0, 0], f"{prefix}_{name}_mask")
                if f"{prefix}_{name}_low_mask_packed" in golden.tensors:
                    golden.check_mask(low[0, 0], f"{prefix}_{name}_low_mask")
                golden.check(restore(low), f"{prefix}_{name}_logits")
            previous = chosen if feedback else None


def restorer(frame: Any, size: int) -> Any:
    """Low resolution -> the image's: to the square, without the padding, to the image's size."""

    def restore(low: torch.Tensor) -> torch.Tensor:
        inner = bilinear(low, size, size)[..., : frame.inner_height, : frame.inner_width]
        return bilinear(inner, frame.height, frame.width)

    return restore
