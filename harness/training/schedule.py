"""Learning rate, parameter groups, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

_PRETRAINED = "trunk."
"""Part of the name of every parameter that came pretrained."""


def learning_rate(step: int, steps: int, warmup: int, final: float) -> float:
    """Factor of the peak rate at a step: linear warm-up, then a cosine from 1 down to `final`."""
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def parameter_groups(
    module: nn.Module, decay: float, trunk: float, freeze: Sequence[str] = ()
) -> list[dict[str, object]]:
    """AdamW's groups with a `factor` of the rate; trains the trunk if its factor is above 0, freezes names in `freeze`.

    Matrices and kernels decay; vectors (norms, biases) and embedding tables do not.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        pretrained = _PRETRAINED in name
        if pretrained:
            # Encoders come with a frozen trunk: whether it is trained is decided here, and only here.
            parameter.requires_grad_(trunk > 0)
        if name.startswith(tuple(freeze)):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            decays = parameter.dim() > 1 and not name.endswith(("embeds.weight", "codebook"))
            groups.setdefault((decays, pretrained), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay if decays else 0.0, "factor": trunk if pretrained else 1.0}
        for (decays, pretrained), parameters in groups.items()
    ]


class Average:
    """Exponential moving average of the trained parameters; buffers are copied.

    Early on the decay is smaller, (1 + n) / (10 + n) after n updates, so that the random start is forgotten.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.values = {name: value.detach().clone() for name, value in _tracked(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """One step towards the module's values."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in _tracked(module):
            if value.is_floating_point() and isinstance(value, nn.Parameter):
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the averaged values with the module's; a second call puts them back."""
        for name, value in _tracked(module):
            other = self.values[name].clone()
            self.values[name].copy_(value)
            value.copy_(other)

    def state(self) -> dict[str, object]:
        """For the checkpoint."""
        return {"updates": self.updates, "values": self.values}

    def load(self, state: dict[str, object]) -> None:
        """From the checkpoint."""
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        values = state["values"]
        for name, value in self.values.items():
            value.copy_(values[name])  # type: ignore[index]


def _tracked(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            yield name, parameter
    yield from module.named_buffers()
