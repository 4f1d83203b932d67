"""One variant on the page: it answers a list of clicks, whatever was undone before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.clicking.loop import encode, object_mask, synchronise
from harness.clicking.records import Weights
from harness.clickpage import masks, overlays
from harness.clickpage.pictures import Picture
from harness.errors import UserError
from harness.planning.environment import hide
from harness.planning.plan import Variant
from harness.segmenter import Click
from harness.text import printable

Clicks = tuple[Click, ...]


@dataclass(frozen=True)
class Answer:
    """What a variant answers to a list of clicks.

    Attributes:
        mask: at the size that is shown; None after an error.
        digest: of the whole mask.
        iou, biou: 0..1; None without truth.
        online_ms: time of the last click's answer; None where there is no click.
        overlays: what the parts did.
        error: why there is no mask, or "".
    """

    mask: masks.Runs | None
    digest: str = ""
    iou: float | None = None
    biou: float | None = None
    online_ms: float | None = None
    overlays: tuple[overlays.Box | overlays.Cells, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Reply:
    """What a variant says to an action.

    Attributes:
        answer: to the clicks.
        encode_ms: of the picture, once for all variants with one encoder.
        ious, online_ms: after each of the clicks; NaN where not known.
    """

    answer: Answer
    encode_ms: float = 0.0
    ious: tuple[float, ...] = ()
    online_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class Encoding:
    """An encoded picture; `error` where that failed."""

    embedding: Any
    encode_ms: float
    error: str = ""


class Encoder:
    """Encodes the current picture once for all variants with one encoder. Used by the worker thread alone."""

    def __init__(self) -> None:
        self._picture: Picture | None = None
        self._encodings: dict[str, Encoding] = {}

    def of(self, segmenter: Any, picture: Picture) -> Encoding:
        """The picture's encoding by this segmenter's encoder."""
        if picture is not self._picture:
            self._picture, self._encodings = picture, {}
        key = str(segmenter.encoder_key)
        if key not in self._encodings:
            try:
                self._encodings[key] = Encoding(*encode(segmenter, picture.pixels))
            except Exception as error:
                return Encoding(None, 0.0, _said(error))
        return self._encodings[key]


class Pane:
    """A variant with its session on the current picture. Everything but the attributes is the worker thread's.

    Args:
        variant: what runs; built here, UserError if that fails.
        encoder: shared by all panes.

    Attributes:
        title: the variant's name with the switches that were changed.
        weights: state and digest of its weights.
        switches: setting -> allowed values, which a segmenter offers by an attribute of that name; only settings that
            stand in the variant's configuration.
        states: setting -> its value now.
    """

    def __init__(self, variant: Variant, encoder: Encoder):
        self.variant, self._encoder = variant, encoder
        self._changes: dict[str, str] = {}
        self._use(variant, variant.make())
        self._forget(None)

    def _use(self, variant: Variant, segmenter: Any) -> None:
        if hasattr(segmenter, "keep_trace"):
            segmenter.keep_trace = True
        self._segmenter = segmenter
        self.weights = Weights.of(segmenter)
        offered = getattr(segmenter, "switches", None)
        offered = offered if isinstance(offered, Mapping) else {}
        self.switches: dict[str, tuple[str, ...]] = {
            str(name): tuple(map(str, states)) for name, states in offered.items() if name in variant.config
        }
        self.states = {name: _state(variant.config[name]) for name in self.switches}
        self.title = " ".join([self.variant.name, *(f"{k}={v}" for k, v in self._changes.items())])

    def _forget(self, picture: Picture | None) -> None:
        self._picture = picture
        self._session: Any = None
        self._applied: Clicks = ()
        self._answers: dict[Clicks, Answer] = {}

    def open(self, picture: Picture) -> Encoding:
        """Begin on a picture; encodes it unless another variant has."""
        if picture is not self._picture:
            self._forget(picture)
        return self._encoder.of(self._segmenter, picture)

    def reply(self, picture: Picture, clicks: Clicks, done: Callable[[Clicks, Answer], None]) -> Reply:
        """The answer to these clicks, made anew unless it is known.

        Args:
            done: is told every answer to a click when it is made.
        """
        encoding = self.open(picture)
        answer = self._answer(picture, encoding, clicks, done)
        known = [self._answers.get(clicks[: i + 1]) for i in range(len(clicks))]
        return Reply(
            answer,
            encoding.encode_ms,
            tuple(math.nan if one is None or one.iou is None else one.iou for one in known),
            tuple(math.nan if one is None or one.online_ms is None else one.online_ms for one in known),
        )

    def _answer(
        self, picture: Picture, encoding: Encoding, clicks: Clicks, done: Callable[[Clicks, Answer], None]
    ) -> Answer:
        if encoding.error:
            return Answer(None, error=encoding.error)
        if not clicks:
            return Answer(masks.encode(np.zeros(picture.shown_size, dtype=bool)))
        if clicks not in self._answers:
            try:
                self._rewind(encoding, clicks[:-1], done)
                self._click(clicks[-1], done)
            except Exception as error:
                self._session = None  # in which state a failed click left it, nobody knows
                return Answer(None, error=_said(error))
        return self._answers[clicks]

    def settle(self, picture: Picture, clicks: Clicks) -> None:
        """Bring the session to these clicks, so that the next one need not wait for it."""
        encoding = self.open(picture)
        if not encoding.error:
            try:
                self._rewind(encoding, clicks, lambda *_: None)
            except Exception:
                self._session = None  # the next click meets the same error and says so

    def switch(self, name: str, value: str) -> None:
        """Set a switch of the model; the answers are made anew.

        Raises:
            UserError: unknown switch or value, or a model that cannot be built so; the pane stays as it was.
        """
        if name not in self.switches or value not in self.switches[name]:
            raise UserError(f"{self.variant.name} has no switch {name}={value}.")
        changes = {**self._changes, name: value}
        if value == _state(self.variant.config[name]):
            del changes[name]
        variant = Variant(self.variant.name, {**self.variant.config, **changes}, {**self.variant.shown, **changes})
        segmenter = variant.make()
        self._changes = changes
        self._use(variant, segmenter)
        self._forget(self._picture)

    def _rewind(self, encoding: Encoding, clicks: Clicks, done: Callable[[Clicks, Answer], None]) -> None:
        """Have a session that was given exactly these clicks: segmenters have no undo, but a fresh start."""
        if self._session is None or clicks[: len(self._applied)] != self._applied:
            self._session, self._applied = self._segmenter.start(encoding.embedding), ()
        for click in clicks[len(self._applied) :]:
            self._click(click, done)

    def _click(self, click: Click, done: Callable[[Clicks, Answer], None]) -> None:
        picture = self._picture
        assert picture is not None
        started = time.perf_counter()
        scores = self._session.click(click)
        synchronise(self._segmenter)
        online_ms = (time.perf_counter() - started) * 1e3
        mask = object_mask(scores, float(self._segmenter.threshold), picture.size)
        self._applied = (*self._applied, click)
        if self._applied in self._answers:
            return
        truth = picture.truth
        answer = Answer(
            masks.encode(masks.resized(mask, picture.shown_size)),
            masks.digest(mask),
            None if truth is None else truth.iou(mask),
            None if truth is None else truth.biou(mask),
            online_ms,
            overlays.of(self._session),
        )
        self._answers[self._applied] = answer
        done(self._applied, answer)


def build(variants: Sequence[Variant]) -> list[Pane]:
    """Panes of variants, which share encodings; UserError if one cannot be built."""
    encoder = Encoder()
    return [Pane(variant, encoder) for variant in variants]


def _state(value: object) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _said(error: Exception) -> str:
    return hide(printable(f"{type(error).__name__}: {' '.join(str(error).split())}"))[:500]
