"""How often the intervals of the tables cover the truth: simulations with the project's own distributions.

    python -m benchmarks.coverage              print the table (minutes, one thread)
    python -m benchmarks.coverage --write      keep it in benchmarks/rows/ (`python -m reports docs` shows it)

Each experiment draws images, with replacement, from a population whose mean is therefore known: the NoC@90 and the IoU
after click 5 of shipped models on real photographs (coverage_populations.csv says which). A cell of the table is the
lowest share of covered experiments over the populations.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.stored_tables import store
from harness.latency import scaling
from harness.latency.stats import median_interval
from harness.scoring.intervals import mean_intervals
from harness.scoring.paired import difference_intervals

POPULATIONS = Path(__file__).with_name("coverage_populations.csv")
NAMES = ("coverage-images", "coverage-rounds")
MODELS = ("hybrid", "dense_lite", "sam_lite")
IMAGES = (6, 7, 8, 10, 15, 20, 30, 50, 100, 200)
ROUNDS = (7, 10, 20, 40)


def populations(metric: str) -> list[np.ndarray]:
    """(images,) values of `noc90` or `miou5`, one array a model and data set."""
    table = pd.read_csv(POPULATIONS, comment="#")
    return [rows[f"{m}_{metric}"].to_numpy(float) for _, rows in table.groupby("dataset") for m in MODELS]


def differences(metric: str) -> list[np.ndarray]:
    """(images,) differences of two models on the same images, one array a pair and data set."""
    table = pd.read_csv(POPULATIONS, comment="#")
    pairs = (("dense_lite", "hybrid"), ("sam_lite", "hybrid"), ("sam_lite", "dense_lite"))
    groups = [rows for _, rows in table.groupby("dataset")]
    return [(rows[f"{a}_{metric}"] - rows[f"{b}_{metric}"]).to_numpy(float) for rows in groups for a, b in pairs]


def failures() -> list[np.ndarray]:
    """Populations of failures at NoC@90: of the models, and rarer and commoner ones."""
    return [(p == 20).astype(float) for p in populations("noc90")] + [
        np.repeat([1.0, 0.0], [k, 100 - k]) for k in (1, 3, 50, 97)
    ]


def failure_differences() -> list[np.ndarray]:
    """Differences of failures at NoC@90 of two models on the same images."""
    table = pd.read_csv(POPULATIONS, comment="#")
    failed = table.assign(**{f"{m}_noc90": (table[f"{m}_noc90"] == 20).astype(float) for m in MODELS})
    groups = [rows for _, rows in failed.groupby("dataset")]
    return [(g[f"{m}_noc90"] - g["hybrid_noc90"]).to_numpy() for g in groups for m in MODELS[1:]]


def mean_share(
    population: np.ndarray, images: int, trials: int, rng: np.random.Generator, least: float = 1, most: float = 20
) -> float:
    """Share of `trials` whose interval covers the population's mean; NaN where no interval is shown."""
    drawn = rng.choice(population, (trials, images))
    return covered(mean_intervals(drawn, least, most), population.mean())


def paired_share(
    population: np.ndarray, images: int, trials: int, rng: np.random.Generator, unseen: float = 9.5
) -> float:
    """As `mean_share`, of differences."""
    drawn = rng.choice(population, (trials, images))
    return covered(difference_intervals(drawn, unseen), population.mean())


def clustered(population: np.ndarray, rng: np.random.Generator, images: int = 400) -> list[np.ndarray]:
    """A population of images with 1 to 10 objects (2.4 on average, as SBD), whose values lie near each other's rank."""
    ordered = np.sort(population)
    sizes = rng.choice(np.repeat([1, 2, 3, 4, 5, 7, 10], [45, 22, 13, 8, 5, 4, 3]), images)
    ranks = [(rng.random() + rng.normal(0, 0.15, n)) % 1 for n in sizes]
    return [ordered[(r * len(ordered)).astype(int) % len(ordered)] for r in ranks]


def cluster_share(
    population: np.ndarray, images: int, trials: int, rng: np.random.Generator, paired: bool = False
) -> float:
    """As `mean_share`, of images that hold several objects each."""
    world = clustered(population, rng)
    truth = np.concatenate(world).mean()
    limits: list[np.ndarray] = []
    for _ in range(trials):
        drawn = [world[i] for i in rng.integers(0, len(world), images)]
        values, labels = np.concatenate(drawn), np.repeat(np.arange(images), [len(d) for d in drawn])
        if paired:
            limits.append(difference_intervals(values[None], 9.5, labels)[0])
        else:
            limits.append(mean_intervals(values, 1, 20, labels)[0])
    return covered(np.array(limits), truth)


