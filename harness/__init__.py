"""Benchmark and ablation harness for efficient interactive segmentation."""

__version__ = "0.1.0"
