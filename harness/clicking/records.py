"""What the quality pass makes: a click row, an episode, and the weights behind it; and how each is read back."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


class BadRecord(ValueError):
    """What was read from a file is not the record that it should be; the message says what is wrong."""


@dataclass(frozen=True)
class ClickRow:
    """One click and what came of it.

    Attributes:
        click: number within the episode, from 1; 0: the mask that the episode began from.
        y, x: pixel; -1 where the annotator found nothing to click and the decoder ran again, and in row 0.
        positive: whether the click marks the object.
        iou, biou: after this click, 0..1; NaN where truth and prediction are both empty.
        online_ms: time of the model's answer in the click loop.
        simulate_ms: time of the annotator.
    """

    click: int
    y: int
    x: int
    positive: bool
    iou: float
    biou: float
    online_ms: float
    simulate_ms: float


@dataclass(frozen=True)
class GroupClicks:
    """The clicks of a further episode of the same sample (`harness.clicking.groups`)."""

    group: str
    clicks: tuple[ClickRow, ...] = ()


@dataclass(frozen=True)
class Episode:
    """One sample clicked through by one variant, or why that was not possible.

    Attributes:
        sample: name within its data set.
        height, width: of the image, pixels.
        object_share: object pixels as a share of the image, 0..1.
        size_bin: of the object.
        encode_ms: time of the image's encoding, which variants with one encoder share.
        error: why there are no clicks, or "".
        traceback: last part of the stack behind `error`.
        fatal: the error took its process along (crash, or a hang that nothing inside could end).
        clicks: in order.
        image: what several objects of one image have in common; "" in lines written before it was kept.
        groups: further episodes of this sample, where the protocol has them.
    """

    sample: str
    height: int = 0
    width: int = 0
    object_share: float = 0.0
    size_bin: str = ""
    encode_ms: float = 0.0
    error: str = ""
    clicks: tuple[ClickRow, ...] = ()
    traceback: str = ""
    fatal: bool = False
    image: str = ""
    groups: tuple[GroupClicks, ...] = ()

    def record(self) -> dict[str, Any]:
        """JSON-ready form; a failed episode has neither columns nor clicks, a good one no traceback."""
        if self.error:
            shown = {"sample": self.sample, "error": self.error, "traceback": self.traceback}
            return {**shown, "fatal": True} if self.fatal else shown
        whole = asdict(self)
        del whole["traceback"], whole["fatal"]
        if not self.groups:
            del whole["groups"]
        return whole

    @classmethod
    def read(cls, value: Any) -> Episode:
        """The episode of `record`'s form.

        Raises:
            BadRecord: a field is missing, unknown or of another kind, or the clicks are not numbered 1, 2, …
        """
        episode = read_as(cls, value)
        if not episode.error:
            missing = {"height", "width", "object_share", "size_bin", "encode_ms", "error", "clicks"} - set(value)
            if missing:
                raise BadRecord(f"no {sorted(missing)[0]!r}")
        for clicks in (episode.clicks, *(group.clicks for group in episode.groups)):
            first = 0 if clicks and clicks[0].click == 0 else 1
            if [row.click for row in clicks] != list(range(first, first + len(clicks))):
                raise BadRecord("clicks are not numbered 1, 2, …")
            for row in clicks:
                if row.iou < 0 or row.iou > 1 or row.biou < 0 or row.biou > 1:  # NaN passes: an empty mask has no IoU
                    raise BadRecord(f"click {row.click} has an overlap outside 0..1")
        return episode


@dataclass(frozen=True)
class Weights:
    """What a segmenter tells about its weights.

    Attributes:
        weights_status: released, trained here, untrained, no weights or unknown.
        weights_digest: of the file; may be "".
        parameters: their number.
    """

    weights_status: str = "unknown"
    weights_digest: str = ""
    parameters: int = 0

    @classmethod
    def of(cls, segmenter: Any) -> Weights:
        """Weights of a segmenter; `parameters` may be a number or, as in a torch module, a method."""
        count = getattr(segmenter, "parameters", 0)
        if callable(count):
            count = sum(p.numel() for p in count())
        return cls(
            str(getattr(segmenter, "weights_status", "unknown")),
            str(getattr(segmenter, "weights_digest", "")),
            int(count or 0),
        )


@dataclass(frozen=True)
class Result:
    """An episode as it arrives at the sweep.

    Attributes:
        machine: id of the machine that it was made on, "" for the sweep's own.
    """

    variant: str
    episode: Episode
    weights: Weights = Weights()
    machine: str = ""


def read_as(cls: type[T], value: Any) -> T:
    """A frozen dataclass from JSON: every field of its own kind, none missing, none unknown.

    Raises:
        BadRecord: the first thing that is wrong.
    """
    if not isinstance(value, Mapping):
        raise BadRecord(f"not a record but {type(value).__name__}")
    readers = _readers(cls)  # type: ignore[arg-type]
    for name in value:
        if name not in readers:
            raise BadRecord(f"unknown field {name!r}")
    arguments = {}
    for name, (read, needed) in readers.items():
        if name in value:
            try:
                arguments[name] = read(value[name])
            except BadRecord as error:
                raise BadRecord(f"{name}: {error}") from error
        elif needed:
            raise BadRecord(f"no {name!r}")
    return cls(**arguments)


@functools.cache
def _readers(cls: Any) -> dict[str, tuple[Callable[[Any], Any], bool]]:
    hints = typing.get_type_hints(cls)
    return {
        f.name: (_reader(hints[f.name]), f.default is MISSING and f.default_factory is MISSING)
        for f in fields(cls)  # type: ignore[arg-type]
    }


def _reader(kind: Any) -> Callable[[Any], Any]:
    """A function that gives the value back, or raises BadRecord if it is not of this kind."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return lambda value: tuple(map(_reader(inner[0]), _expect(value, list, "a list")))
    if origin is types.UnionType:
        readers = [_reader(one) for one in inner]
        return lambda value: _first(readers, value)
    if origin is dict or kind is dict:
        return lambda value: _expect(value, dict, "a mapping")
    if kind is float:
        return lambda value: float(_expect(value, (int, float), "a number"))
    if kind is bool:
        return lambda value: value if isinstance(value, bool) else _refuse(value, "true or false")
    if kind is type(None):
        return lambda value: value if value is None else _refuse(value, "null")
    if kind in (int, str):
        return lambda value: _expect(value, kind, "a whole number" if kind is int else "text")
    if kind is Any:
        return lambda value: value
    return lambda value: read_as(kind, value)


def _expect(value: Any, kind: Any, name: str) -> Any:
    return value if isinstance(value, kind) and not isinstance(value, bool) else _refuse(value, name)


def _first(readers: list[Callable[[Any], Any]], value: Any) -> Any:
    for read in readers[:-1]:
        try:
            return read(value)
        except BadRecord:
            continue
    return readers[-1](value)


def _refuse(value: Any, name: str) -> Any:
    raise BadRecord(f"{str(value)[:40]!r} is not {name}")
