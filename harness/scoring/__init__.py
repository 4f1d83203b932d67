"""Overlap, metrics, intervals."""
