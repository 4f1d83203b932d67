"""Replaying episodes on a segmenter with a stopwatch: whole steps, or steps by part through hooks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.latency import devices
from harness.latency.hooks import PartClock
from harness.latency.workload import Episode, next_click
from harness.segmenter import Click

TRUTH = "ground truth with seeded errors"
RECORDED = "recorded episodes"
OWN = "own untrained predictions"

OTHER = "other"


class Replay:
    """One workload on one segmenter.

    Args:
        segmenter: the model under test.
        episodes: images with clicks and masks.
        mode: ``recorded``, ``truth``, or ``auto``: truth for untrained weights, else recorded.

    Attributes:
        workload: how the previous masks came about, for the table.
        boundary: (image, click) -> share of boundary tokens, where the segmenter keeps a trace with that map.
        embeddings: of every image, once `keep` was called.
    """

    def __init__(self, segmenter: Any, episodes: Sequence[Episode], mode: str = "auto"):
        untrained = getattr(segmenter, "weights_status", "") == "untrained"
        self.segmenter, self.episodes = segmenter, list(episodes)
        self._wait = devices.waiting(segmenter)
        self.truth = mode == "truth" or (mode == "auto" and untrained)
        self.workload = TRUTH if self.truth else RECORDED
        self.clicks: list[list[Click]] = [list(e.clicks) for e in self.episodes]
        self.threshold = float(segmenter.threshold)
        self.boundary: dict[tuple[int, int], float] = {}
        self.embeddings: list[Any] = []

    def record(self) -> None:
        """Go once through every image, untimed: fixes the clicks of the timed passes, and notes the boundary shares."""
        with self._tracing():
            for index, (episode, clicks) in enumerate(zip(self.episodes, self.clicks, strict=True)):
                session = self.segmenter.start(self.segmenter.encode(episode.image))
                prediction = np.zeros(episode.mask.shape, dtype=bool)
                for k in range(len(clicks)):
                    if not self.truth:
                        clicks[k] = next_click(prediction, episode.mask)
                    elif k:
                        self.prepare(session, episode, k)
                    prediction = np.asarray(session.click(clicks[k])) > self.threshold
                    flags = (getattr(session, "trace", None) or {}).get("boundary")
                    if flags is not None:
                        self.boundary[index, k + 1] = float(np.mean(np.asarray(flags)))

    def keep(self) -> None:
        """Encode every image, untimed: the timed passes encode the first image only and click on all of them."""
        self.embeddings = [self.segmenter.encode(episode.image) for episode in self.episodes]

    def touch(self) -> None:
        """One untimed click."""
        self.segmenter.start(self.embeddings[0]).click(self.clicks[0][0])

    def once(self, clock: PartClock | None = None) -> list[dict[str, Any]]:
        """One pass: encode the first image, then the clicks of all episodes. Call `keep` before.

        Args:
            clock: adds `parts` (part -> ms, with ``other``) to each step; only in the pass with hooks.

        Returns:
            [{image, size_bin, click (0: encode), ms}], with `simulate_ms` of the annotator after each click.
        """
        timings: list[dict[str, Any]] = []
        for index, (episode, clicks) in enumerate(zip(self.episodes, self.clicks, strict=True)):
            label = {"image": index, "size_bin": episode.size_bin}
            if index == 0:
                _, timing = _timed(partial(self._encode, episode.image), clock)
                timings.append({**label, "click": 0, **timing})
            session = self.segmenter.start(self.embeddings[index])
            annotator = _annotator(episode)
            for k, click in enumerate(clicks):
                if k:
                    self.prepare(session, episode, k)
                scores, timing = _timed(partial(self._click, session, click), clock)
                made = {**label, "click": k + 1, **timing}
                if annotator is not None and clock is None:
                    prediction = self._standing(np.asarray(scores), episode, k)
                    _, simulated = _timed(partial(annotator.click, prediction), None)
                    made["simulate_ms"] = simulated["ms"]
                timings.append(made)
        return timings

    def _encode(self, image: np.ndarray) -> Any:
        embedding = self.segmenter.encode(image)
        self._wait()
        return embedding

    def _click(self, session: Any, click: Click) -> Any:
        scores = session.click(click)
        self._wait()
        return scores

    def once_by_part(self) -> list[dict[str, Any]]:
        """One pass with hooks: every step with its `parts`."""
        with PartClock(getattr(self.segmenter, "parts", None) or {}, self._wait).listening() as clock:
            return self.once(clock)

    def prepare(self, session: Any, episode: Episode, k: int) -> None:
        """Put the mask of the workload in place before click k (from 0), where that is the kind of workload."""
        if not self.truth or k > len(episode.previous):
            return
        if hasattr(session, "replace_prediction"):
            session.replace_prediction(episode.previous[k - 1])
        else:
            self.workload = OWN

    def _standing(self, scores: np.ndarray, episode: Episode, k: int) -> np.ndarray:
        """The mask that the annotator looks at after click k."""
        if self.truth and k < len(episode.previous):
            return episode.previous[k]
        return scores > self.threshold

    @contextlib.contextmanager
    def _tracing(self) -> Iterator[None]:
        before = getattr(self.segmenter, "keep_trace", None)
        if before is not None:
            self.segmenter.keep_trace = True
        try:
            yield
        finally:
            if before is not None:
                self.segmenter.keep_trace = before


def _timed(step: Callable[[], Any], clock: PartClock | None) -> tuple[Any, dict[str, Any]]:
    if clock is not None:
        clock.reset()
    started = time.perf_counter_ns()
    result = step()
    spent = (time.perf_counter_ns() - started) / 1e6
    if clock is None:
        return result, {"ms": spent}
    return result, {"ms": spent, "parts": {**clock.ms, OTHER: spent - clock.covered_ms}}


def _annotator(episode: Episode) -> Any:
    from harness.clicking.annotators import Ritm
    from harness.sample import Sample

    return Ritm().start(Sample(episode.name, episode.image, episode.mask))
