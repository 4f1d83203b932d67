"""Times the ViT-B encoder and the edge detector against their direct transcriptions, alternating in one process.

    python benchmarks/encoder.py --threads 2 --size 1024 --rounds 5 [--only encoder|edges] [--json FILE]

The transcriptions (`tests/transcriptions.py`) are the same networks operator by operator: the encoder with plain
`scaled_dot_product_attention` and padded queries, the edge detector with `nn.functional` convolutions and GroupNorm.
Beside the times stands the roof: multiplications over the matrix-product speed measured in the same process. Nothing
else should run on the machine; the share of processor time tells whether that held (1.00 per thread).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import transcriptions

from inter2former.edges import CannyNet
from inter2former.encoders.hrsam import HRSAMEncoder

Case = Callable[[], object]


def fill(module: nn.Module) -> nn.Module:
    """Give every trained parameter seeded random values at a natural scale."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if parameter.requires_grad:
            scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.02
            offset = 1.0 if parameter.dim() == 1 else 0.0
            parameter.data.copy_(offset + scale * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def matmul_speed(dtype: torch.dtype = torch.float32) -> float:
    """Return the best of a few square matrix products, in multiply-adds per second."""
    side = 1536
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return side**3 / best


def multiply_adds(case: Case) -> float:
    """Return the multiply-adds of convolutions, linear layers and attention."""
    with FlopCounterMode(display=False) as counter:
        case()
    return counter.get_total_flops() / 2


def encoder_cases(size: int) -> tuple[dict[str, Case], float]:
    """Return the ways to encode, and the least multiply-adds: no padded queries."""
    encoder, low = fill(HRSAMEncoder()), fill(HRSAMEncoder(precision="bf16"))
    state, image = dict(encoder.state_dict()), torch.randn(1, 3, size, size)
    cases: dict[str, Case] = {
        "transcription": lambda: transcriptions.encode(image, state),
        "ours fp32": lambda: encoder(image),
        "ours bf16": lambda: low(image),
    }
    assert isinstance(low, HRSAMEncoder)
    print(f"encoder: bf16 against fp32 at {size}: {low.precision_error(image)}")
    return cases, multiply_adds(cases["ours fp32"])


def edge_cases(size: int) -> tuple[dict[str, Case], float]:
    """Return the ways to detect edges, and the multiply-adds of the direct sums."""
    net = fill(CannyNet())
    state, image = dict(net.state_dict()), torch.randn(1, 3, size, size)
    cases: dict[str, Case] = {
        "transcription": lambda: transcriptions.canny_net(image, state),
        "ours fp32": lambda: net(image),
    }
    return cases, multiply_adds(cases["ours fp32"])


def alternate(cases: dict[str, Case], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return (wall, processor) seconds per round, the cases taking turns after one round that is not counted."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            wall, processor = time.perf_counter(), time.process_time()
            case()
            if number:
                times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def report(part: str, times: dict[str, list[tuple[float, float]]], roof_s: float, threads: int) -> list[dict]:
    """Print one line per case and return the same as rows; ratios are taken within each round."""
    base, rows = [wall for wall, _ in times["transcription"]], []
    for name, pairs in times.items():
        walls = [wall for wall, _ in pairs]
        ratios = [wall / other for wall, other in zip(walls, base, strict=True)]
        row = {
            "part": part,
            "case": name,
            "threads": threads,
            "median_s": statistics.median(walls),
            "low_s": min(walls),
            "high_s": max(walls),
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
            "processor_share": sum(cpu for _, cpu in pairs) / sum(walls) / threads,
            "roof_s": roof_s,
            "rounds": len(pairs),
        }
        rows.append(row)
        print(
            f"{part:8} {name:14} {threads} threads: {row['median_s']:.3f} s ({row['low_s']:.3f}-{row['high_s']:.3f}),"
            f" {row['ratio']:.2f} of the transcription ({row['ratio_low']:.2f}-{row['ratio_high']:.2f}),"
            f" processor share {row['processor_share']:.2f}, fp32 roof {roof_s:.2f} s"
        )
    return rows


@torch.no_grad()
def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("encoder", "edges"))
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    rows = []
    for part, make in (("encoder", encoder_cases), ("edges", edge_cases)):
        if options.only not in (None, part):
            continue
        cases, products = make(options.size)
        for threads in options.threads:
            torch.set_num_threads(threads)
            roof_s = products / matmul_speed()
            rows += report(part, alternate(cases, options.rounds), roof_s, threads)
    if options.json:
        options.json.write_text(json.dumps({"size": options.size, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
