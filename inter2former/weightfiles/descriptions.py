"""What the names in a torch file mean, as descriptions: names, storages, tensors, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from inter2former.weightfiles.limits import MOST_DIMENSIONS, refused, shown


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names; nobody looks it up."""

    module: str
    name: str

    def __str__(self) -> str:
        return shown(f"{self.module}.{self.name}")


@dataclass(frozen=True)
class Dropped:
    """Stands for an object that is no tensor, number, text or plain container."""

    what: str


@dataclass(frozen=True)
class StorageRecord:
    """Numbers that lie elsewhere in the file: `count` of them, under `key`."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor that has been described but not read; it lies wholly inside its storage."""

    storage: StorageRecord
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


STORAGES = {
    ("torch", name): dtype
    for name, dtype in {
        "FloatStorage": torch.float32,
        "DoubleStorage": torch.float64,
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ShortStorage": torch.int16,
        "CharStorage": torch.int8,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
        "ComplexFloatStorage": torch.complex64,
        "ComplexDoubleStorage": torch.complex128,
    }.items()
} | {("torch.storage", "UntypedStorage"): torch.uint8}
"""Exact names of storages and the kind of their numbers."""
STORAGES |= {("torch.cuda", name): dtype for (module, name), dtype in STORAGES.items() if module == "torch"}

_DTYPES = {
    ("torch", name): getattr(torch, name)
    for name in (
        *("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
        *("complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"),
    )
}

# Names that no weights need and that only an attack calls. Nothing in a file is ever called, so this list keeps nobody
# safe: it makes the message say plainly what the file is.
_HOSTILE_MODULES = frozenset(
    {"os", "posix", "nt", "subprocess", "sys", "importlib", "runpy", "pty", "socket", "ctypes", "shutil"}
    | {"webbrowser", "pickle", "marshal"}
)
_HOSTILE_NAMES = frozenset(
    {("builtins", n) for n in ("eval", "exec", "compile", "open", "__import__", "breakpoint", "input")}
    | {("__builtin__", n) for n in ("eval", "exec", "compile", "open", "__import__", "execfile", "file")}
    | {("io", "open"), ("_io", "open"), ("io", "FileIO"), ("_io", "FileIO")}
    | {("torch.storage", "_load_from_bytes"), ("torch", "load"), ("torch.serialization", "load")}
)


def is_hostile(name: Name) -> bool:
    """Whether a name is one that runs commands, code or another unpickler."""
    first = name.name.partition(".")[0]  # builtins.eval.__call__ is eval
    return name.module.partition(".")[0] in _HOSTILE_MODULES or (name.module, first) in _HOSTILE_NAMES


def described(value: Any) -> str:
    """A value in a message; lists and dictionaries by their type alone, as they may be deep or hold themselves."""
    if isinstance(value, (Name, Dropped)):
        return value.what if isinstance(value, Dropped) else str(value)
    return shown(value) if isinstance(value, (str, float)) or _is_count(value) else f"a {type(value).__name__}"


def storage_of(identity: Any) -> StorageRecord | Dropped:
    """The storage that a persistent id names: ("storage", kind, key, device, count[, view])."""
    if not (isinstance(identity, tuple) and len(identity) in (5, 6) and identity[0] == "storage"):
        raise ValueError("a persistent id that is no storage")
    _, kind, key, _, count = identity[:5]
    dtype = STORAGES.get((kind.module, kind.name)) if isinstance(kind, Name) else None
    if dtype is None or (len(identity) == 6 and identity[5] is not None):
        return Dropped(f"numbers of the kind {described(kind)}")
    return StorageRecord(_text(key), dtype, _count(count))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord | Dropped:
    return storage if isinstance(storage, Dropped) else _within(storage, storage.dtype, offset, shape, strides)


def _tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any) -> Any:
    dtype = _DTYPES.get((kind.module, kind.name)) if isinstance(kind, Name) else None
    if dtype is None or isinstance(storage, Dropped):
        return Dropped(f"a tensor of the type {described(kind)}")
    return _within(storage, dtype, offset, shape, strides)


def _within(storage: StorageRecord, dtype: torch.dtype, offset: Any, shape: Any, strides: Any) -> TensorRecord:
    """Describe a tensor, if it lies within its storage and is no larger than it."""
    offset, shape, strides = _count(offset), _size(shape), _size(strides)
    if len(shape) != len(strides):
        raise refused(f"a tensor with {len(shape)} sizes and {len(strides)} strides")
    room = storage.count * storage.dtype.itemsize // dtype.itemsize
    last, numbers = offset, 1
    for size, stride in zip(shape, strides, strict=True):
        numbers *= size
        last += max(size - 1, 0) * stride
    if numbers and last >= room:
        raise refused(f"a tensor of shape {shown(shape)} ends at number {last + 1:,} of {room:,} that are there")
    if numbers > room:
        raise refused(f"a tensor of shape {shown(shape)} repeats the {room:,} numbers that are there")
    return TensorRecord(storage, dtype, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _size(values: Any = ()) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > MOST_DIMENSIONS:
        raise refused(f"a tensor with more than {MOST_DIMENSIONS} dimensions")
    return tuple(map(_count, values))


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    # Protocol 2 and later fill it with SETITEMS; before, the call has a list of pairs.
    return {_text(key): value for key, value in pairs}


def _as_it_is(values: Any = ()) -> Any:
    return values


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _count(value: Any) -> int:
    if not _is_count(value) or value < 0:
        raise refused(f"a size, stride or offset that is {described(value)}")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a key that is no text")
    return value


CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): _dictionary,
    ("builtins", "set"): _as_it_is,
    ("__builtin__", "set"): _as_it_is,
}
"""The exact names with a meaning: what a state dict consists of."""
