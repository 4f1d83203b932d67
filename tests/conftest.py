"""Makes the helpers of this folder importable: `from goldens import cases, load`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

# Sweeps of the tests leave their speeds in a cache folder of their own.
os.environ["IS_BENCH_CACHE"] = tempfile.mkdtemp(prefix="tests-cache-")
