"""Scenes composed at run time."""

from harness.datasets.scenes.dataset import Scenes

__all__ = ["Scenes"]
