"""A segmenter that does what no segmenter may, where and how it is told to."""

import ctypes
import os
import signal
import sys
import time

import numpy as np
from toy_systems import DiscSegmenter, DiscSession


class Unruly(DiscSegmenter):
    """Like DiscSegmenter, but for one thing.

    Args:
        how: what it does.
        where: build | encode | click.
        sample: only on this sample, known by the grey of its image (square0 is 90); "": on every one.
    """

    def __init__(self, how="", where="click", sample="", radius=12, encoder="unruly"):
        super().__init__(radius, encoder=encoder)
        self.how, self.where, self.sample = how, where, sample
        self.misbehave("build", "")

    def misbehave(self, where, name):
        """Do it, if this is the place; gives a change of the answer where that is what is wrong."""
        if where == self.where and self.sample in ("", name):
            return getattr(sys.modules[__name__], self.how, lambda: None)()
        return None

    def encode(self, image):
        name = f"square{image[0, 0, 0] - 90}"
        self.misbehave("encode", name)
        return super().encode(image), name

    def start(self, embedding):
        return UnrulySession(self, *embedding)


class UnrulySession(DiscSession):
    def __init__(self, owner, shape, name):
        super().__init__(owner, shape)
        self.name = name

    def click(self, click):
        change = self.owner.misbehave("click", self.name)
        return super().click(click) if change is None else change(super().click(click))


class Stop(BaseException):
    pass


def exits():
    sys.exit(0)


def raises():
    raise RuntimeError("breaks")


def raises_base():
    raise Stop("no Exception")


def interrupts():
    raise KeyboardInterrupt


def segfaults():
    ctypes.string_at(0)


def aborts():
    os.abort()


def leaves():
    os._exit(0)


def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def hangs():
    while True:
        time.sleep(0.01)


def hangs_and_swallows():
    end = time.monotonic() + 3600
    while time.monotonic() < end:
        try:
            time.sleep(3600)
        except Exception:
            continue


def hangs_natively():
    """Threads go on, but no signal gets through: pause() is called again and again below Python."""
    libc = ctypes.CDLL(None)
    end = time.monotonic() + 3600

    while time.monotonic() < end:
        libc.sigprocmask(0, ctypes.create_string_buffer(b"\xff" * 128), None)
        libc.sleep(3600)


def complex_():
    return lambda scores: scores.astype(complex)


def masked():
    return lambda scores: np.ma.masked_less(scores, 0.5)


def object_():
    return lambda scores: scores.astype(object)


def text():
    return lambda scores: scores.astype(str)


def nans():
    return lambda scores: np.where(scores > 0, np.nan, 0).astype(np.float32)


def infinite():
    return lambda scores: np.where(scores > 0.5, np.inf, -np.inf).astype(np.float32)
