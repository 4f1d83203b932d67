"""Validation as training goes: the click loop of the benchmark on a few samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from harness.clicking.annotators import Ritm
from harness.clicking.loop import Truth, encode, run_episode
from harness.errors import SampleError
from harness.protocol import Protocol
from harness.sample import Sample
from harness.training.packed import SampleSource


class Validation:
    """Clicks through samples with the segmenter whose module is being trained.

    Args:
        segmenter: under the protocol of the harness.
        source: data set; samples that cannot be read are left out.
        clicks: per sample.
    """

    def __init__(self, segmenter: Any, source: SampleSource, clicks: int):
        self.segmenter = segmenter
        self.truths = [Truth(sample) for sample in _readable(source)]
        self.protocol = Protocol("ritm", Ritm(), clicks=clicks)

    def __call__(self) -> dict[str, float]:
        """NoC@85 and NoC@90 (up to the click limit) and mean IoU after 1, 3 and 5 clicks, names as in MLflow."""
        curves = np.stack([self._curve(truth) for truth in self.truths])
        limit = curves.shape[1]
        scores = {}
        for target in (0.85, 0.90):
            reached = curves >= target
            noc = np.where(reached.any(1), reached.argmax(1) + 1, limit)
            scores[f"val_noc{round(100 * target)}"] = float(noc.mean())
        for click in (1, 3, 5):
            if click <= limit:
                scores[f"val_miou{click}"] = float(curves[:, click - 1].mean())
        return scores

    def _curve(self, truth: Truth) -> np.ndarray:
        with torch.no_grad():
            embedding, milliseconds = encode(self.segmenter, truth.sample.image)
            session = self.protocol.annotator.start(truth.sample)
            episode = run_episode(self.segmenter, embedding, milliseconds, truth, session, self.protocol)
        values = [click.iou for click in episode.clicks]
        # An episode that ends early has nothing left to click: its last value stays.
        return np.array(values + [values[-1]] * (self.protocol.clicks - len(values)))


def _readable(source: SampleSource) -> Sequence[Sample]:
    samples = []
    for name in source.names:
        try:
            samples.append(source.load(name))
        except SampleError:
            continue
    return samples
