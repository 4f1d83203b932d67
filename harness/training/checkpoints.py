"""Checkpoints that a run resumes from to the same numbers, and the weights that it ends with."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from harness.errors import UserError

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"


def save_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside `path` and rename it, so that `path` is always whole: the old one or the new one.

    Raises:
        UserError: the disk is full; the old file is untouched.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its zip writer.
        free = shutil.disk_usage(path.parent).free
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or (isinstance(error, RuntimeError) and "unexpected pos" in str(error)) or free < 2**20:
            raise UserError(
                f"no space to write {path} ({free / 2**20:.0f} MiB free). The checkpoint before this one is still "
                "there: free some space and repeat the command to go on from it."
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the run's checkpoint."""
    save_atomically(folder / CHECKPOINT, lambda path: torch.save(dict(state), path))


def load_checkpoint(folder: Path, identity: Mapping[str, Any], device: torch.device) -> dict[str, Any] | None:
    """The run's checkpoint; None if there is none.

    Raises:
        UserError: it belongs to other settings, or cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        _check(path)
        state = torch.load(path, map_location=device, weights_only=True)
        if not (isinstance(state, dict) and isinstance(state.get("identity"), dict) and state.keys() >= _PARTS):
            raise ValueError("not the parts of a run")
    except Exception as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}). Remove it to start this run afresh."
        ) from error
    different = sorted(k for k in {*identity, *state["identity"]} if identity.get(k) != state["identity"].get(k))
    if different:
        shown = ", ".join(
            f"{k}: {_short(state['identity'].get(k))} -> {_short(identity.get(k))}" for k in different[:4]
        )
        raise UserError(
            f"{folder} holds a run with other settings ({shown}). Give another folder (out=DIR), or remove {path}."
        )
    return state


_PARTS = {"identity", "step", "seconds", "module", "optimizer", "average", "random"}


def _check(path: Path) -> None:
    """Raise ValueError unless it is a plain file that `save_checkpoint` may have written: an archive, uncompressed.

    torch's reader would unpack a bomb, wait for a FIFO, and read formats from before its archives by other rules.
    """
    if not path.is_file():
        raise ValueError("no plain file")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(m.compress_type for m in members) or sum(m.file_size for m in members) > path.stat().st_size:
        raise ValueError("a compressed archive")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) < 60 else text[:57] + "..."


def weights_to_keep(
    module: torch.nn.Module, pretrained: Mapping[str, torch.Tensor], half: bool = False
) -> dict[str, torch.Tensor]:
    """What must be stored of a trained module: all but the pretrained entries that have kept their values.

    Args:
        pretrained: entries that the model has from elsewhere, by their names in the module.
        half: store matrices, kernels and tables in float16; vectors (norms, biases) and fixed filters stay as they are.
    """
    kept = {}
    for name, value in module.state_dict().items():
        value = value.detach().cpu().contiguous().clone()
        if name in pretrained and torch.equal(pretrained[name], value):
            continue
        kept[name] = halved(name, value) if half else value
    return kept


def halved(name: str, value: torch.Tensor) -> torch.Tensor:
    """An entry in float16, if it is a matrix, kernel or table and not a fixed filter; any other as it is."""
    return value.half() if value.dtype == torch.float32 and value.dim() > 1 and "canny." not in name else value


def save_weights(
    path: Path,
    module: torch.nn.Module,
    metadata: Mapping[str, str],
    pretrained: Mapping[str, torch.Tensor],
    half: bool = False,
) -> None:
    """Write the weights as safetensors with string metadata; `pretrained` and `half` as in `weights_to_keep`."""
    from safetensors.torch import save_file

    kept = weights_to_keep(module, pretrained, half)
    save_atomically(path, lambda temporary: save_file(kept, str(temporary), dict(metadata)))
