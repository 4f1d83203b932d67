"""Is BSQ attention linear and full attention quadratic, and where do they cross? `python -m
benchmarks.attention_scaling`

Times the decoder's attention alone on square token grids (one thread by default; interleaved rounds), fits the
exponent of time over tokens, and prints the grid where BSQ becomes the faster.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from harness.latency.scaling import crossover, exponent
from harness.latency.stats import median_interval
from inter2former.config import make_config
from inter2former.model import Block

SIDES = (16, 32, 48, 64, 96, 128)
KINDS = ("full", "bsq", "vq")


def measure(preset: str, rounds: int, sides: tuple[int, ...] = SIDES) -> dict[tuple[str, int], list[float]]:
    """Milliseconds of one attention for each (kind, side of the grid), one value per round."""
    parts = {}
    for kind in KINDS:
        torch.manual_seed(0)
        parts[kind] = Block(make_config(preset, dha=kind)).eval().attention
    inputs = {side: torch.randn(side * side, make_config(preset).dim) for side in sides}
    nothing = torch.zeros(0, dtype=torch.int64)
    times: dict[tuple[str, int], list[float]] = {(k, s): [] for k in KINDS for s in sides}
    with torch.no_grad():
        for number in range(rounds + 1):
            for kind, side in times:
                started = time.perf_counter()
                parts[kind].attend(inputs[side], (side, side), nothing)
                if number:  # the first round warms up
                    times[kind, side].append((time.perf_counter() - started) * 1e3)
    return times


def main() -> None:
    """Measure and print table, exponents and crossovers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="vit_b")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    times = measure(options.preset, options.rounds)
    medians = {key: median_interval(values) for key, values in times.items()}
    print(f"{options.preset}, {options.threads} threads, {options.rounds} rounds; median ms [95 % interval]")
    print("tokens  image   " + "".join(f"{kind:>28s}" for kind in KINDS))
    for side in SIDES:
        cells = (medians[kind, side] for kind in KINDS)
        row = "".join(f"{c.median:12.2f} [{c.low:6.2f}, {c.high:6.2f}]" for c in cells)
        print(f"{side * side:6d}  {16 * side:4d} px {row}")
    tokens = np.array(SIDES) ** 2.0
    large = tokens >= 1024
    column = {kind: np.array([medians[kind, side].median for side in SIDES]) for kind in KINDS}
    for kind in KINDS:
        print(f"{kind}: time ~ tokens^{exponent(tokens[large], column[kind][large]):.2f} from 1024 tokens on")
    for kind in ("bsq", "vq"):
        cross = crossover(tokens[large], column["full"][large], column[kind][large])
        print(f"full and {kind} cross at about {cross:.0f} tokens ({16 * cross**0.5:.0f} px)")


if __name__ == "__main__":
    main()
