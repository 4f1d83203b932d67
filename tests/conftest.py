"""Makes the helpers of this folder importable: `from goldens import cases, load`."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

# A shell without job control starts background work with SIGINT ignored, and children inherit that: tests of Ctrl-C
# would see nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Sweeps of the tests leave their speeds in a cache folder of their own.
os.environ["IS_BENCH_CACHE"] = tempfile.mkdtemp(prefix="tests-cache-")