def ratio_share(correlation: float, rounds: int, trials: int, rng: np.random.Generator) -> float:
    """Latency ratio of 1 whose one child has noise of 10 % that lasts over rounds, an AR(1) process."""
    noise = rng.standard_normal((trials, rounds))
    for i in range(1, rounds):
        noise[:, i] = correlation * noise[:, i - 1] + math.sqrt(1 - correlation**2) * noise[:, i]
    intervals = [median_interval(row) for row in np.exp(0.1 * noise)]
    return covered(np.array([(i.low, i.high) for i in intervals]), 1.0)


def fit_share(rounds: int, trials: int, rng: np.random.Generator) -> float:
    """Exponent of 1 over three sizes, times with noise of 3 %."""
    tokens = np.array([256.0, 512, 1024]) ** 2
    frames = []
    for variant in range(trials):
        for size, mean in zip((256, 512, 1024), tokens, strict=True):
            times = mean * np.exp(0.03 * rng.standard_normal(rounds))
            frames += [(str(variant), 1, size, n, 0, 0, ms, math.nan) for n, ms in enumerate(times)]
    names = ["variant", "threads", "resolution", "round", "image", "click", "ms", "boundary_share"]
    fits = scaling.fit(pd.DataFrame(frames, columns=names))
    return covered(fits[["low", "high"]].to_numpy(float), 1.0)


def covered(limits: np.ndarray, truth: float) -> float:
    """Share of the shown (trials, 2) intervals that hold the truth; one without a width is a miss."""
    shown = limits[np.isfinite(limits).all(axis=1)]
    hits = (shown[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= shown[:, 1]) & (shown[:, 0] < shown[:, 1])
    return float(hits.mean()) if len(shown) else math.nan


def table(trials: int, seed: int = 0) -> str:
    """The whole table as Markdown."""
    lines = [
        f"| lowest coverage in % (nominal 95) | {' | '.join(map(str, IMAGES))} |",
        "|---" * (len(IMAGES) + 1) + "|",
    ]

    def row(name: str, worlds: Iterable[np.ndarray], share: Callable[..., float], runs: int, **settings: float) -> None:
        worlds = list(worlds)
        cells = []
        for n in IMAGES:
            shares = [share(w, n, runs, np.random.default_rng([seed, n, i]), **settings) for i, w in enumerate(worlds)]
            cells.append("too few" if all(map(math.isnan, shares)) else f"{100 * np.nanmin(shares):.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")

    row("NoC@90", populations("noc90"), mean_share, trials)
    row("5-mIoU", populations("miou5"), mean_share, trials, least=0, most=1)
    row("NoF@90", failures(), mean_share, trials, least=0, most=1)
    row("difference of NoC@90", differences("noc90"), paired_share, trials)
    row("difference of 5-mIoU", differences("miou5"), paired_share, trials, unseen=0.5)
    row("difference of NoF@90", failure_differences(), paired_share, trials, unseen=1)
    few = max(100, trials // 5)
    row("NoC@90, several objects an image", populations("noc90"), cluster_share, few)
    row("difference of NoC@90, several objects an image", differences("noc90"), cluster_share, few, paired=True)
    lines += ["", f"| coverage in % by rounds | {' | '.join(map(str, ROUNDS))} |", "|---" * (len(ROUNDS) + 1) + "|"]
    for r in (0.0, 0.3, 0.6, 0.9):
        shares = [ratio_share(r, n, trials, np.random.default_rng([seed, n])) for n in ROUNDS]
        lines.append(f"| latency ratio, noise of correlation {r} | {_percent(shares)} |")
    shares = [fit_share(n, few, np.random.default_rng([seed, n])) for n in ROUNDS]
    return "\n".join([*lines, f"| exponent of a fit ({100 * fit_share(5, few, np.random.default_rng(seed)):.1f} at 5 rounds) | {_percent(shares)} |"])  # noqa: E501  # fmt: skip


def _percent(shares: Sequence[float]) -> str:
    return " | ".join(f"{100 * s:.1f}" for s in shares)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="experiments a cell and population")
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/rows/")
    arguments = parser.parse_args()
    text = table(arguments.trials)
    print(text)
    if arguments.write:
        store(text.split("\n"), NAMES)


if __name__ == "__main__":
    main()
