"""Nested settings as dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dotted(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values that are no mappings, under their dotted names; an empty mapping leaves nothing.

    >>> dotted({"a": {"b": 1, "c": {}}, "d": [2]})
    {'a.b': 1, 'd': [2]}
    """
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
