"""Benchmark and ablation harness for efficient interactive segmentation."""

__version__ = "0.1.0"

from harness import interrupts as _interrupts  # noqa: F401  (first: Ctrl-C may come while the rest is imported)
