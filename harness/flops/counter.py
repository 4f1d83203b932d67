"""Counting the operators of one real call, as torch's dispatcher runs them.

A click takes arrays and gives arrays, and decides about boxes and routing in Python. So nothing is traced: the call
runs as always, a `TorchDispatchMode` sees each operator with its real tensors, and what is counted is the path that
this input took. `tests/harness/flop_trace.py` counts the same by fvcore's trace; tests hold the two to equal numbers.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.flops.costs import ARITHMETIC, FREE, PRODUCTS, WHOLE


class UnknownOperator(ValueError):
    """An operator that `harness.flops.costs` does not list: it must be given a cost, not a zero."""


class NotCountable(ValueError):
    """A segmenter whose arithmetic cannot be seen: it computes outside torch, or hides modules."""


@dataclass(frozen=True)
class Count:
    """Multiply-accumulates of products, FLOPs of other arithmetic, and least bytes moved.

    The bytes of a part are its parameters, inputs and outputs, each moved once: what remains with perfect caching.
    """

    macs: float = 0.0
    arithmetic: float = 0.0
    bytes: float = 0.0

    @property
    def flops(self) -> float:
        """Floating-point operations: two per multiply-accumulate, plus the other arithmetic."""
        return 2 * self.macs + self.arithmetic

    def __add__(self, other: Count) -> Count:
        return Count(self.macs + other.macs, self.arithmetic + other.arithmetic, self.bytes + other.bytes)

    def __sub__(self, other: Count) -> Count:
        return Count(self.macs - other.macs, self.arithmetic - other.arithmetic, max(0.0, self.bytes - other.bytes))


TOTAL, OTHER = "total", "other"


def count(
    call: Callable[[], Any], module: nn.Module | None, parts: Mapping[str, nn.Module] | None = None
) -> dict[str, Count]:
    """Count the operators of one call.

    Args:
        call: does the work, with its inputs bound; its modules must be called as `module(x)`.
        module: holds everything that computes (None: operators outside `parts` are still in the total).
        parts: name -> submodule; a list of modules is the sum of its members.

    Returns:
        part -> Count, with ``total`` for the whole call and ``other`` for what no part did. An operator belongs to the
        module that runs it, and to the parts that hold this module.

    Raises:
        UnknownOperator: naming the operators and the modules that use them.
        NotCountable: trained parameters outside `module` and `parts`.
    """
    parts = parts or {}
    names = module_names(module, parts)
    members = {name: _members(part) for name, part in parts.items()}
    tally = _Tally(names)
    with _watching(tally, {m for several in members.values() for m in several}):
        call()
    tally.refuse_unknown()
    paths = {name: [names[m] for m in several] for name, several in members.items()}
    result = {name: _sum(tally.part(path) for path in several) for name, several in paths.items()}
    inside = {path for several in paths.values() for path in several}
    # A part that lies inside another is in its count already.
    in_parts = _sum(tally.part(path) for path in inside if not any(path.startswith(f"{p}.") for p in inside))
    everything = _sum(tally.counts.values())
    # Bytes of the whole call are those of its parts: what flows between operators outside them is not seen.
    whole = Count(everything.macs, everything.arithmetic, in_parts.bytes)
    result[OTHER] = whole - in_parts
    result[TOTAL] = whole
    return result


def module_names(module: nn.Module | None, parts: Mapping[str, nn.Module]) -> dict[nn.Module, str]:
    """Every module under one path: ``model.…`` where `module` holds it, ``parts.NAME.…`` elsewhere."""
    roots = [("model", module)] if module is not None else []
    roots += [(f"parts.{name.replace('.', '_')}", part) for name, part in parts.items()]
    names: dict[nn.Module, str] = {}
    for root, top in roots:
        for path, inner in top.named_modules():
            names.setdefault(inner, f"{root}.{path}" if path else root)
    return names


class _Tally:
    """Counts by the path of the module that runs each operator ("" outside of all)."""

    def __init__(self, names: Mapping[nn.Module, str]):
        self.names = names
        self.known = {id(p) for m in names for p in m.parameters(recurse=False)}
        self.counts: dict[str, Count] = {}
        self.bytes: Counter[str] = Counter()
        self.unknown: dict[str, Counter[str]] = {}
        self.running: list[nn.Module] = []
        self.whole = False
        """Inside a function that was counted as a whole: its pieces are not counted again."""

    @property
    def path(self) -> str:
        return self.names[self.running[-1]] if self.running else ""

    def add(self, name: str, inputs: Sequence[Any], output: Any) -> None:
        """Count an operator by its plain name; one that is unknown is noted."""
        if name in PRODUCTS:
            cost = Count(macs=float(PRODUCTS[name](inputs, output)))
        elif name in ARITHMETIC:
            cost = Count(arithmetic=float(ARITHMETIC[name](inputs, output)))
        else:
            self.unknown.setdefault(name, Counter())[self.path] += 1
            return
        self.counts[self.path] = self.counts.get(self.path, Count()) + cost

    def part(self, path: str) -> Count:
        """What the module of this path and those in it ran, and the bytes of its calls."""
        inside = [c for other, c in self.counts.items() if other == path or other.startswith(f"{path}.")]
        return _sum(inside) + Count(bytes=self.bytes[path])

    def enter(self, module: nn.Module, args: Any) -> None:
        if module in self.names:
            self.running.append(module)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        # A module that raised was never left: it ends with the one that caught the error.
        while module in self.running and self.running.pop() is not module:
            pass

    def weigh(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        moved = (*module.parameters(), *_tensors((args, kwargs, output)))
        self.bytes[self.names[module]] += sum(t.numel() * t.element_size() for t in moved)

    def refuse_hidden(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad and id(tensor) not in self.known:
                raise NotCountable(
                    "a parameter lies outside segmenter.module and segmenter.parts: name its module there"
                )

    def refuse_unknown(self) -> None:
        if not self.unknown:
            return
        where = [
            f"{op} (x{sum(users.values())}, in {max(users, key=len) or 'the segmenter itself'})"
            for op, users in sorted(self.unknown.items())
        ]
        raise UnknownOperator(
            f"no cost known for {', '.join(where)}. Add it to PRODUCTS, ARITHMETIC or FREE in harness/flops/costs.py."
        )


class _Operators(TorchDispatchMode):
    """Shows the tally each operator that the dispatcher runs."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here; to say so, torch would import its compiler (a second or more)

    def __init__(self, tally: _Tally):
        super().__init__()
        self.tally = tally

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _plain_name(func)
        self.tally.refuse_hidden(_tensors((args, kwargs)))
        if self.tally.whole or name in FREE or name.startswith("prim::"):
            return func(*args, **kwargs)
        if name not in PRODUCTS and name not in ARITHMETIC and hasattr(func, "decompose"):
            with self:  # an operator made of others, which inference mode shows as a whole
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = func(*args, **kwargs)
        self.tally.add(name, args, output)
        return output


