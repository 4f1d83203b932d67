"""FLOPs: counting, tracing, formulas."""
