"""Hydra configuration root of the harness (package data, no code)."""
