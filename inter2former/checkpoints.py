"""Weight files: the released `.pth`, and our own `.safetensors` with the configuration inside.

Reading never runs code from the file, loading is strict, and a file that does not fit is refused in one line that says
what was expected and what was found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from inter2former import weightfiles
from inter2former.weightfiles import BASE

RELEASED, TRAINED_HERE = "released", "trained here"
FIXED_FILTERS = "edge_detector.canny."
EXPECTED = (
    "expected the released .pth (432 entries: backbone.*, edge_detector.*, neck.*, decode_head.*, plain or under"
    " state_dict or model) or a .safetensors saved here"
)
_FORMAT = "inter2former"


class CheckpointError(ValueError):
    """A weight file that is absent, damaged or of another model; the message is one line.

    Attributes:
        shapes: names and shapes of a file that is sound but of another model.
    """

    shapes: Mapping[str, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A weight file in memory.

    Attributes:
        path: where it came from.
        state: entries by name.
        status: "released", or what the file says, such as "trained here".
        config: configuration stored in the file (None in a `.pth`).
        extra: further text stored in the file.
    """

    path: Path
    state: Mapping[str, Tensor]
    status: str
    config: Mapping[str, Any] | None
    extra: Mapping[str, str]


def read(path: str | Path) -> Checkpoint:
    """Read a `.pth` (plain, or wrapped in `state_dict` or `model`) or one of our `.safetensors`.

    Raises:
        CheckpointError: not there, damaged, or not a file of weights.
    """
    path = Path(path)
    state, metadata = _read(path)
    config = None
    if (text := metadata.pop("config", None)) is not None:
        try:
            config = weightfiles.parse_json(text, "its configuration")
        except weightfiles.WeightFileError as error:
            raise _refusal(path, error) from error
        if not isinstance(config, dict):
            raise _refusal(path, f"its configuration is a {type(config).__name__}, not a list of settings")
    for known in ("format", BASE):
        metadata.pop(known, None)
    return Checkpoint(path, state, metadata.pop("weights_status", RELEASED), config, metadata)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return entries and metadata of a `.safetensors`, with the entries of its base (see `inter2former.weights`).

    Raises:
        CheckpointError: it, or its base, is not there or damaged.
    """
    return _read(path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        file = weightfiles.read(path)
    except weightfiles.WeightFileError as error:
        raise _refusal(path, error) from error
    return dict(file.state), dict(file.metadata)


def _refusal(path: Path, cause: object) -> CheckpointError:
    return CheckpointError(f"weights {weightfiles.shown(path, 300)}: {cause}; {EXPECTED}")


@dataclass(frozen=True)
class Mismatch:
    """How a state dict differs from what a model needs; names in the model's order.

    Attributes:
        missing: entries that the model needs and the file lacks.
        unexpected: entries that the file has and the model does not know.
        misshapen: entries of another shape, "name 3x3 instead of 5x5".
        invalid: entries with NaN or infinity, of another kind of number, or fixed filters with other values.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    invalid: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen or self.invalid)

    def describe(self, limit: int = 3) -> str:
        """Return the differences in one line, at most `limit` names of each kind."""
        kinds = ("missing", "unexpected", "misshapen", "invalid")
        return "; ".join(
            f"{len(names)} {kind} ({_some(names, limit)})" for kind in kinds if (names := getattr(self, kind))
        )


def compare(
    model: nn.Module, state: Mapping[str, Tensor], unused: Iterable[str] = (), omitted: Iterable[str] = ()
) -> Mismatch:
    """Compare a state dict with a model's.

    Entries whose name starts with one of `unused` may be in excess, with one of `omitted` may be missing.
    """
    own, unused, omitted = model.state_dict(), tuple(unused), tuple(omitted)
    both = [name for name in own if name in state]
    misshapen = [name for name in both if own[name].shape != state[name].shape]
    return Mismatch(
        missing=tuple(n for n in own if n not in state and not n.startswith(omitted)),
        unexpected=tuple(n for n in state if n not in own and not n.startswith(unused)),
        misshapen=tuple(f"{n} {_shape(state[n])} instead of {_shape(own[n])}" for n in misshapen),
        invalid=tuple(
            f"{name} {fault}"
            for name in both
            if name not in misshapen and (fault := _fault(name, state[name], own[name]))
        ),
    )


def _fault(name: str, value: Tensor, own: Tensor) -> str | None:
    if value.is_floating_point() != own.is_floating_point():
        return f"of type {value.dtype}".replace("torch.", "")
    if value.is_floating_point() and not torch.isfinite(value).all():
        return "holds NaN or infinity"
    if name.startswith(FIXED_FILTERS) and not torch.allclose(value.to(own.dtype), own, atol=1e-6):
        return "is not the fixed filter"
    return None


def load(
    model: nn.Module,
    checkpoint: Checkpoint,
    unused: Iterable[str] = (),
    omitted: Iterable[str] = (),
    hint: str = "",
) -> None:
    """Load a checkpoint strictly.

    Args:
        unused: beginnings of names that the file may hold though the model, as switched, does without.
        omitted: beginnings of names that the file may lack; the model keeps its own, such as a frozen trunk.
        hint: appended to the message, such as which switch needs the missing entries.

    Raises:
        CheckpointError: entries missing, unexpected, misshapen or invalid; the model is left as it was.
    """
    own = model.state_dict()
    mismatch = compare(model, checkpoint.state, unused, omitted)
    if mismatch:
        end = f"; {hint}" if hint else ""
        if mismatch.missing or mismatch.unexpected:
            both = list(own), list(checkpoint.state)
            end = f"; {weightfiles.nearest(mismatch.missing, mismatch.unexpected, *both)}{end}"
        raise CheckpointError(
            f"weights {checkpoint.path} do not fit: {mismatch.describe()} of {len(own)} entries{end}; {EXPECTED}"
        )
    model.load_state_dict({name: checkpoint.state.get(name, value) for name, value in own.items()})


def save(
    path: str | Path,
    model: nn.Module,
    config: Mapping[str, Any],
    status: str = TRAINED_HERE,
    extra: Mapping[str, str] | None = None,
    omit: Iterable[str] = (),
) -> None:
    """Write a model's state as `.safetensors`, with the configuration (JSON-ready) and status in its metadata.

    Entries whose name starts with one of `omit` are left out, for parts that come from elsewhere.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"weights {path}: name it *.safetensors")
    metadata = {**(extra or {}), "format": _FORMAT, "weights_status": status, "config": json.dumps(dict(config))}
    # A copy, since safetensors refuses views and tensors that share memory.
    state = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
        if not name.startswith(tuple(omit))
    }
    temporary = path.with_suffix(".partial")
    save_file(state, str(temporary), metadata=metadata)
    temporary.replace(path)


def digest(state: nn.Module | Mapping[str, Tensor]) -> str:
    """Return 16 hex digits over names, types, shapes and bytes of a state dict: equal weights, equal digest."""
    entries = state.state_dict() if isinstance(state, nn.Module) else state
    total = hashlib.sha256()
    for name in sorted(entries):
        value = entries[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def _some(names: Iterable[Any], limit: int = 3) -> str:
    return weightfiles.some(names, limit)


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"
