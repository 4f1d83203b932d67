"""Records that travel through files and pipes: frozen dataclasses, checked when they are read back.

Every kind of record has one schema with a number (`harness.planning.identity`, `harness.latency.records`). Another
number than those that this version reads is refused by `require_schema`, before anything else of the record is read.

Nothing heavy is imported here: a measuring child reads its job before it is pinned.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


class BadRecord(ValueError):
    """What was read from a file is not the record that it should be; the message says what is wrong."""


class UnknownSchema(BadRecord):
    """A record of a version that this one does not read."""


def require_schema(value: Mapping[str, Any], readable: Sequence[int], missing: int | None = None) -> int:
    """The schema number of a record.

    Args:
        value: the record as read from JSON.
        readable: the numbers that this version reads.
        missing: the number of a record that names none.

    Raises:
        UnknownSchema: another number.
    """
    schema = value.get("schema", missing)
    if isinstance(schema, bool) or schema not in readable:
        known = " and ".join(map(str, readable))
        raise UnknownSchema(
            f"record format {schema!r} is not known here ({known} {'are' if len(readable) > 1 else 'is'})"
        )
    return int(schema)


def read_as(cls: type[T], value: object) -> T:
    """A frozen dataclass from JSON: every field of its own kind, none missing, none unknown.

    Raises:
        BadRecord: the first thing that is wrong.
    """
    if not isinstance(value, Mapping):
        raise BadRecord(f"not a record but {type(value).__name__}")
    readers = _readers(typing.cast(typing.Hashable, cls))
    for name in value:
        if name not in readers:
            raise BadRecord(f"unknown field {name!r}")
    arguments: dict[str, Any] = {}
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
        f.name: (_reader(hints[f.name]), f.default is MISSING and f.default_factory is MISSING) for f in fields(cls)
    }


def _reader(kind: Any) -> Callable[[Any], Any]:
    """A function that gives the value back, or raises BadRecord if it is not of this kind."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return lambda value: tuple(map(_reader(inner[0]), _expect(value, list, "a list")))
    if origin is typing.Literal:
        return lambda value: value if value in inner else _refuse(value, f"one of {', '.join(map(repr, inner))}")
    if origin is types.UnionType:
        readers = [_reader(one) for one in inner]
        return lambda value: _first(readers, value)
    if origin is dict or kind is dict:
        return _mapping(_reader(inner[1]) if inner else _as_it_is)
    if kind is float:
        return lambda value: float(_expect(value, (int, float), "a number"))
    if kind is bool:
        return lambda value: value if isinstance(value, bool) else _refuse(value, "true or false")
    if kind is type(None):
        return lambda value: value if value is None else _refuse(value, "null")
    if kind in (int, str):
        return lambda value: _expect(value, kind, "a whole number" if kind is int else "text")
    if kind is Any:
        return _as_it_is
    return lambda value: read_as(kind, value)


def _mapping(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: {key: read(one) for key, one in _expect(value, dict, "a mapping").items()}


def _as_it_is(value: Any) -> Any:
    return value


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
