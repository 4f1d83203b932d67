"""What a call executes: multiply-adds and bytes of every operator, for the roof of the online step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_VIEWS = ("view", "as_strided", "transpose", "permute", "expand", "select", "slice", "unsqueeze", "squeeze", "split")
_VIEWS += ("t.default", "detach", "alias", "unbind", "_reshape_alias", "chunk", "empty", "new_empty")


@dataclass
class Work:
    """Multiply-adds, exponentials of softmax, and bytes read and written by all operators."""

    macs: float = 0.0
    exponentials: float = 0.0
    bytes: float = 0.0

    def roof_ms(self, macs_per_s: float, bytes_per_s: float) -> tuple[float, float]:
        """Return the least time of the products, and of moving the bytes once per operator."""
        return 1e3 * self.macs / macs_per_s, 1e3 * self.bytes / bytes_per_s


def _macs(name: str, args: tuple[Any, ...]) -> float:
    def product(a: Tensor, b: Tensor) -> float:
        return float(a.numel() * b.shape[-1])

    if name in ("mm", "bmm"):
        return product(args[0], args[1])
    if name in ("addmm", "addmm_", "baddbmm"):
        return product(args[1], args[2])
    if name == "convolution":
        x, weight, stride, padding = args[0], args[1], args[3], args[4]
        out = [
            (side + 2 * pad - kernel) // step + 1
            for side, pad, kernel, step in zip(x.shape[2:], padding, weight.shape[2:], stride, strict=True)
        ]
        return float(x.shape[0] * math.prod(out) * weight.numel())
    if name == "_scaled_dot_product_flash_attention_for_cpu":
        query, key, value = args[:3]
        return float(math.prod(query.shape[:3]) * key.shape[2] * (query.shape[3] + value.shape[3]))
    return 0.0


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not any(str(func).split("aten.")[-1].startswith(view) for view in _VIEWS):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            # A broadcast tensor is read from memory once: count what is stored.
            self.work.bytes += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in tensors)
        self.work.macs += _macs(name, args)
        if name == "_scaled_dot_product_flash_attention_for_cpu":
            self.work.exponentials += float(math.prod(args[0].shape[:3]) * args[1].shape[2])
        return out


def count(call: Callable[[], object]) -> Work:
    """Run a call once and return its work."""
    counter = _Counter()
    with counter, torch.no_grad():
        call()
    return counter.work
