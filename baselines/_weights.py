"""Weights of the baselines: strict loading with one clear line, seeded random values, and a digest."""

from __future__ import annotations

import functools
import hashlib
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from inter2former import weightfiles

UNTRAINED, RELEASED = "untrained", "released"
_STATUS = "weights_status"

Initial = Callable[[tuple[int, ...], torch.Generator], Tensor]
Net = TypeVar("Net", bound=nn.Module)

Shapes = Mapping[str, tuple[int, ...]]
"""Names and shapes of a file's tensors."""
Named = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class WeightsError(ValueError):
    """A weight file that is absent, damaged, or belongs to another model; the message is one line.

    Attributes:
        shapes: what the file holds, where it is sound but of another model; the harness asks every system's
            `would_fit` with it.
    """

    shapes: Shapes | None = None


def prepare(
    build: Callable[[], Net],
    weights: str | Path | None,
    seed: int,
    name: str,
    initial: Mapping[str, Initial] | None = None,
    derived: tuple[str, ...] = (),
    named: Named | None = None,
) -> tuple[Net, str]:
    """Return a module in eval mode without gradients, and its weights status.

    Args:
        build: makes the module; it is called on the meta device, so that no value is computed twice.
        weights: a file to load strictly, or None for random values.
        seed: of the random values; equal keys and shapes get equal values, whatever else the model holds.
        name: of the system, for messages.
        initial: random values of entries that `initialise` would treat otherwise, by the end of their key.
        derived: ends of keys that a released file may hold though they follow from the architecture.
        named: gives a file's entries the module's names, whichever of the known ones they have.

    Raises:
        WeightsError: the file does not fit.
    """
    with torch.device("meta"):
        module = build()
    if weights is None:
        module.to_empty(device="cpu")
        initialise(module, seed, initial or {})
        status = UNTRAINED
    else:
        held, status = read(weights, name)
        try:
            load(module, named(held) if named else held, Path(weights), name, derived)
        except WeightsError as error:
            error.shapes = {key: tuple(value.shape) for key, value in held.items()}
            raise
    return module.eval().requires_grad_(False), status


@functools.cache
def skeleton(build: Callable[..., nn.Module], *arguments: Any) -> Shapes:
    """Names and shapes of a module's state, without memory for its values."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build(*arguments).state_dict().items()}


def fits(shapes: Shapes, own: Shapes, derived: tuple[str, ...] = (), named: Named = dict) -> bool:
    """Whether a file's entries are those of a `skeleton`; `derived` and `named` as for `prepare`."""
    with torch.device("meta"):
        held = named({key: torch.empty(shape) for key, shape in shapes.items()})
    held = {key: value for key, value in held.items() if key in own or not key.endswith(derived or ("\0",))}
    return held.keys() == own.keys() and all(tuple(held[key].shape) == shape for key, shape in own.items())


def read(path: str | Path, name: str = "this model") -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a .safetensors or .pth file and the status that it states ("released" if none).

    A .pth file may be plain or wrapped ({"state_dict": …}). Nothing that it names is called, and what is no tensor is
    left out with a warning (`inter2former.weightfiles`). Of a folder, its one weight file is read.

    Raises:
        WeightsError: absent, damaged, over a limit, or an attack.
    """
    try:
        file = weightfiles.read(weightfiles.locate(path))
    except weightfiles.WeightFileError as error:
        raise WeightsError(f"weights {weightfiles.shown(path, 300)} of {name}: {error}") from error
    return dict(file.state), file.metadata.get(_STATUS, RELEASED)


def load(
    module: nn.Module,
    state: Mapping[str, Tensor],
    path: Path,
    name: str,
    derived: tuple[str, ...] = (),
    optional: str | None = None,
) -> None:
    """Take over `state` strictly.

    Unknown keys that end in one of `derived` are dropped; where keys that begin with `optional` are missing, the
    module keeps its own values.
    """
    own = module.state_dict()
    state = {key: value for key, value in state.items() if key in own or not key.endswith(derived or ("\0",))}
    if optional is not None:
        state = {**{key: value for key, value in own.items() if key.startswith(optional)}, **state}
    missing = [key for key in own if key not in state]
    surplus = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and state[key].shape != own[key].shape]
    if missing or surplus or shapes:
        parts = []
        if missing:
            parts.append(f"{len(missing)} of {len(own)} expected keys are missing ({_some(missing)})")
        if surplus:
            parts.append(f"{len(surplus)} are unknown ({_some(surplus)})")
        if missing or surplus:
            parts.append(weightfiles.nearest(missing, surplus, list(own), list(state)))
        if shapes:
            key = shapes[0]
            got, expected = tuple(state[key].shape), tuple(own[key].shape)
            parts.append(f"{len(shapes)} shapes differ ({key} is {got}, expected {expected})")
        raise WeightsError(f"weights {path} do not fit {name}: {'; '.join(parts)}")
    bad = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise WeightsError(f"weights {path} of {name}: NaN or infinity in {len(bad)} entries ({_some(bad)})")
    # Cloned, as a tensor within a file's memory may be aligned otherwise, and then rounds otherwise.
    module.load_state_dict({key: value.to(own[key].dtype).clone() for key, value in state.items()}, assign=True)


def save(module: nn.Module, path: str | Path, status: str) -> None:
    """Write a .safetensors file that `read` takes back, with its status."""
    tensors = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
    save_file(tensors, str(path), metadata={_STATUS: status})


def initialise(module: nn.Module, seed: int, initial: Mapping[str, Initial]) -> None:
    """Fill every entry of the state dict: normal / sqrt(fan in), norms 1, biases 0.

    Each entry has its own generator, seeded by its key: two models that share a part share its values.
    """
    for key, value in module.state_dict().items():
        generator = torch.Generator().manual_seed((zlib.crc32(key.encode()) ^ (seed * 0x9E3779B1)) & 0xFFFFFFFF)
        special = next((make for end, make in initial.items() if key.endswith(end)), None)
        if special is not None:
            value.copy_(special(tuple(value.shape), generator))
        elif not value.is_floating_point():
            value.zero_()
        elif value.ndim == 1:
            value.fill_(1.0 if key.endswith((".weight", "running_var")) else 0.0)
        elif value.ndim > 1:
            fan = math.prod(value.shape[1:])
            value.normal_(0.0, 1.0 / math.sqrt(fan), generator=generator)
        else:
            value.zero_()


def normal(scale: float) -> Initial:
    """Return the rule "normal with this standard deviation" for `initialise`."""
    return lambda shape, generator: torch.randn(shape, generator=generator) * scale


def digest(module: nn.Module, *more: str) -> str:
    """Return 16 hex digits over the names and values of a module's state (and further strings)."""
    result = hashlib.sha256("\0".join(more).encode())
    for key, value in sorted(module.state_dict().items()):
        result.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        result.update(value.detach().contiguous().cpu().view(-1).numpy().data)
    return result.hexdigest()[:16]


def count(module: nn.Module) -> int:
    """Return the number of parameters (without buffers)."""
    return sum(parameter.numel() for parameter in module.parameters())


def _some(keys: list[str]) -> str:
    return weightfiles.some(keys)
