"""The click loop: one sample clicked through by one segmenter."""

from __future__ import annotations

import time
import traceback
from typing import Any, Protocol

import numpy as np

from harness.protocol import Protocol as ClickProtocol
from harness.sample import Sample
from harness.scoring.metrics import BoundaryIoU, IoU, size_bin
from harness.segmenter import Click, Segmenter


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
        self.columns = {
            "sample": sample.name,
            "image": sample.source or sample.name,
            "height": int(sample.mask.shape[0]),
            "width": int(sample.mask.shape[1]),
            "object_share": round(share, 6),
            "size_bin": size_bin(share),
        }


def encode(segmenter: Segmenter, image: np.ndarray) -> tuple[Any, float]:
    """Embedding of an image and the milliseconds that it took."""
    start = time.perf_counter()
    embedding = segmenter.encode(image)
    return embedding, (time.perf_counter() - start) * 1e3


def run_episode(
    segmenter: Segmenter,
    embedding: Any,
    encode_ms: float,
    truth: Truth,
    annotator: AnnotatorSession,
    protocol: ClickProtocol,
) -> dict[str, Any]:
    """Click until the protocol's stop rule; return the episode as the store keeps it.

    The times of the quality pass are those of a loop that shares its machine; measured latency comes from
    `harness.latency.measure`. `y` and `x` are -1 where the annotator found nothing to click and the decoder ran again.
    """
    threshold = segmenter.threshold if protocol.threshold is None else protocol.threshold
    session = segmenter.start(embedding)
    shape = truth.sample.mask.shape
    prediction = np.zeros(shape, dtype=bool)
    clicks: list[dict[str, Any]] = []
    for index in range(1, protocol.clicks + 1):
        started = time.perf_counter()
        click = annotator.click(prediction)
        simulated = time.perf_counter()
        if click is None and not protocol.rerun_without_click:
            break
        scores = session.click(click)  # type: ignore[arg-type]  # None: the decoder runs again
        answered = time.perf_counter()
        prediction = _mask(scores, threshold, shape)
        y, x, positive = (-1, -1, False) if click is None else click
        iou = truth.iou(prediction)
        clicks.append(
            {
                "click": index,
                "y": int(y),
                "x": int(x),
                "positive": bool(positive),
                "iou": iou,
                "biou": truth.biou(prediction),
                "online_ms": round((answered - simulated) * 1e3, 4),
                "simulate_ms": round((simulated - started) * 1e3, 4),
            }
        )
        if protocol.stop_iou is not None and iou >= protocol.stop_iou:
            break
    return {**truth.columns, "encode_ms": round(encode_ms, 4), "error": "", "clicks": clicks}


def failed_episode(sample: str, error: BaseException) -> dict[str, Any]:
    """What the store keeps of an episode that could not be run."""
    text = " ".join(str(error).split())
    stack = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"sample": sample, "error": f"{type(error).__name__}: {text}", "traceback": stack[-4000:]}


def _mask(scores: np.ndarray, threshold: float, shape: tuple[int, ...]) -> np.ndarray:
    if not isinstance(scores, np.ndarray) or scores.shape != shape:
        got = getattr(scores, "shape", type(scores).__name__)
        raise ValueError(
            f"the segmenter answered with {got}; a click must return an (H, W) array of scores, here {shape}"
        )
    # A NaN compares as background without a word; a model that produces one is broken and must say so.
    if np.isnan(scores.sum()):
        raise ValueError("the segmenter answered with NaN scores")
    return scores > threshold
