"""The click loop: one sample clicked through by one segmenter."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from harness.clicking import starts
from harness.clicking.branches import Branches
from harness.clicking.groups import Group
from harness.clicking.records import ClickRow, Episode, GroupClicks
from harness.planning.environment import hide
from harness.protocol import Protocol as ClickProtocol
from harness.sample import Sample
from harness.scoring.overlap import BoundaryIoU, IoU
from harness.scoring.sizes import size_bin
from harness.segmenter import Click, Segmenter
from harness.text import printable

_LONGEST_MESSAGE = 2000


class AnnotatorSession(Protocol):
    """Simulates the annotator of one episode."""

    def click(self, prediction: np.ndarray) -> Click | None:
        """Next click for a (H, W) bool prediction; None when there is nothing to click."""
        ...


@runtime_checkable
class Extreme(Protocol):
    """Tries several clicks a round and follows the best or the worst answer (`harness.clicking.extremes`)."""

    best: bool

    def candidates(self, prediction: np.ndarray) -> list[Click]:
        """Clicks to try for a (H, W) bool prediction; none: nothing to click."""
        ...

    def took(self, click: Click) -> None:
        """The click whose answer was followed."""
        ...


class Truth:
    """A sample with what its mask decides once for all variants: scorers and columns."""

    def __init__(self, sample: Sample):
        self.sample = sample
        self.iou = IoU(sample.mask)
        self.biou = BoundaryIoU(sample.mask)
        share = sample.object_share
        self.empty = Episode(
            sample=sample.name,
            # A path may hold bytes that are not UTF-8, which no table can.
            image=(sample.source or sample.name).encode("utf-8", "backslashreplace").decode(),
            height=int(sample.mask.shape[0]),
            width=int(sample.mask.shape[1]),
            object_share=round(share, 6),
            size_bin=size_bin(share),
        )


def encode(segmenter: Segmenter, image: np.ndarray) -> tuple[Any, float]:
    """Embedding of an image and the milliseconds that it took."""
    start = time.perf_counter()
    embedding = segmenter.encode(image)
    synchronise(segmenter)
    return embedding, (time.perf_counter() - start) * 1e3


def synchronise(segmenter: Any) -> None:
    """Wait until the work that a segmenter gave to a device is done, where it says how (docs/extending.md)."""
    hook = getattr(segmenter, "synchronise", None)
    if hook is not None:
        hook()


def run_episode(
    segmenter: Segmenter,
    embedding: Any,
    encode_ms: float,
    truth: Truth,
    annotator: AnnotatorSession,
    protocol: ClickProtocol,
) -> Episode:
    """Click until the protocol's stop rule; return the episode as the store keeps it, without its groups.

    The times of the quality pass are those of a loop that shares its machine; measured latency comes from
    `harness.latency.measure`. `y` and `x` are -1 where the annotator found nothing to click and the decoder ran again.
    """
    start = starts.rule_of(protocol).mask(truth.sample) if protocol.start == "mask" else None
    clicks = _clicks(segmenter, embedding, truth, annotator, protocol, start)
    return replace(truth.empty, encode_ms=round(encode_ms, 4), clicks=clicks)


def run_groups(
    segmenter: Segmenter, embedding: Any, truth: Truth, protocol: ClickProtocol
) -> Iterator[Callable[[], GroupClicks]]:
    """The further episodes of a sample that the protocol has, each as a function that runs it: those of the annotator's
    hook `groups(sample)`, and, where episodes begin from a mask, the one that begins from zero."""
    start = starts.rule_of(protocol).mask(truth.sample) if protocol.start == "mask" else None

    def run(group: Group, begin: np.ndarray | None) -> GroupClicks:
        limit = protocol.clicks if group.clicks is None else min(group.clicks, protocol.clicks)
        shorter = replace(protocol, clicks=limit) if limit != protocol.clicks else protocol
        return GroupClicks(group.name, _clicks(segmenter, embedding, truth, group.annotator, shorter, begin))

    hook = getattr(protocol.annotator, "groups", None)
    for group in hook(truth.sample) if hook is not None else ():
        yield partial(run, group, start)
    if start is not None:
        yield partial(run, Group("zero", protocol.annotator.start(truth.sample)), None)


def _clicks(
    segmenter: Segmenter,
    embedding: Any,
    truth: Truth,
    annotator: AnnotatorSession,
    protocol: ClickProtocol,
    start: np.ndarray | None,
) -> tuple[ClickRow, ...]:
    threshold = segmenter.threshold if protocol.threshold is None else protocol.threshold
    shape = truth.sample.mask.shape
    extreme = annotator if isinstance(annotator, Extreme) else None
    branches = Branches(segmenter, embedding, start)
    prediction = np.zeros(shape, dtype=bool) if start is None else start
    clicks: list[ClickRow] = []
    if start is not None:
        clicks.append(ClickRow(0, -1, -1, False, truth.iou(start), truth.biou(start), 0.0, 0.0))
    for index in range(1, protocol.clicks + 1):
        started = time.perf_counter()
        several = None if extreme is None else extreme.candidates(prediction)
        click = annotator.click(prediction) if several is None else None
        simulated = time.perf_counter()
        if (click is None if several is None else not several) and not protocol.rerun_without_click:
            break
        if extreme is not None and several:
            click, prediction, online_ms = _followed(branches, several, extreme, truth, threshold)
        else:
            scores = branches.session.click(click)
            synchronise(segmenter)
            online_ms = (time.perf_counter() - simulated) * 1e3
            prediction = object_mask(scores, threshold, shape)
        y, x, positive = (-1, -1, False) if click is None else click
        row = ClickRow(
            click=index,
            y=int(y),
            x=int(x),
            positive=bool(positive),
            iou=truth.iou(prediction),
            biou=truth.biou(prediction),
            online_ms=round(online_ms, 4),
            simulate_ms=round((simulated - started) * 1e3, 4),
        )
        clicks.append(row)
        if protocol.stop_iou is not None and row.iou >= protocol.stop_iou:
            break
    return tuple(clicks)


def _followed(
    branches: Branches, candidates: Sequence[Click], annotator: Extreme, truth: Truth, threshold: float
) -> tuple[Click, np.ndarray, float]:
    """Answer every candidate from the same state, go on from the best or the worst: its click, mask and time in ms."""
    followed: tuple[float, Any, Click, np.ndarray, float] | None = None
    for click in candidates:
        session = branches.another()
        began = time.perf_counter()
        scores = session.click(click)
        synchronise(branches.segmenter)
        online_ms = (time.perf_counter() - began) * 1e3
        prediction = object_mask(scores, threshold, truth.sample.mask.shape)
        # An empty answer to an empty truth has no IoU: it is followed only where all answers are so.
        value = np.nan_to_num(truth.iou(prediction), nan=0.0) * (1 if annotator.best else -1)
        if followed is None or value > followed[0]:
            followed = (value, session, click, prediction, online_ms)
    assert followed is not None
    _, session, click, prediction, online_ms = followed
    branches.follow(session, click)
    annotator.took(click)
    return click, prediction, online_ms


def failed_episode(sample: str, error: BaseException, fatal: bool = False) -> Episode:
    """What the store keeps of an episode that could not be run; text that every table and file takes."""
    try:
        text = printable(" ".join(str(error).split())) or "no message"
    except Exception as failure:  # the text of a user's exception is the user's code
        text = f"its message cannot be shown ({type(failure).__name__})"
    if len(text) > _LONGEST_MESSAGE:
        text = f"{text[:_LONGEST_MESSAGE]} … ({len(text)} characters)"
    stack = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    stack = hide(stack).encode("utf-8", "backslashreplace").decode()[-4000:]
    return Episode(sample, error=hide(f"{type(error).__name__}: {text}"), traceback=stack, fatal=fatal)


def object_mask(scores: Any, threshold: float, shape: tuple[int, ...]) -> np.ndarray:
    """Where scores exceed the threshold, (H, W) bool.

    Raises:
        ValueError: no (H, W) array of real numbers, or one with NaN.
    """
    if not isinstance(scores, np.ndarray) or scores.shape != shape:
        got = getattr(scores, "shape", type(scores).__name__)
        raise ValueError(
            f"the segmenter answered with {got}; a click must return an (H, W) array of scores, here {shape}"
        )
    if isinstance(scores, np.ma.MaskedArray) or scores.dtype.kind not in "fiub":
        kind = "a masked array" if isinstance(scores, np.ma.MaskedArray) else f"an array of {scores.dtype}"
        raise ValueError(
            f"the segmenter answered with {kind}; scores are real numbers, one per pixel: return them as float32"
        )
    scores = np.asarray(scores)
    # A NaN compares as background without a word; a model that produces one is broken and must say so. The sum is the
    # quick look: infinities of both signs give NaN as well.
    if scores.dtype.kind == "f" and np.isnan(scores.sum()) and np.isnan(scores).any():
        raise ValueError("the segmenter answered with NaN scores")
    return scores > threshold
