"""A session and copies of it, for protocols that try several clicks from one state."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.clicking.starts import begin
from harness.segmenter import Click, Segmenter


class Branches:
    """One episode's session, which can be copied.

    A session with a method `copy()` is copied by it; any other by a fresh one that answers the same clicks again.

    Args:
        start: (H, W) bool mask that the episode begins from; None: from nothing.

    Attributes:
        session: the one that the episode goes on with.
    """

    def __init__(self, segmenter: Segmenter, embedding: Any, start: np.ndarray | None = None):
        self.segmenter, self._embedding, self._start = segmenter, embedding, start
        self._clicks: list[Click] = []
        self.session = self._fresh()

    def another(self) -> Any:
        """A session in the state of `session`, which it does not touch."""
        if callable(getattr(self.session, "copy", None)):
            return self.session.copy()
        session = self._fresh()
        for click in self._clicks:
            session.click(click)
        return session

    def follow(self, session: Any, click: Click) -> None:
        """Go on with a copy that has answered a click."""
        self.session = session
        self._clicks.append(click)

    def _fresh(self) -> Any:
        session = self.segmenter.start(self._embedding)
        if self._start is not None:
            begin(self.segmenter, session, self._start)
        return session
