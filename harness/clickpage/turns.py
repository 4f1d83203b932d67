"""What an action on the page leads to: the state after it, and the variants' answers as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass

from harness.clickpage.pane import Pane, Reply
from harness.segmenter import Click


class Outdated(Exception):
    """The browser acted on a state that is no longer the state, for example in a second window."""


@dataclass(frozen=True)
class Rules:
    """What a person may see and do.

    Attributes:
        title, instructions: shown above the picture.
        most_clicks: on one picture; None: any number.
        iou, truth: whether the IoU, and the true outline, may be seen.
        study: pictures come in their order, once, and switches stay as they are.
    """

    title: str = "Click"
    instructions: str = ""
    most_clicks: int | None = None
    iou: bool = True
    truth: bool = True
    study: bool = False


@dataclass(frozen=True)
class Switch:
    """A switch of a variant: its setting, allowed values, and the value now."""

    name: str
    values: tuple[str, ...]
    value: str


@dataclass(frozen=True)
class Variant:
    """A variant as the page shows it."""

    title: str
    weights: str
    switches: tuple[Switch, ...]


@dataclass(frozen=True)
class State:
    """Everything that the page shows but answers.

    Attributes:
        revision: number of the state; the browser sends it with every action.
        index, count: of the picture, from 0.
        name: of the picture.
        height, width: of the image, pixels; 0 where it cannot be shown.
        shown_height, shown_width: as the browser gets it.
        has_truth: whether the true outline may be asked for.
        clicks: so far.
        seconds: time of each click after the one before it, the first after the picture appeared; None
            where the page was started again since.
        undone: clicks that can be brought back.
        trouble: why the picture cannot be shown, or "".
        finished: the study is over.
        variants: in order.
        rules: what the person may see and do.
        user: whose clicks these are.
    """

    revision: int
    index: int
    count: int
    name: str
    height: int
    width: int
    shown_height: int
    shown_width: int
    has_truth: bool
    clicks: tuple[Click, ...]
    seconds: tuple[float | None, ...]
    undone: int
    trouble: str
    finished: bool
    variants: tuple[Variant, ...]
    rules: Rules
    user: str


@dataclass(frozen=True)
class Turn:
    """The state after an action, and the variants' replies in their order, when they are there."""

    state: State
    work: tuple[Future[Reply], ...]

    async def replies(self) -> AsyncIterator[tuple[int, Reply]]:
        """Each variant's number and reply; a browser that goes away stops no model."""
        for number, one in enumerate(self.work):
            yield number, await asyncio.shield(asyncio.wrap_future(one))


def variant_of(pane: Pane) -> Variant:
    """A pane as the page shows it."""
    switches = tuple(Switch(name, values, pane.states[name]) for name, values in pane.switches.items())
    return Variant(pane.title, pane.weights.weights_status, switches)
