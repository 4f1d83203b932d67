"""Keeps the released names in state dicts where our modules are nested one level deeper."""

from __future__ import annotations

from typing import Any

from torch import nn


def flatten_child(parent: nn.Module, name: str) -> None:
    """Let the entries of `parent.NAME` appear in state dicts as if they were the parent's own.

    The released checkpoint keeps, for example, the projections of an attention beside the norms of its block;
    as a module of its own the attention can be timed, counted and tested. Order and loading follow the
    shorter names.
    """
    child = getattr(parent, name)

    def shorten(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        long = f"{prefix}{name}."
        entries = list(state.items())
        state.clear()
        for key, value in entries:
            state[prefix + key[len(long) :] if key.startswith(long) else key] = value

    def lengthen(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for key in child.state_dict():
            if prefix + key in state:
                state[f"{prefix}{name}.{key}"] = state.pop(prefix + key)

    parent._register_state_dict_hook(shorten)
    parent.register_load_state_dict_pre_hook(lengthen)