class _Functions(TorchFunctionMode):
    """Shows the tally the functions that are counted as a whole, and hides their pieces."""

    def __init__(self, tally: _Tally):
        super().__init__()
        self.tally = tally

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.tally.whole or func not in WHOLE or not (args or kwargs):
            return func(*args, **kwargs)
        name, keywords = WHOLE[func]
        inputs = [*args, *(kwargs[key] for key in keywords[len(args) :])]
        if name == "aten::einsum" and not isinstance(inputs[0], str):
            return func(*args, **kwargs)  # with lists of numbers for an equation: counted by its pieces
        self.tally.whole = True
        try:
            output = func(*args, **kwargs)
        finally:
            self.tally.whole = False
        self.tally.add(name, inputs, output)
        return output


@contextlib.contextmanager
def _watching(tally: _Tally, weighed: Iterable[nn.Module]) -> Iterator[None]:
    hooks = [register_module_forward_pre_hook(tally.enter), register_module_forward_hook(tally.leave)]
    hooks += [module.register_forward_hook(tally.weigh, with_kwargs=True) for module in weighed]
    try:
        with _Functions(tally), _Operators(tally):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _plain_name(func: Any) -> str:
    """`aten::add` of `aten.add_.Tensor`; names with underscores of their own stay (`aten::_softmax`)."""
    schema = getattr(func, "_schema", None)
    name = str(schema.name if schema is not None else func)
    return name if name in FREE or not name.endswith("_") or name.endswith("__") else name[:-1]


def _members(part: nn.Module) -> list[nn.Module]:
    """Modules whose counts add up to a part: itself, or the members of a list of modules."""
    if isinstance(part, (nn.ModuleList, nn.ModuleDict)):
        children = part.values() if isinstance(part, nn.ModuleDict) else part
        return [member for child in children for member in _members(child)]
    return [part]


def _sum(counts: Iterable[Count]) -> Count:
    return sum(counts, Count())


def _tensors(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        return [t for value in tree.values() for t in _tensors(value)]
    if isinstance(tree, (list, tuple)):
        return [t for value in tree for t in _tensors(value)]
    return []
