"""The click loop: one sample clicked through by one segmenter."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from harness.clicking.records import ClickRow, Episode
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
    """Click until the protocol's stop rule; return the episode as the store keeps it.

    The times of the quality pass are those of a loop that shares its machine; measured latency comes from
    `harness.latency.measure`. `y` and `x` are -1 where the annotator found nothing to click and the decoder ran again.
    """
    threshold = segmenter.threshold if protocol.threshold is None else protocol.threshold
    session = segmenter.start(embedding)
    shape = truth.sample.mask.shape
    prediction = np.zeros(shape, dtype=bool)
    clicks: list[ClickRow] = []
    for index in range(1, protocol.clicks + 1):
        started = time.perf_counter()
        click = annotator.click(prediction)
        simulated = time.perf_counter()
        if click is None and not protocol.rerun_without_click:
            break
        scores = session.click(click)  # type: ignore[arg-type]  # None: the decoder runs again
        synchronise(segmenter)
        answered = time.perf_counter()
        prediction = object_mask(scores, threshold, shape)
        y, x, positive = (-1, -1, False) if click is None else click
        row = ClickRow(
            click=index,
            y=int(y),
            x=int(x),
            positive=bool(positive),
            iou=truth.iou(prediction),
            biou=truth.biou(prediction),
            online_ms=round((answered - simulated) * 1e3, 4),
            simulate_ms=round((simulated - started) * 1e3, 4),
        )
        clicks.append(row)
        if protocol.stop_iou is not None and row.iou >= protocol.stop_iou:
            break
    return replace(truth.empty, encode_ms=round(encode_ms, 4), clicks=tuple(clicks))


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
