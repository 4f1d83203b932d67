"""Time per part of one step, through module hooks. Hooks disturb, so this is a pass of its own with its own table."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class PartClock:
    """Adds up the time inside each part while a step runs.

    Args:
        parts: name -> module; a ModuleList or ModuleDict counts as its members.

    Attributes:
        ms: part -> milliseconds since `reset`; a part inside another is counted in both.
        covered_ms: time inside any part, nested ones once.
    """

    def __init__(self, parts: Mapping[str, Any]):
        self.parts = dict(parts)
        self.reset()

    def reset(self) -> None:
        """Start a new step."""
        self.ms: dict[str, float] = defaultdict(float)
        self.covered_ms = 0.0
        self._depth = 0
        self._started: list[int] = []

    @contextmanager
    def listening(self) -> Iterator[PartClock]:
        """Put the hooks in place, and take them away at the end."""
        hooks = []
        for name, part in self.parts.items():
            for module in _members(part):
                hooks.append(module.register_forward_pre_hook(self._enter))
                hooks.append(module.register_forward_hook(self._leave(name)))
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: Any, inputs: Any) -> None:
        self._depth += 1
        self._started.append(time.perf_counter_ns())

    def _leave(self, name: str) -> Any:
        def leave(module: Any, inputs: Any, output: Any) -> None:
            spent = (time.perf_counter_ns() - self._started.pop()) / 1e6
            self._depth -= 1
            self.ms[name] += spent
            if self._depth == 0:
                self.covered_ms += spent

        return leave


def _members(part: Any) -> list[Any]:
    from torch import nn

    if isinstance(part, nn.ModuleDict):
        return [m for child in part.values() for m in _members(child)]
    if isinstance(part, nn.ModuleList):
        return [m for child in part for m in _members(child)]
    return [part]
