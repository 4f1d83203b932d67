"""Time per part of one step, through module hooks. Hooks disturb, so this is a pass of its own with its own table."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any


class PartClock:
    """Adds up the time inside each part, or inside a child of it that is called from elsewhere, while a step runs.

    Args:
        parts: name -> module; a ModuleList or ModuleDict counts as its members.
        wait: called before a time is taken, until the device is done (`devices.waiting`).

    Attributes:
        ms: part -> milliseconds since `reset`; a part inside another is counted in both.
        covered_ms: time inside any part, nested ones once.
    """

    def __init__(self, parts: Mapping[str, Any], wait: Callable[[], None] | None = None):
        self.parts, self._wait = dict(parts), wait or (lambda: None)
        self.reset()

    def reset(self) -> None:
        """Start a new step."""
        self.ms: dict[str, float] = defaultdict(float)
        self.covered_ms = 0.0
        self._depth: dict[str, int] = defaultdict(int)
        self._started: dict[str, int] = {}

    @contextmanager
    def listening(self) -> Iterator[PartClock]:
        """Put the hooks in place, and take them away at the end."""
        hooks = []
        for name, part in self.parts.items():
            members = _members(part)
            for module in dict.fromkeys([*members, *(child for m in members for child in m.children())]):
                hooks.append(module.register_forward_pre_hook(partial(self._enter, name)))
                hooks.append(module.register_forward_hook(partial(self._leave, name)))
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str, module: Any, inputs: Any) -> None:
        self._wait()
        for clock in (name, ""):
            if self._depth[clock] == 0:
                self._started[clock] = time.perf_counter_ns()
            self._depth[clock] += 1

    def _leave(self, name: str, module: Any, inputs: Any, output: Any) -> None:
        self._wait()
        for clock in (name, ""):
            self._depth[clock] -= 1
            if self._depth[clock] == 0:
                spent = (time.perf_counter_ns() - self._started[clock]) / 1e6
                if clock:
                    self.ms[clock] += spent
                else:
                    self.covered_ms += spent


def _members(part: Any) -> list[Any]:
    from torch import nn

    if isinstance(part, nn.ModuleDict):
        return [m for child in part.values() for m in _members(child)]
    if isinstance(part, nn.ModuleList):
        return [m for child in part for m in _members(child)]
    return [part]
