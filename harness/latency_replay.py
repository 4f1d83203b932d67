"""Replaying episodes on a segmenter with a stopwatch: whole steps, or steps by part through hooks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.latency_workload import Episode, next_click
from harness.segmenter import Click

TRUTH = "ground truth with seeded errors"
RECORDED = "recorded episodes"
OWN = "own untrained predictions"


class Replay:
    """One workload on one segmenter.

    Args:
        segmenter: the model under test.
        episodes: images with clicks and masks.
        mode: ``recorded``, ``truth``, or ``auto``: truth for untrained weights, else recorded.

    Attributes:
        workload: how the previous masks came about, for the table.
    """

    def __init__(self, segmenter: Any, episodes: Sequence[Episode], mode: str = "auto"):
        untrained = getattr(segmenter, "weights_status", "") == "untrained"
        self.segmenter, self.episodes = segmenter, list(episodes)
        self.truth = mode == "truth" or (mode == "auto" and untrained)
        self.workload = TRUTH if self.truth else RECORDED
        self.clicks: list[list[Click]] = [list(e.clicks) for e in self.episodes]
        self.threshold = float(segmenter.threshold)

    def record(self) -> None:
        """Click once through every image, untimed; fixes the clicks of the timed passes."""
        if self.truth:
            session = self.segmenter.start(self.segmenter.encode(self.episodes[0].image))
            session.click(self.clicks[0][0])
            self.prepare(session, self.episodes[0], 1)
            return
        for episode, clicks in zip(self.episodes, self.clicks, strict=True):
            session = self.segmenter.start(self.segmenter.encode(episode.image))
            prediction = np.zeros(episode.mask.shape, dtype=bool)
            for k in range(len(clicks)):
                clicks[k] = next_click(prediction, episode.mask)
                prediction = np.asarray(session.click(clicks[k])) > self.threshold

    def touch(self) -> None:
        """One untimed encode and click."""
        session = self.segmenter.start(self.segmenter.encode(self.episodes[0].image))
        session.click(self.clicks[0][0])

    def once(self) -> list[dict[str, Any]]:
        """One pass over all episodes: a list of {image, size_bin, click (0: encode), ms}."""
        timings: list[dict[str, Any]] = []
        for index, (episode, clicks) in enumerate(zip(self.episodes, self.clicks, strict=True)):
            label = {"image": index, "size_bin": episode.size_bin}
            started = time.perf_counter_ns()
            embedding = self.segmenter.encode(episode.image)
            timings.append({**label, "click": 0, "ms": (time.perf_counter_ns() - started) / 1e6})
            session = self.segmenter.start(embedding)
            for k, click in enumerate(clicks):
                if k:
                    self.prepare(session, episode, k)
                started = time.perf_counter_ns()
                session.click(click)
                timings.append({**label, "click": k + 1, "ms": (time.perf_counter_ns() - started) / 1e6})
        return timings

    def prepare(self, session: Any, episode: Episode, k: int) -> None:
        """Put the mask of the workload in place before click k (from 0), where that is the kind of workload."""
        if not self.truth or k > len(episode.previous):
            return
        if hasattr(session, "replace_prediction"):
            session.replace_prediction(episode.previous[k - 1])
        else:
            self.workload = OWN
