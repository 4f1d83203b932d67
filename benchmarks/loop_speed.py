"""How fast the harness clicks when the model costs nothing, and what the annotators cost on large images.

    python benchmarks/loop_speed.py              clicks a second at 854x480, annotator times at 1024 and 2048
    python benchmarks/loop_speed.py --profile    where the loop's time goes

The oracle answers with a growing part of the ground truth. The loop is the sweep's own
(`harness.clicking.quality.run`): load ahead, annotator, scores, IoU, boundary IoU, rows on disk, and the table made
from them. One core.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# ruff: noqa: E402  (the number of threads must be set before NumPy is imported)
import argparse
import cProfile
import json
import pstats
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from harness.clicking.annotators import Inter2Former, Jitter, Ritm
from harness.clicking.quality import Work, run
from harness.protocol import Protocol
from harness.results.schema import CellHeader, Origin, click_rows
from harness.results.store import Store
from harness.sample import Sample
from harness.segmenter import Click

CLICKS = 20


def noise(random: np.random.Generator, height: int, width: int, sigma: float) -> np.ndarray:
    """(H, W) float32 smooth noise."""
    small = random.standard_normal((height // 8, width // 8)).astype(np.float32)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 8), (width, height), interpolation=cv2.INTER_CUBIC)


def object_of(random: np.random.Generator, height: int, width: int, share: float) -> np.ndarray:
    """(H, W) bool: one uneven object of about this share of the image."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre = height * random.uniform(0.4, 0.6), width * random.uniform(0.4, 0.6)
    far = np.hypot(y - centre[0], x - centre[1]) / np.sqrt(height * width)
    field = far + 0.02 * noise(random, height, width, height / 12) / 0.05
    return field < np.quantile(field, share)


class Oracle:
    """Answers click k with the part of the object that a smooth field puts first; all answers are made beforehand."""

    encoder_key = "oracle"
    threshold = 0.5
    weights_status = "no weights"

    def __init__(self, samples: Mapping[str, Sample]):
        random = np.random.default_rng(1)
        self._answers = {id(s.image): self._growing(s.mask == 1, random) for s in samples.values()}

    @staticmethod
    def _growing(mask: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        order = noise(random, *mask.shape, sigma=30)
        steps = np.quantile(order[mask], np.linspace(0, 1, CLICKS + 1)[1:])
        return [(mask & (order <= step)).astype(np.float32) for step in steps]

    def encode(self, image: np.ndarray) -> list[np.ndarray]:
        return self._answers[id(image)]

    def start(self, embedding: list[np.ndarray]) -> _Answers:
        return _Answers(embedding)


class _Answers:
    def __init__(self, answers: list[np.ndarray]):
        self._answers = iter(answers)

    def click(self, click: Click) -> np.ndarray:
        return next(self._answers)


class InMemory:
    """Samples that are there already; a name may stand for the same sample several times."""

    name, note = "oracle", ""

    def __init__(self, samples: Mapping[str, Sample], repeats: int):
        self.samples = samples
        self.names = [f"{name}/{i}" for i in range(repeats) for name in samples]

    def load(self, name: str) -> Sample:
        sample = self.samples[name.split("/")[0]]
        return Sample(name, sample.image, sample.mask)


def click_through(dataset: InMemory, oracle: Oracle, annotator: Any, out: Path) -> int:
    """The sweep's loop over all samples, rows and table written; the number of clicks."""
    protocol = Protocol("bench", annotator, clicks=CLICKS, rerun_without_click=True)
    work = Work({"oracle": {}}, {}, protocol, {name: ["oracle"] for name in dataset.names}, threads=1)
    header = CellHeader("bench", "oracle", "oracle", "bench")
    store = Store(out)
    cell = store.cell("bench", header)
    for result in run(work, {"oracle": oracle}, dataset):
        if result.episode.error:
            raise RuntimeError(result.episode.error)
        cell.append(result.episode, Origin())
    rows = click_rows(header, cell.episodes())
    store.write_table("clicks.parquet", pd.DataFrame(rows))
    store.close()
    return len(rows)


def clicks_per_second(annotator: Any, seconds: float, profile: bool = False) -> dict[str, Any]:
    """Clicks a second at 854x480."""
    random = np.random.default_rng(0)
    samples = {}
    for i, share in enumerate((0.005, 0.03, 0.10, 0.30)):
        mask = object_of(random, 480, 854, share).astype(np.uint8)
        samples[str(i)] = Sample(str(i), np.zeros((480, 854, 3), np.uint8), mask)
    oracle = Oracle(samples)
    rates, profiler = [], cProfile.Profile()
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(rates) < 3:
        with tempfile.TemporaryDirectory() as out:
            if profile:
                profiler.enable()
            started = time.perf_counter()
            clicks = click_through(InMemory(samples, 3), oracle, annotator, Path(out))
            rates.append(clicks / (time.perf_counter() - started))
            profiler.disable()
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(16)
    return {
        "what": f"loop 854x480, {annotator.name}",
        "clicks_per_s": float(np.median(rates)),
        "slowest": min(rates),
        "repeats": len(rates),
    }


def typical_errors(random: np.random.Generator, side: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> (prediction, mask): a whole missed object, an uneven outline, and parts wrong."""
    mask = object_of(random, side, side, 0.15)
    wave = (noise(random, side, side, side / 40) * side / 30).astype(np.float32)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    warped = cv2.remap(mask.view(np.uint8), x + wave, y - wave, cv2.INTER_NEAREST)
    patches = noise(random, side, side, side / 30)
    return {
        "nothing predicted": (np.zeros_like(mask), mask),
        "uneven outline": (warped > 0, mask),
        "parts wrong": (mask ^ (patches > np.quantile(patches, 0.93)), mask),
    }


def annotator_times(side: int, repeats: int = 15) -> list[dict[str, Any]]:
    """Median milliseconds per click for typical errors of (side, side) images."""
    random = np.random.default_rng(side)
    rows = []
    for what, (prediction, mask) in typical_errors(random, side).items():
        sample = Sample("a", np.zeros((1, 1, 3), np.uint8), mask.astype(np.uint8))
        for annotator in (Ritm(), Inter2Former(), Jitter()):
            times = []
            for _ in range(repeats):
                session = annotator.start(sample)
                started = time.perf_counter()
                session.click(prediction)
                times.append((time.perf_counter() - started) * 1e3)
            rows.append(
                {
                    "what": f"{annotator.name} {side}x{side}, {what}",
                    "median_ms": float(np.median(times)),
                    "best_ms": min(times),
                }
            )
    return rows


def main() -> None:
    """Print one line per measurement; --json FILE keeps them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true", help="profile the loop under the ritm annotator, and stop")
    parser.add_argument("--seconds", type=float, default=5, help="time for each loop measurement")
    parser.add_argument("--json", type=Path, help="also write the measurements here")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.profile:
        print(clicks_per_second(Ritm(), options.seconds, profile=True))
        return
    rows = [clicks_per_second(annotator, options.seconds) for annotator in (Ritm(), Inter2Former())]
    for side in (1024, 2048):
        rows += annotator_times(side)
    for row in rows:
        print("  ".join(f"{v:.2f} {k}" if isinstance(v, float) else str(v) for k, v in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
