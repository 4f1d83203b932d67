"""Masks of an episode, made anew: the stored clicks are given to the segmenter again (rows hold no masks)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.clicking import starts
from harness.planning.disk import Trust
from harness.planning.environment import hide
from harness.sample import Sample
from harness.segmenter import Click
from reports.read.runs import Run

TOKEN = 16  # pixels of the network's input per token, Inter2Former
_PADDING = 256  # its input is padded to multiples of this before any resizing (specification, section 1)
TOLERANCE = 0.02
"""IoU by which a replay may differ from its row: another machine rounds otherwise, and a pixel moves the next mask."""


@dataclass(frozen=True)
class Step:
    """One click of an episode and what the segmenter answered.

    Attributes:
        click: the click, or None where the decoder ran again without one.
        mask: (H, W) bool, the answer.
        iou: as it stands in the rows, 0..1.
        trace: what the parts did, in image pixels and tokens (`Trace`), or None.
    """

    click: Click | None
    mask: np.ndarray
    iou: float
    trace: Trace | None = None


@dataclass(frozen=True)
class Trace:
    """What Inter2Former's parts did at one click.

    Attributes:
        dpe_box, dlu_box: (left, top, right, bottom) in image pixels, or None.
        boundary: (h, w) bool, tokens with full attention, or None.
        experts: (h, w) int, routed expert of a token, -1 for none, or None.
        token: side of a token in image pixels.
    """

    dpe_box: tuple[float, float, float, float] | None
    dlu_box: tuple[float, float, float, float] | None
    boundary: np.ndarray | None
    experts: np.ndarray | None
    token: float


@dataclass(frozen=True)
class Episode:
    """One sample clicked through by one variant.

    Attributes:
        variant, status: the variant and the state of its weights.
        dataset: its name in the run.
        sample: image and truth.
        steps: one per click.
        note: how the replay differs from the recording, or "".
    """

    variant: str
    status: str
    dataset: str
    sample: Sample
    steps: tuple[Step, ...]
    note: str = ""


class CannotReplay(Exception):
    """Data set or segmenter cannot be built here; the message says why."""


@dataclass
class Replayer:
    """Builds data sets and segmenters of a run once, encodes an image once per encoder, replays episodes.

    Args:
        run: the run whose config.yaml says how to build everything.
        trust: what of it may be built beside this project's own classes.
        budget_s: no new episode is begun after so many seconds.
    """

    run: Run
    budget_s: float = 20.0
    trust: Trust = field(default_factory=Trust)
    _datasets: dict[str, Any] = field(default_factory=dict)
    _segmenters: dict[str, Any] = field(default_factory=dict)
    _samples: dict[tuple[str, str], Sample] = field(default_factory=dict)
    _embeddings: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> bool:
        """Whether the time for replays is used up."""
        return time.monotonic() - self._started > self.budget_s

    def episode(self, variant: str, dataset: str, sample: str) -> Episode:
        """Replay one episode of the rows.

        Raises:
            CannotReplay: what is needed is not here (data, weights, a class), or the segmenter fails.
        """
        rows = self.run.clicks
        rows = rows[(rows["variant"] == variant) & (rows["dataset"] == dataset) & (rows["sample"] == sample)]
        try:
            loaded = self._sample(dataset, sample)
            segmenter = self._segmenter(variant)
            key = (dataset, sample, str(segmenter.encoder_key))
            if key not in self._embeddings:
                self._embeddings.clear()  # episodes come sample by sample; large embeddings are not kept
                self._embeddings[key] = segmenter.encode(loaded.image)
            threshold = self.run.threshold
            threshold = float(segmenter.threshold) if threshold is None else threshold
            rows = rows.sort_values("click")
            start = self._start(loaded) if len(rows) and int(rows["click"].iloc[0]) == 0 else None
            steps = _steps(segmenter, threshold, self._embeddings[key], loaded, rows[rows["click"] > 0], start)
        except (Exception, SystemExit) as error:
            text = hide(" ".join(str(error).split()))
            raise CannotReplay(text or type(error).__name__) from error
        return Episode(variant, self.run.status(variant), dataset, loaded, steps, _difference(steps, loaded))

    def _start(self, sample: Sample) -> np.ndarray:
        """The mask that the episode of a sample began from."""
        record = self.run.config.get("protocol")
        settings = record.get("start") if isinstance(record, Mapping) else None
        return starts.Rule(**dict(settings or {})).mask(sample)

    def _build(self, config: Mapping[str, Any]) -> Any:
        """The object that a configuration of the run names, if it may be built."""
        return replace(self.trust, run=self.run.path).build(config)

    def _sample(self, dataset: str, name: str) -> Sample:
        if (dataset, name) not in self._samples:
            if dataset not in self._datasets:
                self._datasets[dataset] = self._build(_config(self.run.dataset_configs, dataset))
            self._samples[dataset, name] = self._datasets[dataset].load(name)
        return self._samples[dataset, name]

    def _segmenter(self, variant: str) -> Any:
        if variant not in self._segmenters:
            segmenter = self._build(_config(self.run.variant_configs, variant))
            if hasattr(segmenter, "keep_trace"):
                segmenter.keep_trace = True
            self._segmenters[variant] = segmenter
        return self._segmenters[variant]


def _config(configs: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if "_target_" not in configs.get(name, {}):
        raise CannotReplay(f"config.yaml does not say how to build {name}")
    return configs[name]


def _steps(
    segmenter: Any,
    threshold: float,
    embedding: Any,
    sample: Sample,
    rows: pd.DataFrame,
    start: np.ndarray | None = None,
) -> tuple[Step, ...]:
    session = segmenter.start(embedding)
    if start is not None:
        starts.begin(segmenter, session, start)
    steps = []
    for row in rows.to_dict("records"):
        click = None if row["y"] < 0 else Click(int(row["y"]), int(row["x"]), bool(row["positive"]))
        mask = np.asarray(session.click(click)) > threshold
        steps.append(Step(click, mask, float(row["iou"]), _trace(getattr(session, "trace", None), sample.mask.shape)))
    return tuple(steps)


def _trace(raw: Any, shape: tuple[int, ...]) -> Trace | None:
    if not isinstance(raw, Mapping) or not raw:
        return None
    boundary = None if raw.get("boundary") is None else np.asarray(raw["boundary"]).astype(bool)
    experts = None if raw.get("experts") is None else np.asarray(raw["experts"]).astype(int)
    grid = boundary if boundary is not None else experts
    token = TOKEN / network_scale(grid.shape, shape) if grid is not None else float(TOKEN)
    boxes = [
        tuple(float(v) * token / TOKEN for v in raw[k]) if raw.get(k) is not None else None
        for k in ("dpe_box", "dlu_box")
    ]
    return Trace(boxes[0], boxes[1], boundary, experts, token)  # type: ignore[arg-type]


def network_scale(grid: tuple[int, ...], shape: tuple[int, ...]) -> float:
    """Pixels of the network's input per image pixel: 1 for the plain input, T / m for the target-size form."""
    padded = [math.ceil(side / _PADDING) * _PADDING for side in shape[:2]]
    if [g * TOKEN for g in grid] == padded:
        return 1.0
    return grid[0] * TOKEN / max(padded)


def _difference(steps: tuple[Step, ...], sample: Sample) -> str:
    """A sentence where the replayed masks score otherwise than the rows."""
    from harness.scoring.metrics import iou

    worst = 0.0
    for step in steps:
        replayed = float(iou(step.mask, sample.mask))
        if math.isfinite(replayed) and math.isfinite(step.iou):
            worst = max(worst, abs(replayed - step.iou))
    if worst <= TOLERANCE:
        return ""
    return (
        f"The replay differs from the recording by up to {worst * 100:.1f} IoU points; numbers are the recorded ones."
    )
