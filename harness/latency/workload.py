"""The workload of a latency or FLOP measurement: a few images, and for each the masks and clicks of one episode.

Time and FLOPs of a click depend on the previous mask (box, boundary tokens, crop), so the workload needs real ones:

* ``recorded``: the protocol's annotator clicks once through the image with the segmenter, untimed; the timed passes
  replay those clicks, so that every previous mask is the model's own.
* ``truth``: for untrained weights, whose own masks mean nothing: before each later click the session is given the
  ground truth with seeded errors, if it offers ``replace_prediction(mask)``; the annotator's clicks are those on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from harness.clicking.annotators import Ritm
from harness.protocol import Protocol
from harness.sample import Sample
from harness.scoring.sizes import SIZE_BINS, size_bin
from harness.segmenter import Click

_SEED = 20
DEFAULT = Protocol("ritm", Ritm())
"""Who clicks where no protocol is given."""


@dataclass(frozen=True)
class Episode:
    """One image with the clicks and previous masks of an episode.

    Attributes:
        name: of the sample.
        size_bin: object size, one of SIZE_BINS.
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 ground truth, 255 ignore.
        clicks: K clicks (y, x, positive), for the replay from ground truth.
        packed: (K - 1, H, ceil(W / 8)) uint8, the masks that stand before clicks 2..K, eight pixels a byte.
    """

    name: str
    size_bin: str
    image: np.ndarray
    mask: np.ndarray
    clicks: tuple[Click, ...]
    packed: np.ndarray

    def before(self, click: int) -> np.ndarray:
        """(H, W) bool, the mask that stands before click 2, 3, …, K."""
        return np.unpackbits(self.packed[click - 2], axis=1, count=self.mask.shape[1]).astype(bool)

    @property
    def previous(self) -> np.ndarray:
        """(K - 1, H, W) bool, the masks that stand before clicks 2..K."""
        return np.unpackbits(self.packed, axis=2, count=self.mask.shape[1]).astype(bool)


def compose(
    samples: Sequence[Sample], count: int, resolution: int, later_clicks: int, protocol: Protocol = DEFAULT
) -> list[Episode]:
    """Choose `count` samples spread over the size bins, at this longest side, with replayable episodes.

    Args:
        samples: candidates, in a stable order; the first of each bin are taken.
        count: how many episodes at most.
        resolution: longest side in pixels.
        later_clicks: clicks after the first; no more than the protocol allows.
        protocol: whose annotator clicks.
    """
    chosen = _spread_over_bins(samples, count)
    later = min(later_clicks, protocol.clicks - 1)
    return [_episode(resize(s, resolution), size_bin(s.object_share), later, protocol) for s in chosen]


def resize(sample: Sample, longest: int) -> Sample:
    """The sample with its longest side at `longest` pixels; the mask by nearest neighbour."""
    h, w = sample.mask.shape
    scale = longest / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(sample.image, size, interpolation=how)
    mask = cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST)
    return Sample(sample.name, np.ascontiguousarray(image), np.ascontiguousarray(mask))


def erroneous(truth: np.ndarray, iou: float, rng: np.random.Generator) -> np.ndarray:
    """Ground truth with a wandering boundary, spurious and missing parts, at about this IoU.

    The signed distance to the boundary plus smooth noise, thresholded at 0; the noise amplitude is found by
    bisection.

    Args:
        truth: (H, W) bool with at least one object pixel.
        iou: wanted, in (0, 1).
        rng: seeded source of the noise.
    """
    inside = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform((~truth).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    signed = inside - outside
    h, w = truth.shape
    coarse = rng.standard_normal((max(2, h // 24), max(2, w // 24))).astype(np.float32)
    noise = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    low, high = 0.0, float(max(h, w))
    for _ in range(24):
        middle = (low + high) / 2
        if _iou(signed + middle * noise > 0, truth) > iou:
            low = middle
        else:
            high = middle
    return signed + low * noise > 0


def save(episodes: Sequence[Episode], path: Path) -> None:
    """Write the workload for the measuring children (.npz)."""
    arrays: dict[str, np.ndarray] = {"names": np.array([[e.name, e.size_bin] for e in episodes], dtype=str)}
    for i, e in enumerate(episodes):
        clicks = np.array([[c.y, c.x, c.positive] for c in e.clicks], dtype=np.int64)
        arrays |= {f"image{i}": e.image, f"mask{i}": e.mask, f"clicks{i}": clicks, f"packed{i}": e.packed}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> list[Episode]:
    """Read what `save` wrote."""
    with np.load(path) as data:
        return [
            Episode(
                str(name), str(in_bin), data[f"image{i}"], data[f"mask{i}"],
                tuple(Click(int(y), int(x), bool(p)) for y, x, p in data[f"clicks{i}"]), data[f"packed{i}"],
            )
            for i, (name, in_bin) in enumerate(data["names"])
        ]  # fmt: skip


def _spread_over_bins(samples: Sequence[Sample], count: int) -> list[Sample]:
    bins: dict[str, list[Sample]] = {}
    for sample in samples:
        if (sample.mask == 1).any():
            bins.setdefault(size_bin(sample.object_share), []).append(sample)
    # Middle sizes first, so that a workload of one or two images is a typical one.
    smallest, small, middle, large = SIZE_BINS
    order = [b for b in (middle, small, large, smallest) if b in bins]
    chosen: list[Sample] = []
    while len(chosen) < count and any(bins[b] for b in order):
        for b in order:
            if bins[b] and len(chosen) < count:
                chosen.append(bins[b].pop(0))
    return chosen


def _episode(sample: Sample, in_bin: str, later_clicks: int, protocol: Protocol) -> Episode:
    truth = sample.mask == 1
    rng = np.random.default_rng(_SEED)
    annotator = protocol.annotator.start(sample)
    clicks = [annotator.click(np.zeros_like(truth))]
    packed = []
    for k in range(1, later_clicks + 1):
        # 75 % after one click, 87.5 % after two, …: the course of a decent model.
        prediction = erroneous(truth, 1 - 0.25 / k, rng)
        click = annotator.click(prediction)
        if click is None:  # an object of so few pixels that no error is left
            break
        packed.append(np.packbits(prediction, axis=1))
        clicks.append(click)
    h, w = truth.shape
    stack = np.stack(packed) if packed else np.zeros((0, h, -(-w // 8)), dtype=np.uint8)
    return Episode(sample.name, in_bin, sample.image, sample.mask, tuple(clicks), stack)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))
