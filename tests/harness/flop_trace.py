"""The named reference of the FLOP count: fvcore's analysis over a trace of whatever a segmenter does in a call.

fvcore traces `module.forward(tensors)`, drops operators whose result does not reach the output, and makes every shape
a traced value. A click is none of that: arrays in, arrays out, boxes and routing decided in Python. So the call runs
inside a module without inputs, every tensor that an operator makes is tied to the output (by an empty tensor, to hold
no memory), and shapes stay plain numbers. What is counted is then exactly the path that this input took.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from flop_trace_handles import ARITHMETIC, FREE, PRODUCTS
from fvcore.nn.jit_analysis import JitModelAnalysis
from torch import nn
from torch.overrides import TorchFunctionMode

from harness.flops.counter import OTHER, TOTAL, Count, NotCountable, UnknownOperator


def count(
    call: Callable[[], Any], module: nn.Module | None, parts: Mapping[str, nn.Module] | None = None
) -> dict[str, Count]:
    """Count the operators of one call.

    Args:
        call: does the work, with its inputs bound; its modules must be called as `module(x)`.
        module: holds everything that computes (None: operators outside `parts` are still in the total).
        parts: name -> submodule; a list of modules is the sum of its members.

    Returns:
        part -> Count, with ``total`` for the whole call and ``other`` for what no part did.

    Raises:
        UnknownOperator: naming the operators and the modules that use them.
        NotCountable: parameters outside `module` and `parts`.
    """
    wrapper = _Call(call, module, parts or {})
    analysis = JitModelAnalysis(wrapper, (torch.zeros(()),))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis._ignored_ops = set()  # fvcore's own list is replaced by ours
    analysis.set_op_handle(**_handles())
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    try:
        counts = analysis.by_module_and_operator()
    except RuntimeError as error:
        if "requires grad as a constant" not in str(error):
            raise
        raise NotCountable(
            "a parameter lies outside segmenter.module and segmenter.parts: name its module there"
        ) from error
    _refuse_unknown(analysis, counts)
    result = {name: _part(wrapper, part, analysis, counts) for name, part in (parts or {}).items()}
    inside: set[str] = set()
    for part in (parts or {}).values():
        inside |= {analysis.canonical_module_name(n) for n in _names(wrapper, part)}
    in_parts = _union(inside, analysis, counts, wrapper)
    # Bytes of the whole call are those of its parts: what flows between operators outside them is not seen.
    whole = Count(counts[""]["mac"], counts[""]["other"], in_parts.bytes)
    result[OTHER] = whole - in_parts
    result[TOTAL] = whole
    return result


@functools.lru_cache(maxsize=1)
def _handles() -> dict[str, Any]:
    """fvcore handles of every known operator, None for the free ones; in-place forms cost what plain forms cost."""
    plain = {
        **{name: _tagged(handle, "mac") for name, handle in PRODUCTS.items()},
        **{name: _tagged(handle, "other") for name, handle in ARITHMETIC.items()},
        **dict.fromkeys(FREE),
    }
    return {**{f"{name}_": handle for name, handle in plain.items()}, **plain}


class _Call(nn.Module):
    """Runs the call under the tracer; collects an empty tensor of every tensor made, and the bytes of each module."""

    def __init__(self, call: Callable[[], Any], module: nn.Module | None, parts: Mapping[str, nn.Module]):
        super().__init__()
        self.call = call
        if module is not None:
            self.model = module
        self.parts = nn.ModuleDict({name.replace(".", "_"): part for name, part in parts.items()})
        self.bytes: Counter[str] = Counter()
        self.names = {part: name for name, part in self.named_modules()}

    def forward(self, _: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hooks = [m.register_forward_hook(self._weigh, with_kwargs=True) for n, m in self.named_modules() if n]
        mode = _KeepEverything()
        try:
            with mode:
                self.call()
        finally:
            for hook in hooks:
                hook.remove()
        return (_, *mode.kept)

    def _weigh(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        with _untraced():
            own = sum(_nbytes(p) for p in module.parameters())
            self.bytes[self.names[module]] += own + sum(_nbytes(t) for t in _tensors((args, kwargs, output)))


class _KeepEverything(TorchFunctionMode):
    """Ties every result to the trace's output, and answers questions about shapes outside the trace."""

    _PLAIN = frozenset({torch.Tensor.size, torch.Tensor.shape.__get__, torch.Tensor.numel, torch.Tensor.__len__})  # type: ignore[attr-defined]

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._PLAIN:
            with _untraced():
                return func(*args, **kwargs)
        if not torch.is_grad_enabled():
            args, kwargs = _detached(args), _detached(kwargs)
        result = func(*args, **kwargs)
        if torch._C._get_tracing_state() is not None:
            for tensor in _tensors(result):
                self.kept.append(tensor.new_empty(0))
        return result


@contextlib.contextmanager
def _untraced() -> Iterator[None]:
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]


def _tagged(handle: Callable[..., Any], kind: str) -> Callable[..., Counter[str]]:
    """fvcore handles return a number or a Counter; here everything is summed under one of two names."""

    def tagged(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        found = handle(inputs, outputs)
        return Counter({kind: float(sum(found.values()) if isinstance(found, Counter) else found)})  # type: ignore[dict-item]

    return tagged


def _names(wrapper: _Call, part: nn.Module) -> list[str]:
    """Scopes whose counts add up to a part: itself, or the members of a list of modules."""
    if isinstance(part, (nn.ModuleList, nn.ModuleDict)):
        children = part.values() if isinstance(part, nn.ModuleDict) else part
        return [name for child in children for name in _names(wrapper, child)]
    return [wrapper.names[part]]


def _part(wrapper: _Call, part: nn.Module, analysis: JitModelAnalysis, counts: Mapping[str, Any]) -> Count:
    total = Count()
    for name in _names(wrapper, part):
        found = counts[analysis.canonical_module_name(name)]
        total += Count(found["mac"], found["other"], wrapper.bytes[name])
    return total


def _union(names: set[str], analysis: JitModelAnalysis, counts: Mapping[str, Any], wrapper: _Call) -> Count:
    """Sum over parts, leaving out parts that lie inside another."""
    outer = {n for n in names if not any(n.startswith(m + ".") for m in names)}
    total = Count()
    for name in outer:
        total += Count(counts[name]["mac"], counts[name]["other"], wrapper.bytes[name])
    return total


def _refuse_unknown(analysis: JitModelAnalysis, counts: Mapping[str, Any]) -> None:
    unknown = analysis.unsupported_ops("")
    if not unknown:
        return
    where = [f"{op} (x{n}, in {_deepest(analysis, counts, op)})" for op, n in sorted(unknown.items())]
    raise UnknownOperator(f"no cost known for {', '.join(where)}: tests/harness/flop_trace_handles.py lacks it.")


def _deepest(analysis: JitModelAnalysis, counts: Mapping[str, Any], op: str) -> str:
    users = [name for name in counts if op in analysis.unsupported_ops(name)]
    return max(users, key=len, default="") or "the segmenter itself"


def _detached(tree: Any) -> Any:
    """The same arguments; what was derived from parameters and kept (a folded kernel) becomes a plain constant."""
    if isinstance(tree, torch.Tensor):
        if not tree.requires_grad or isinstance(tree, nn.Parameter):
            return tree
        with _untraced():
            return tree.detach()
    if isinstance(tree, dict):
        return {key: _detached(value) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_detached(value) for value in tree)
    return tree


def _tensors(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        return [t for value in tree.values() for t in _tensors(value)]
    if isinstance(tree, (list, tuple)):
        return [t for value in tree for t in _tensors(value)]
    return []


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
