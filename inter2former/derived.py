"""Values that depend on weights only (codebooks, folded kernels): kept until a weight changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from inter2former.encoders.linear import tensor_identity

T = TypeVar("T")


def with_bias(linear: nn.Linear) -> Tensor:
    """Return the matrix (in + 1, out) that maps inputs with a last channel of ones; a share there weights the bias."""
    return torch.cat([linear.weight.t(), linear.bias[None]]).detach().contiguous()


class Derived:
    """A small cache whose entries are valid as long as the tensors they came from are unchanged.

    A change is seen by storage address, autograd version and type, which covers optimizer steps,
    `load_state_dict` and `.to()`. Copies and pickles of the owner start empty.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[tuple[object, ...], object]] = {}

    def get(self, key: Hashable, sources: Sequence[Tensor], build: Callable[[], T]) -> T:
        """Return the entry `key`, calling `build` if it is missing or a source has changed."""
        tag = tuple((tensor_identity(source), source.dtype) for source in sources)
        entry = self._entries.get(key)
        if entry is None or entry[0] != tag:
            entry = (tag, build())
            self._entries[key] = entry
        return entry[1]  # type: ignore[return-value]

    def __deepcopy__(self, memo: object) -> Derived:
        return Derived()

    def __reduce__(self) -> tuple[type[Derived], tuple[()]]:
        return (Derived, ())
