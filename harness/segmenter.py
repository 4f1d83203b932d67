"""The protocol between the harness and a model under test."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np


class Click(NamedTuple):
    """One click in image pixels: row, column, and whether it marks the object (True) or the background."""

    y: int
    x: int
    positive: bool


@runtime_checkable
class Session(Protocol):
    """One episode: answers each click with a score map."""

    def click(self, click: Click) -> np.ndarray:
        """Return (H, W) float32 scores after this click; the object is where they exceed the segmenter's threshold."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """A model under test: encodes an image once, then answers clicks.

    Attributes:
        encoder_key: equal for variants that can share one embedding.
        threshold: object where the returned map is greater.
    """

    encoder_key: str
    threshold: float

    def encode(self, image: np.ndarray) -> Any:
        """Do all work that is needed once per image; image is (H, W, 3) uint8 RGB."""
        ...

    def start(self, embedding: Any) -> Session:
        """Begin a fresh episode; never changes the embedding."""
        ...
