"""The annotator's depths: `harness.clicking.distance` against one exact transform of the cropped error.

    python benchmarks/annotator_distance.py            # CPU milliseconds, one thread

CPU ms (long form / plain form) of finding the deepest pixels, AMD EPYC, OpenCV 4 with one thread:

    side   whole object   blobs over all   thin ring    wandering edge   specks
    1024   3.3 / 6.9      7.4 / 15.9       7.0 / 6.7    1.4 / 3.4        6.1 / 12.5
    2048   13.3 / 29.4    31.0 / 68.0      28.1 / 26.0  4.0 / 15.2       7.4 / 55.2

The long form takes half the time or less but for thin rings, where the two are alike: so it stays. With `deepest(0.5)`
(the jittered annotator) the plain form is the faster one on whole objects (8.2 against 15.9 ms at 1024).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "harness")]

from plain_distance import PlainDepth  # noqa: E402
from test_distance import KINDS  # noqa: E402

from harness.clicking.distance import Depth  # noqa: E402


def cpu_ms(form: type, error: np.ndarray, share: float, repeats: int = 9) -> float:
    """Least CPU time of one search, of so many."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        form(error).deepest(share)
        times.append(time.process_time() - started)
    return min(times) * 1e3


def main() -> None:
    """Print a line for each size, kind and share."""
    cv2.setNumThreads(1)
    for side in (512, 1024, 2048):
        for kind in KINDS:
            error = kind(np.random.default_rng(0), side)
            for share in (1.0, 0.5):
                long, plain = (cpu_ms(form, error, share) for form in (Depth, PlainDepth))
                print(f"{side:5d} {kind.__name__:8s} share {share:.1f}: {long:7.2f} ms, plain {plain:7.2f} ms")


if __name__ == "__main__":
    main()
