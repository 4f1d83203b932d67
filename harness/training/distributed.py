"""Several processes, as `torchrun` starts them: each takes its own samples, gradients are averaged.

Gradients are averaged by hand after the last click of a step, since a step has several backward passes and a variant
may leave some parameters (experts) without a gradient.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class World:
    """This process among all: rank (from 0), their number, and the device."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes; a missing one counts as zero."""
        if self.size == 1:
            return
        chosen = list(parameters)
        for parameter in chosen:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.reshape(-1) for p in chosen if p.grad is not None])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        start = 0
        for parameter in chosen:
            assert parameter.grad is not None
            parameter.grad.copy_(flat[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()

    def mean(self, value: float) -> float:
        """Mean of a number over the processes; NaN if one has NaN."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return float(tensor) / self.size

    def copy_from_first(self, module: nn.Module) -> None:
        """Give every process the parameters and buffers of the first."""
        if self.size > 1:
            for value in module.state_dict().values():
                torch.distributed.broadcast(value, 0)

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


def join(device: str = "auto") -> World:
    """This process's place, from torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK); alone without it."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    cuda = device != "cpu" and torch.cuda.is_available()
    chosen = torch.device("cuda", local) if cuda else torch.device("cpu")
    if size > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    return World(rank, size, chosen)
