"""A segmenter that answers with discs, but for one thing that no segmenter may do."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from toy_systems import DiscSegmenter, DiscSession  # of tests/harness/user_folder


class Misbehaving(DiscSegmenter):  # type: ignore[misc]
    """Does what `how` names when it is built, encodes, starts or clicks.

    Args:
        how: key of `DEEDS` or of `ANSWERS`.
        where: build | encode | start | click; answers are given to clicks.
        encoder: see `DiscSegmenter`; what one embeds another may start from.
    """

    def __init__(self, how: str = "", where: str = "click", encoder: str = "misbehaving"):
        super().__init__(encoder=encoder)
        self.how, self.where = how, where
        self.reach("build")

    def reach(self, place: str) -> None:
        """Do the deed, if this is its place."""
        if place == self.where and self.how in DEEDS:
            DEEDS[self.how]()

    def encode(self, image: NDArray[np.uint8]) -> Any:
        self.reach("encode")
        return super().encode(image)

    def start(self, embedding: Any) -> MisbehavingSession:
        self.reach("start")
        return MisbehavingSession(self, embedding)


class MisbehavingSession(DiscSession):  # type: ignore[misc]
    """Session of `Misbehaving`."""

    def click(self, click: Any) -> Any:
        self.owner.reach("click")
        return ANSWERS.get(self.owner.how, lambda scores: scores)(super().click(click))


class Stop(BaseException):
    """Not an Exception."""


class Unprintable(RuntimeError):
    """Its text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


def throw(error: BaseException) -> Callable[[], None]:
    """A deed that raises."""

    def deed() -> None:
        raise error

    return deed


def hang() -> None:
    """Answer never."""
    while True:
        time.sleep(0.01)


def recurse() -> None:
    """Exceed Python's stack."""
    recurse()


DEEDS: dict[str, Callable[[], Any]] = {
    "exits_0": lambda: sys.exit(0),
    "exits_text": lambda: sys.exit("[red]text[/]\nmore"),
    "raises": throw(RuntimeError("breaks")),
    "raises_base": throw(Stop("no Exception")),
    "raises_generator": throw(GeneratorExit()),
    "raises_stop": throw(StopIteration(3)),
    "raises_lines": throw(RuntimeError("one\ntwo\r\nerror: three\x1b[31m\x00")),
    "raises_markup": throw(RuntimeError("[/b] [link=x] $\\frac{$ {x} %s <b>")),
    "raises_surrogate": throw(RuntimeError("\udcff")),
    "raises_half_pair": throw(RuntimeError("\ud800")),
    "raises_huge": throw(RuntimeError("x" * 1_000_000)),
    "raises_unprintable": throw(Unprintable()),
    "raises_memory": throw(MemoryError()),
    "recurses": recurse,
    "hangs": hang,
    "leaves": lambda: os._exit(0),
    "leaves_3": lambda: os._exit(3),
    "aborts": os.abort,
    "segfaults": lambda: ctypes.string_at(0),
}

ANSWERS: dict[str, Callable[[NDArray[np.float32]], Any]] = {
    "none": lambda scores: None,
    "list": lambda scores: scores.tolist(),
    "number": lambda scores: 0.5,
    "nan": lambda scores: np.where(scores > 0, np.nan, scores),
    "complex": lambda scores: scores.astype(complex),
    "masked": lambda scores: np.ma.masked_less(scores, 0.5),
    "object": lambda scores: scores.astype(object),
    "text": lambda scores: scores.astype(str),
    "bytes": lambda scores: scores.astype("S4"),
    "time": lambda scores: scores.astype("datetime64[s]"),
    "record": lambda scores: np.zeros(scores.shape, [("a", "f4")]),
    "three_axes": lambda scores: scores[None],
    "smaller": lambda scores: scores[1:],
    "turned": lambda scores: scores[:, :-1].T,
    "empty": lambda scores: scores[:0],
}
