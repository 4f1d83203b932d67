"""Linear layers with weights packed once for the CPU, in float32 or bfloat16.

At inference oneDNN takes a weight matrix in its own blocked layout, and does the GELU or the residual addition while
the result is still in cache. The packed copy is made on first use and made again when the weight changes. While
gradients are wanted, or while somebody watches the operators (FLOP counters, tracing), the layer is a plain
`torch.nn.functional.linear`: same values up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _python_dispatch


def _packs(dtype: torch.dtype) -> bool:
    """Return whether oneDNN packs weights of this type here: bfloat16 needs instructions that many CPUs lack."""
    if not torch.backends.mkldnn.is_available():
        return False
    row = torch.zeros(1, 16, dtype=dtype)
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(torch.zeros(16, 16, dtype=dtype))
        torch.ops.mkldnn._linear_pointwise(row, weight, None, "gelu", [], "none")
        torch.ops.mkldnn._linear_pointwise.binary(row, row.clone(), weight, None, "add")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return True


PACKED_TYPES = frozenset(dtype for dtype in (torch.float32, torch.bfloat16) if _packs(dtype))
"""Types in which linear layers run on packed weights; in any other they are plain, with the same values."""


def is_watched() -> bool:
    """Return whether operators are being recorded, so that only public ones should run."""
    return torch.jit.is_tracing() or _python_dispatch._get_current_dispatch_mode() is not None


def tensor_identity(tensor: Tensor | None) -> tuple[int, int] | None:
    """Return where a tensor lives and how often it was written, to notice that a weight changed."""
    if tensor is None:
        return None
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


class Linear(nn.Linear):
    """`nn.Linear` with optional GELU or residual, in the type of its input (float32, bfloat16, float64)."""

    _packed: tuple[Any, Tensor, Tensor | None] | None = None

    def forward(self, input: Tensor, gelu: bool = False, residual: Tensor | None = None) -> Tensor:
        """Map (N, in) -> (N, out): gelu(x W' + b), or residual + x W' + b; residual is (N, out), any float type."""
        if not self._can_pack(input):
            output = F.linear(
                input, self.weight.to(input.dtype), None if self.bias is None else self.bias.to(input.dtype)
            )
            output = F.gelu(output) if gelu else output
            return output if residual is None else residual + output
        weight, bias = self._packed_weight(input.dtype)
        if residual is not None and residual.dtype == input.dtype:
            return torch.ops.mkldnn._linear_pointwise.binary(input, residual, weight, bias, "add")
        output = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "gelu" if gelu else "none", [], "none")
        return output if residual is None else residual + output

    def _can_pack(self, input: Tensor) -> bool:
        return (
            input.dtype in PACKED_TYPES
            and input.device.type == "cpu"
            and self.weight.dtype == torch.float32
            and not torch.is_grad_enabled()
            and not is_watched()
        )

    def _packed_weight(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        source = self.weight
        tag = (dtype, *(tensor_identity(part) for part in (source, self.bias)))
        if self._packed is None or self._packed[0] != tag:
            bias = None if self.bias is None else self.bias.detach().to(dtype).clone()
            weight = torch.ops.mkldnn._reorder_linear_weight(source.detach().to(dtype))
            self._packed = (tag, weight, bias)
        return self._packed[1:]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the packed copy out of pickles and deep copies."""
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return residual + fc2(gelu(fc1(x))) for x, residual (N, dim)."""
        return self.fc2(self.fc1(x, gelu=True), residual=residual)
