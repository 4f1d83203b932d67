"""What the tests of several systems ask of a segmenter's sessions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Click(NamedTuple):
    y: int
    x: int
    positive: bool


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def last_mask_decides(segmenter: Any) -> tuple[Any, np.ndarray]:
    """Only the last mask put in place of the answer decides about the next one; the opposite mask gives another.

    Returns the embedding and the mask, (60, 90) bool, for further questions.
    """
    embedding = segmenter.encode(photograph(60, 90))
    mask = np.zeros((60, 90), dtype=bool)
    mask[20:50, 30:80] = True
    answers = []
    for masks in ([mask], [~mask, mask], [~mask]):
        session = segmenter.start(embedding)
        session.click(Click(30, 40, True))
        for given in masks:
            session.replace_prediction(given)
        answers.append(session.click(Click(5, 80, False)))
    assert (answers[0] == answers[1]).all()
    assert not np.allclose(answers[0], answers[2])
    return embedding, mask
