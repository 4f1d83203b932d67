"""A time limit for every step of the quality pass, and a note of which step runs, for whoever survives it."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Protocol

_AGAIN_S = 5.0


class Watch(Protocol):
    """Is told which step runs, so that it is known after a crash."""

    def begin(self, variant: str, sample: str) -> None:
        """This variant begins on this sample; "": it is being built."""
        ...

    def end(self) -> None:
        """The step ended, well or with an error."""
        ...


class EpisodeTimeout(BaseException):
    """A step took longer than its limit. Like KeyboardInterrupt no Exception, so that a model does not swallow it."""


class Guard:
    """Runs the steps of one process under a time limit.

    A step that Python can interrupt gets an EpisodeTimeout. One that it cannot (a deadlock or an endless loop in native
    code) is reported to `stuck` after some grace; where even that thread cannot run, the process ends.

    Args:
        limit_s: seconds per step; None: no limit.
        watch: is told of every step.
        stuck: called in another thread with (variant, sample) of a step that cannot be interrupted; must not return
            to normal work. None: such a step is waited for.
        last_words: file for the stacks of a process that has to be ended.
    """

    def __init__(
        self,
        limit_s: float | None = None,
        watch: Watch | None = None,
        stuck: Callable[[str, str], None] | None = None,
        last_words: IO[str] | None = None,
    ):
        self.limit_s, self._watch, self._stuck, self._last_words = limit_s, watch, stuck, last_words
        self.grace_s = min(30.0, max(2.0, limit_s or 0.0))
        self._step: tuple[str, str, float] | None = None
        if limit_s and stuck:
            threading.Thread(target=self._look, name="episode-limit", daemon=True).start()

    @contextlib.contextmanager
    def step(self, variant: str, sample: str) -> Iterator[None]:
        """Raises EpisodeTimeout inside the block once it has taken too long."""
        if self._watch is not None:
            self._watch.begin(variant, sample)
        if self.limit_s:
            self._step = (variant, sample, time.monotonic() + self.limit_s + self.grace_s)
        last_resort = bool(self.limit_s and self._stuck and self._last_words)
        if last_resort:
            assert self.limit_s is not None
            faulthandler.dump_traceback_later(self.limit_s + 2 * self.grace_s, exit=True, file=self._last_words)  # type: ignore[arg-type]
        try:
            with time_limit(self.limit_s):
                yield
        finally:
            self._step = None
            if last_resort:
                faulthandler.cancel_dump_traceback_later()
            if self._watch is not None:
                self._watch.end()

    def _look(self) -> None:
        while True:
            time.sleep(0.5)
            step = self._step
            if step is not None and time.monotonic() > step[2]:
                assert self._stuck is not None
                self._stuck(step[0], step[1])


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise EpisodeTimeout in the block after so many seconds, and again every few seconds until it ends.

    Does nothing outside the main thread, where Python has no signals. A timer that ran before goes on afterwards.
    """
    if not seconds or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    running = True

    def ring(signum: int, frame: object) -> None:
        if running:
            raise EpisodeTimeout(f"no answer within {seconds:g} s (executor.episode_timeout_s)")

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), 1e-3), interval)
