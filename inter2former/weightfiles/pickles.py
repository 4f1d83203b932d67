"""A pickle as data: the plain values and tensor descriptions that it spells out, without a class or function of it.

Python's unpickler looks every name up and calls it. This one looks nothing up: it walks through the instructions
(`pickletools.genops`) and keeps a name as a name. Exactly the pairs of `descriptions.CALLS` have a meaning, each as a
description; every other object becomes `Dropped`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from inter2former.weightfiles.descriptions import CALLS, Dropped, Name, described, is_hostile, storage_of
from inter2former.weightfiles.limits import MOST_STEPS, WeightFileError, damaged, refused


class PickleReader:
    """Reads pickles of one file.

    Attributes:
        dropped: every name of an object that was left out, in order of appearance.
        hostile: those among the names that run something; they were not called.
    """

    def __init__(self) -> None:
        self.dropped: dict[str, None] = {}
        self.hostile: dict[str, None] = {}
        self._steps = 0

    def read(self, file: Any) -> Any:
        """Return the value of the pickle at the file's position, which afterwards is behind it.

        The file must give no more bytes than it has, however many are asked for (as `mmap` and `BytesIO` do).

        Raises:
            WeightFileError: not a pickle, cut off, over a limit, or with a tensor outside of its numbers.
        """
        try:
            return self._run(file)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            if isinstance(error, WeightFileError):
                raise
            raise damaged(f"its pickle breaks off: {type(error).__name__}: {error}") from error

    def _run(self, file: Any) -> Any:  # noqa: C901, PLR0915 (a branch an opcode)
        stack: list[Any] = []
        outer: list[list[Any]] = []
        memo: dict[int, Any] = {}
        argument: Any

        def items() -> list[Any]:
            """What lies above the last mark."""
            nonlocal stack
            above, stack = stack, outer.pop()
            return above

        for opcode, argument, _ in pickletools.genops(file):
            self._charge(1)
            name = opcode.name
            if name in _LITERALS:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name in ("PROTO", "FRAME"):
                pass
            elif name == "STOP":
                return stack.pop()
            elif name == "MARK":
                outer.append(stack)
                stack = []
            elif name == "POP":
                # As in Python: without anything above the mark, the mark itself is popped.
                if stack:
                    stack.pop()
                else:
                    items()
            elif name == "POP_MARK":
                items()
            elif name == "DUP":
                stack.append(stack[-1])
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "APPEND":
                value = stack.pop()
                _extend(stack[-1], [value])
            elif name in ("APPENDS", "ADDITEMS"):
                values = items()
                _extend(stack[-1], values)
            elif name == "SETITEM":
                value = stack.pop()
                self._set_items(stack[-2], [stack.pop(), value])
            elif name == "SETITEMS":
                values = items()
                self._set_items(stack[-1], values)
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                count = int(name[-1])
                if len(stack) < count:
                    raise IndexError("too few values")
                stack[-count:] = [tuple(stack[-count:])]
            elif name == "TUPLE":
                values = items()
                stack.append(tuple(values))
            elif name in ("LIST", "FROZENSET"):
                values = items()
                stack.append(values)
            elif name == "DICT":
                values = items()
                entries: dict[Any, Any] = {}
                self._set_items(entries, values)
                stack.append(entries)
            elif name == "GLOBAL":
                module, _, attribute = argument.partition(" ")
                stack.append(self._named(module, attribute))
            elif name == "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(self._named(module, attribute))
            elif name in ("REDUCE", "NEWOBJ"):
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._called(function, arguments))
            elif name == "NEWOBJ_EX":
                stack.pop()
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._called(function, arguments))
            elif name == "OBJ":
                function, *arguments = items()
                stack.append(self._called(function, tuple(arguments)))
            elif name == "INST":
                arguments = items()
                module, _, attribute = argument.partition(" ")
                stack.append(self._called(self._named(module, attribute), tuple(arguments)))
            elif name == "BUILD":
                stack.pop()  # attributes of an object; descriptions have none
            elif name == "BINPERSID":
                stack.append(self._noted(storage_of(stack.pop())))
            else:  # PERSID (text), EXT (a registry of names), buffers beside the file
                raise refused(f"its pickle has the instruction {name}, which no torch file has")
        raise ValueError("no end")

    def _charge(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise refused(f"its pickle has more than {MOST_STEPS:,} instructions")

    def _named(self, module: Any, attribute: Any) -> Name:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise ValueError("a name that is no text")
        name = Name(module, attribute)
        if is_hostile(name):
            self.hostile[str(name)] = None
        return name

    def _called(self, function: Any, arguments: Any) -> Any:
        """The description of a call; nothing is called."""
        if isinstance(function, Name) and isinstance(arguments, tuple):
            # A list can be given to many calls, so what a call goes through counts each time.
            self._charge(len(arguments) + sum(len(a) for a in arguments if isinstance(a, (list, tuple))))
            pair = (function.module, function.name)
            if pair == ("torch._tensor", "_rebuild_from_type_v2") and len(arguments) == 4:
                inner, _, inner_arguments, _ = arguments
                return self._called(inner, inner_arguments)
            describe = CALLS.get(pair)
            if describe is not None:
                return self._noted(describe(*arguments))
        return self._noted(Dropped(described(function)))

    def _noted(self, value: Any) -> Any:
        if isinstance(value, Dropped) and len(self.dropped) < 100:
            self.dropped[value.what] = None
        return value

    def _set_items(self, target: Any, flat: list[Any]) -> None:
        if len(flat) % 2:
            raise ValueError("a key without a value")
        if isinstance(target, dict):
            for key, value in zip(flat[::2], flat[1::2], strict=True):
                # Other kinds of keys are slow or impossible to look up, and no state dict has them.
                if isinstance(key, (str, bytes, bool, type(None))) or (isinstance(key, int) and abs(key) < 2**63):
                    target[key] = value
                else:
                    self._noted(Dropped(f"an entry under a key of type {type(key).__name__}"))
        elif not isinstance(target, Dropped):
            raise TypeError("entries for what is no dictionary")


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Dropped):
        raise TypeError("items for what is no list")


_LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
"""Instructions whose argument is the value."""
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
