"""`python -m harness.machine.peaks CPUS quick|full`: peaks of so many pinned CPUs, as one JSON line.

The roofs of the roofline: fp32 and bf16 matrix products (what oneDNN or the BLAS reaches on 1536 x 1536, not the data
sheet's peak) and the bandwidth of copying a buffer larger than the caches.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from harness.latency import pinning

_SIDE = 1536
_COPY_BYTES = 256 * 2**20


def main() -> None:
    """Pin, measure, print."""
    cpus = [int(c) for c in sys.argv[1].split(",")]
    seconds = 0.3 if sys.argv[2:] == ["quick"] else 3.0
    pinning.pin(cpus)
    pinning.set_threads(len(cpus))
    import torch

    with torch.inference_mode():
        a = torch.randn(_SIDE, _SIDE)
        b = torch.randn(_SIDE, _SIDE)
        out = torch.empty_like(a)
        fp32 = best_rate(lambda: torch.mm(a, b, out=out), 2 * _SIDE**3, seconds)
        a16, b16, out16 = a.bfloat16(), b.bfloat16(), out.bfloat16()
        bf16 = best_rate(lambda: torch.mm(a16, b16, out=out16), 2 * _SIDE**3, seconds)
        source = torch.zeros(_COPY_BYTES // 4)
        target = torch.ones_like(source)
        # A copy reads and writes every byte; the read for ownership of the target is not counted.
        copy = best_rate(lambda: target.copy_(source), 2 * _COPY_BYTES, seconds)
    print(json.dumps({"fp32_gflops": fp32 / 1e9, "bf16_gflops": bf16 / 1e9, "copy_gb_per_s": copy / 1e9}))


def best_rate(call: Callable[[], object], work: float, seconds: float) -> float:
    """Work per second of the fastest call within so many seconds (at least three calls): a roof is a maximum."""
    call()
    best, calls, started = float("inf"), 0, time.perf_counter()
    while calls < 3 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - before)
        calls += 1
    return work / best


if __name__ == "__main__":
    main()
