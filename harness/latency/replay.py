"""Replaying episodes on a segmenter with a stopwatch: whole steps, or steps by part through hooks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.latency import devices
from harness.latency.energy import Meter
from harness.latency.hooks import PartClock
from harness.latency.records import Timing
from harness.latency.workload import DEFAULT, Episode
from harness.protocol import Protocol
from harness.sample import Sample
from harness.segmenter import Click

TRUTH = "ground truth with seeded errors"
RECORDED = "recorded episodes"
OWN = "own untrained predictions"

OTHER = "other"
NO_METER = Meter((), "not asked")


class Replay:
    """One workload on one segmenter.

    Args:
        segmenter: the model under test.
        episodes: images with clicks and masks.
        mode: ``recorded``, ``truth``, or ``auto``: truth for untrained weights, else recorded.
        protocol: whose annotator clicks, and whose threshold makes masks of scores (None: the segmenter's own).
        encodes: of how many images the encoding is timed in each pass.
        meter: counts the energy of each timed step, but for the pass with hooks.

    Attributes:
        clicks: of each image; None: the decoder runs again without a click, as the protocol asks.
        workload: how the previous masks came about, for the table.
        boundary: (image, click) -> share of boundary tokens, where the segmenter keeps a trace with that map.
        embeddings: of every image, once `keep` was called; or what another segmenter with the same encoder made.
    """

    def __init__(
        self,
        segmenter: Any,
        episodes: Sequence[Episode],
        mode: str = "auto",
        protocol: Protocol = DEFAULT,
        encodes: int = 2,
        meter: Meter = NO_METER,
    ):
        untrained = getattr(segmenter, "weights_status", "") == "untrained"
        self.segmenter, self.episodes = segmenter, list(episodes)
        self._wait = devices.waiting(segmenter)
        self.truth = mode == "truth" or (mode == "auto" and untrained)
        self.workload = TRUTH if self.truth else RECORDED
        self.protocol, self.encodes, self.meter = protocol, encodes, meter
        self.clicks: list[list[Click | None]] = [list(e.clicks) for e in self.episodes]
        self.threshold = float(segmenter.threshold if protocol.threshold is None else protocol.threshold)
        self.boundary: dict[tuple[int, int], float] = {}
        self.embeddings: list[Any] = []

    def record(self) -> None:
        """Go once through every image, untimed: fixes the clicks of the timed passes, and notes the boundary shares."""
        with self._tracing():
            for index, episode in enumerate(self.episodes):
                known = index < len(self.embeddings)
                session = self.segmenter.start(
                    self.embeddings[index] if known else self.segmenter.encode(episode.image)
                )
                prediction = np.zeros(episode.mask.shape, dtype=bool)
                annotator = self._annotator(episode)
                clicks: list[Click | None] = []
                for k, planned in enumerate(episode.clicks):
                    click: Click | None = planned
                    if not self.truth:
                        click = annotator.click(prediction)
                        if click is None and not self.protocol.rerun_without_click:
                            break  # the episode is over, as in the quality pass
                    elif k:
                        self.prepare(session, episode, k)
                    prediction = np.asarray(session.click(click)) > self.threshold
                    clicks.append(click)
                    flags = (getattr(session, "trace", None) or {}).get("boundary")
                    if flags is not None:
                        self.boundary[index, k + 1] = float(np.mean(np.asarray(flags)))
                self.clicks[index] = clicks

    @property
    def description(self) -> str:
        """The workload for the table: where its masks come from, and whether it holds whole episodes."""
        longest = max((len(e.clicks) for e in self.episodes), default=0)
        part = f", clicks 1 to {longest} of {self.protocol.clicks}" if longest < self.protocol.clicks else ""
        return self.workload + part

    def keep(self) -> None:
        """Encode every image, untimed: the timed passes encode `encodes` of them and click on all."""
        self.embeddings = [self.segmenter.encode(episode.image) for episode in self.episodes]

    def touch(self) -> None:
        """One untimed click."""
        self.segmenter.start(self.embeddings[0]).click(self.clicks[0][0])

    def once(self, clock: PartClock | None = None) -> list[Timing]:
        """One pass: encode the first `encodes` images, and the clicks of all episodes. Call `keep` before.

        Args:
            clock: adds `parts` (part -> ms, with ``other``) to each step; only in the pass with hooks.

        Returns:
            The steps in order, with `simulate_ms` of the annotator after each click, if no clock is given.
        """
        timings: list[Timing] = []
        for index, (episode, clicks) in enumerate(zip(self.episodes, self.clicks, strict=True)):
            if index < self.encodes:
                (_, ms, parts), joules = self._metered(partial(self._encode, episode.image), clock)
                timings.append(Timing(index, episode.size_bin, 0, ms, parts=parts, joules=joules))
            session = self.segmenter.start(self.embeddings[index])
            annotator = self._annotator(episode)
            annotator.click(np.zeros(episode.mask.shape, dtype=bool))  # the first click is known; it is remembered
            for k, click in enumerate(clicks):
                if k:
                    self.prepare(session, episode, k)
                (scores, ms, parts), joules = self._metered(partial(self._click, session, click), clock)
                simulate_ms = None
                if clock is None:
                    prediction = self._standing(np.asarray(scores), episode, k)
                    _, simulate_ms, _ = _timed(partial(annotator.click, prediction), None)
                timings.append(Timing(index, episode.size_bin, k + 1, ms, simulate_ms, parts, joules))
        return timings

    def _metered(
        self, step: Callable[[], Any], clock: PartClock | None
    ) -> tuple[tuple[Any, float, dict[str, float]], float | None]:
        """What `_timed` gives, and the joules; the counters are read outside of the measured time."""
        before = self.meter.read() if clock is None else None
        timed = _timed(step, clock)
        return timed, self.meter.joules(before, None if before is None else self.meter.read())

    def _encode(self, image: np.ndarray) -> Any:
        embedding = self.segmenter.encode(image)
        self._wait()
        return embedding

    def _click(self, session: Any, click: Click | None) -> Any:
        scores = session.click(click)
        self._wait()
        return scores

    def once_by_part(self) -> list[Timing]:
        """One pass with hooks: every step with its `parts`."""
        with PartClock(getattr(self.segmenter, "parts", None) or {}, self._wait).listening() as clock:
            return self.once(clock)

    def prepare(self, session: Any, episode: Episode, k: int) -> None:
        """Put the mask of the workload in place before click k (from 0), where that is the kind of workload."""
        if not self.truth or k > len(episode.packed):
            return
        if hasattr(session, "replace_prediction"):
            session.replace_prediction(episode.before(k + 1))
        else:
            self.workload = OWN

    def _standing(self, scores: np.ndarray, episode: Episode, k: int) -> np.ndarray:
        """The mask that the annotator looks at after click k."""
        if self.truth and k < len(episode.packed):
            return episode.before(k + 2)
        return scores > self.threshold

    def _annotator(self, episode: Episode) -> Any:
        return self.protocol.annotator.start(Sample(episode.name, episode.image, episode.mask))

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


def _timed(step: Callable[[], Any], clock: PartClock | None) -> tuple[Any, float, dict[str, float]]:
    """What a step gives, its ms, and part -> ms where there is a clock."""
    if clock is not None:
        clock.reset()
    started = time.perf_counter_ns()
    result = step()
    spent = (time.perf_counter_ns() - started) / 1e6
    return result, spent, {} if clock is None else {**clock.ms, OTHER: spent - clock.covered_ms}
