"""3x3 convolutions that can write into, or add to, memory that is already there.

Maps of a million pixels are mostly memory traffic, and fresh memory costs more than used one; at inference on
the CPU the edge detector therefore works in a few buffers. Everywhere else the layer is `nn.Conv2d`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from inter2former.encoders.linear import is_watched, tensor_identity
from inter2former.winograd import Winograd, transform_kernel

MIN_WINOGRAD_CHANNELS = 128
"""Fewest channels for which Winograd's transforms are worth their time (measured at 1024 pixels)."""


def _has_accumulating_convolution() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    memory = torch.zeros(1, 4, 4, 4).contiguous(memory_format=torch.channels_last)
    try:
        _accumulate(memory, memory.clone(), torch.zeros(4, 4, 3, 3), torch.ones(4), 1)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    return bool((memory == 1.0).all())


def _accumulate(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> None:
    ones = [1, 1]
    torch.ops.mkldnn._convolution_pointwise_.binary(
        out, x, weight, bias, ones, [stride, stride], ones, 1, "add", 1.0, None, [], None
    )


ACCUMULATES = _has_accumulating_convolution()


def can_reuse_memory(x: Tensor) -> bool:
    """Return whether work on x may go through buffers: inference in float32 on the CPU, operators not watched."""
    return (
        ACCUMULATES
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not is_watched()
    )


class Conv3x3(nn.Conv2d):
    """`nn.Conv2d` with a 3x3 kernel and padding 1, plus `write` and `add`."""

    _transformed: tuple[Any, Tensor] | None = None

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1)

    def write(self, x: Tensor, out: Tensor, scratch: Winograd | None = None) -> None:
        """Write the convolution of x (B, in, H, W) to out (B, out, H / stride, W / stride), both channels-last."""
        if scratch is None:
            out.zero_()
        self._put(x, out, scratch, add=False)

    def add(self, x: Tensor, out: Tensor, scratch: Winograd | None = None) -> None:
        """Add the convolution of x to out, see `write`."""
        self._put(x, out, scratch, add=True)

    def _put(self, x: Tensor, out: Tensor, scratch: Winograd | None, add: bool) -> None:
        if scratch is None:
            _accumulate(out, x, self.weight, self.bias, self.stride[0])
            return
        tag = tensor_identity(self.weight)
        if self._transformed is None or self._transformed[0] != tag:
            self._transformed = (tag, transform_kernel(self.weight))
        assert self.bias is not None
        scratch.convolve(x.permute(0, 2, 3, 1), self._transformed[1], self.bias, out.permute(0, 2, 3, 1), add)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the transformed kernel out of pickles and deep copies."""
        return {key: value for key, value in self.__dict__.items() if key != "_transformed"}
