"""A segmenter for tests of protocols: each click paints a disc. It counts its encodings and can begin from a mask."""

from __future__ import annotations

import numpy as np


class Brush:
    """Scores 1 where the last disc over a pixel was positive, else 0."""

    encoder_key, threshold = "brush", 0.5
    weights_status = "no weights"

    def __init__(self, radius: float = 6.0):
        self.radius, self.encoded = radius, 0

    def encode(self, image: np.ndarray) -> tuple[int, ...]:
        self.encoded += 1
        return image.shape[:2]

    def start(self, embedding: tuple[int, ...]) -> BrushSession:
        return BrushSession(self.radius, embedding)


class BrushSession:
    def __init__(self, radius: float, shape: tuple[int, ...]):
        self.radius = radius
        self.scores = np.zeros(shape, np.float32)

    def click(self, click) -> np.ndarray:
        y, x, positive = click
        rows, columns = np.ogrid[: self.scores.shape[0], : self.scores.shape[1]]
        self.scores[np.hypot(rows - y, columns - x) <= self.radius] = float(positive)
        return self.scores.copy()

    def replace_prediction(self, mask: np.ndarray) -> None:
        self.scores = mask.astype(np.float32)


class CopyingBrush(Brush):
    """The same with sessions that copy themselves; `answers` counts all clicks."""

    def __init__(self, radius: float = 6.0):
        super().__init__(radius)
        self.answers = 0

    def start(self, embedding: tuple[int, ...]) -> CopyingSession:
        return CopyingSession(self, embedding)


class CopyingSession(BrushSession):
    def __init__(self, owner: CopyingBrush, shape: tuple[int, ...]):
        super().__init__(owner.radius, shape)
        self.owner = owner

    def click(self, click) -> np.ndarray:
        self.owner.answers += 1
        return super().click(click)

    def copy(self) -> CopyingSession:
        other = CopyingSession(self.owner, self.scores.shape)
        other.scores = self.scores.copy()
        return other


class Deaf(Brush):
    """A segmenter whose sessions take no mask."""

    def start(self, embedding: tuple[int, ...]) -> DeafSession:
        return DeafSession(self.radius, embedding)


class DeafSession(BrushSession):
    replace_prediction = None  # type: ignore[assignment]
