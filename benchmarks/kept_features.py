"""What kept features save: the same training steps with the frozen encoder computed and with its features found.

    python benchmarks/kept_features.py --root DIR/duts_tr5000 --cache runs/cache [--steps 12] [--threads 1]

One process, the same batches, alternating; weights: the packaged ones. Prints seconds per step for each decoder and the
ratio, median over steps with the 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from baselines.dense_lite import DenseLite
from baselines.sam_lite import SamLite
from harness.planning.config import Config, build
from harness.progress import Bar
from harness.training.batches import Batches
from harness.training.distributed import World
from harness.training.features import Features, size
from harness.training.loop import Trainer
from harness.training.material import Material
from harness.training.packed import pack
from harness.training.settings import make_settings
from harness.training.trainee import trainee_of
from inter2former.segmenter import Inter2FormerSegmenter

KINDS = {"lite": Inter2FormerSegmenter, "dense_lite": DenseLite, "sam_lite": SamLite}
RESAMPLES = 2000


def interval(pairs: np.ndarray) -> str:
    """Ratio of the medians of (n, 2) times, without / with, and its interval."""
    drawn = np.random.default_rng(0).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    medians = np.median(pairs[drawn], axis=1)
    low, high = np.quantile(medians[:, 0] / medians[:, 1], (0.025, 0.975))
    ratio = np.median(pairs[:, 0]) / np.median(pairs[:, 1])
    return f"{ratio:.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--cache", default="runs/cache")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(stderr=True)
    settings = make_settings(
        {"steps": 100, "batch": 8, "sizes": [320], "precision": "bf16", "freeze": ["backbone.", "edge_detector."]}
    )
    photographs = pack(
        build(Config().load("dataset", "duts_tr5000", {"root": options.root}), "data"), Path(options.cache)
    )
    print(f"{options.steps} steps of 8 crops at 320 px, {options.threads} thread(s), bfloat16 convolutions")
    print("| decoder | s per step, computed | s per step, found | ratio | MB per step |\n|---|---|---|---|---|")
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as folder, Bar(name, 2 * options.steps, console) as bar:
            keep = Features(Path(folder) / "features")
            trainee = trainee_of(kind(weights="default"), "bf16")
            batches = Batches(Material(photographs, None, settings.mixture), settings.augmentation, 0, 8, (320,))
            run = Trainer(trainee, batches, settings, Path(folder) / "run", World(0, 1, torch.device("cpu")))
            times = np.zeros((options.steps, 2))
            for step in range(-1, options.steps):  # the first one warms up
                batch = batches.make(step + 1)
                trainee.keep = keep
                trainee.encode(torch.from_numpy(batch.images).permute(0, 3, 1, 2))
                for column in (step % 2, 1 - step % 2):
                    trainee.keep = keep if column else None
                    started = time.perf_counter()
                    run.take_step(batch)
                    if step >= 0:
                        times[step, column] = time.perf_counter() - started
                        bar.advance()
            without, found = np.median(times, axis=0)
            megabytes = size(keep.folder) / 1e6 / (options.steps + 1)
            print(f"| {name} | {without:.2f} | {found:.2f} | {interval(times)} | {megabytes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
