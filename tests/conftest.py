"""Makes the helpers of this folder importable: `from goldens import cases, load`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
