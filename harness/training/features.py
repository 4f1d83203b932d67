"""What a frozen encoder makes of a batch, kept on disk: the next decoder with the same batches is spared it.

A batch is a function of (seed, step), so decoders of one plan see the same pixels. The key is the content: weights of
the frozen part, pixels after augmentation, precision, layout. Nothing can therefore be taken for something else, and a
run with kept features equals one without bit by bit. One step takes 5 to 40 MB.
"""

from __future__ import annotations

import errno
import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FOLDER = "features"
"""Below the cache of the packed data."""

_FORM = f"2 {torch.__version__}"
"""Changes when the files, or what the frozen parts compute, change."""

_LAST = "last"
"""Mark of a map that is stored, as it was in memory, with its channels last."""


class Features:
    """Keeps the outputs of frozen parts under a folder.

    Args:
        folder: created when the first file is written.

    Attributes:
        found, made: how often a file was there, and how often not.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.found = self.made = 0
        self._digests: dict[int, str] = {}
        self._full = False

    def __call__(self, part: nn.Module, images: Tensor, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return `make()`, or what it returned before for this part and these images; never kept if `part` is trained.

        Args:
            part: all that `make` computes with.
            images: (B, C, H, W), all that `make` computes from.
            make: gives maps of any number and dtype.
        """
        if any(parameter.requires_grad for parameter in part.parameters()):
            return make()
        path = self.folder / self._digest(part, images.device) / f"{_content(images)}.safetensors"
        kept = _read(path, images.device)
        if kept is not None:
            self.found += 1
            return kept
        tensors = tuple(tensor.detach() for tensor in make())
        self.made += 1
        self._write(path, tensors)
        return tensors

    def _digest(self, part: nn.Module, device: torch.device) -> str:
        """Of class, values and precision; the values once per part, as they are frozen."""
        known = self._digests.get(id(part))
        if known is None:
            whole = hashlib.blake2b(f"{_FORM} {type(part).__name__}".encode(), digest_size=16)
            for name, value in sorted(part.state_dict().items()):
                whole.update(f"\n{name} {value.dtype} {tuple(value.shape)}".encode())
                whole.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            known = self._digests[id(part)] = whole.hexdigest()
        half = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
        return f"{known[:20]}-{device.type}-{str(half).removeprefix('torch.')}"

    def _write(self, path: Path, tensors: tuple[Tensor, ...]) -> None:
        if self._full:
            return
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        stored = {f"{i}{_LAST if _is_last(t) else ''}": _as_stored(t).cpu() for i, t in enumerate(tensors)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(stored, str(temporary))
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            # Safetensors wraps the system's error into its own and keeps only its text.
            if getattr(error, "errno", None) in (None, errno.ENOSPC, errno.EDQUOT):
                self._full = True
                warnings.warn(f"features are no longer kept under {self.folder}: {error}", stacklevel=2)
                return
            raise
        finally:
            temporary.unlink(missing_ok=True)


def size(folder: Path) -> int:
    """Bytes under a folder; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def _read(path: Path, device: torch.device) -> tuple[Tensor, ...] | None:
    """Maps of a file as they were; None if there is none, or it is damaged (it is then made again)."""
    if not path.is_file():
        return None
    tensors = {}
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                tensors[int(name.removesuffix(_LAST))] = tensor.permute(0, 3, 1, 2) if name.endswith(_LAST) else tensor
    except (SafetensorError, OSError):
        return None
    return tuple(tensors[index] for index in range(len(tensors)))


def _is_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _as_stored(tensor: Tensor) -> Tensor:
    return (tensor.permute(0, 2, 3, 1) if _is_last(tensor) else tensor).contiguous()


def _content(images: Tensor) -> str:
    """Of the values and of the layout, on which the last bits of a convolution depend."""
    whole = hashlib.blake2b(f"{tuple(images.shape)} {images.dtype} {_is_last(images)}".encode(), digest_size=16)
    whole.update(_as_stored(images.detach()).cpu().numpy().data)
    return whole.hexdigest()
