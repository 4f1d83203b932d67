"""Weight files of other people, read as data: the one home of everything that opens a checkpoint.

`read` takes `.safetensors` and what `torch.save` writes (.pth, .pt, .bin). It runs nothing that a file names, checks
sizes before it decodes (`limits`), and says in one line why it refuses a file. docs/security.md lists what it promises.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from inter2former.weightfiles import safetensorfiles, torchfiles
from inter2former.weightfiles.descriptions import Dropped, TensorRecord
from inter2former.weightfiles.limits import (
    CONVERT,
    MOST_BASES,
    MOST_ENTRIES,
    MOST_NAME,
    WeightFileError,
    damaged,
    most_tensor_bytes,
    parse_json,
    refused,
    regular_file,
    shown,
    some,
)

__all__ = [
    "BASE",
    "DroppedWarning",
    "WeightFile",
    "WeightFileError",
    "locate",
    "nearest",
    "parse_json",
    "read",
    "regular_file",
    "shown",
    "some",
]

BASE = "base"
"""Key of a file's metadata: name of the file beside it that has the entries that it leaves out."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Keys under which training programs keep the state dict."""
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
_FOLDER_PATTERNS = ("*.pth", "*.pt", "*.safetensors")


class DroppedWarning(UserWarning):
    """A file holds objects that are no tensors; they were left out."""


@dataclass(frozen=True)
class WeightFile:
    """A weight file in memory.

    Attributes:
        state: tensors by name; wrappers and a common `module.` of data-parallel training are removed.
        metadata: texts of a safetensors file; empty for torch's.
        dropped: what else a torch file holds, by the names of its classes.
        hostile: those among them that run commands or code where a file is unpickled; here nothing ran.
    """

    path: Path
    state: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    dropped: tuple[str, ...] = ()
    hostile: tuple[str, ...] = ()


def read(path: str | Path, keep_hostile: bool = False) -> WeightFile:
    """Read a weight file; its content says of which kind it is. Entries of its base (`BASE`) come with it.

    Args:
        keep_hostile: read the tensors also where the file tries to run something (it cannot).

    Raises:
        WeightFileError: absent, no plain file, damaged, over a limit, or an attack; one line, without the path.
    """
    path = Path(path)
    try:
        file = _read_one(path)
        file = _with_bases(file)
    except (OSError, MemoryError, RecursionError) as error:
        raise damaged(f"{type(error).__name__}: {error}") from error
    if file.hostile and not keep_hostile:
        raise refused(f"it asks for {some(file.hostile)} to be called, as attacks do; nothing was called. {CONVERT}")
    if file.dropped:
        warnings.warn(
            f"weights {shown(path, 300)}: left out what is no tensor: {some(file.dropped, 6)}", DroppedWarning, 2
        )
    return file


def _read_one(path: Path) -> WeightFile:
    size = regular_file(path)
    with open(path, "rb") as file:
        start = file.read(512)
    if start[8:9] == b"{":  # first, as the length before it may begin like a pickle
        sizes, metadata = safetensorfiles.read_header(path, size)
        _check_total(sum(sizes.values()))
        return WeightFile(path, safetensorfiles.read_tensors(path), metadata)
    if start.startswith(torchfiles.ZIP):
        return _from_torch(torchfiles.read_zip(path, size))
    if start.startswith(b"\x80"):
        return _from_torch(torchfiles.read_legacy(path, size))
    if start[257:262] == b"ustar" or start.startswith(b"storages"):
        raise refused(f"a tar archive of torch before 0.2, which nothing here reads; {_SAVE_ANEW}")
    raise damaged(f"it begins with {shown(ascii(start[:12]))}, as no .pth or .safetensors file does")


_SAVE_ANEW = "load it where it came from, and save its state dict with torch.save or safetensors"


def _from_torch(file: torchfiles.TorchFile) -> WeightFile:
    content = file.content
    for _ in range(4):
        inner = [content[key] for key in WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)]
        if not inner:
            break
        content = inner[0]
    reader = file.reader
    if not isinstance(content, dict) or not any(isinstance(value, TensorRecord) for value in content.values()):
        parts = [f"no state dict inside: no tensors, found {_found(content)}"]
        parts += [f"it asks for {some(reader.hostile)} to be called, as attacks do"] * bool(reader.hostile)
        raise refused("; ".join(parts))
    if len(content) > MOST_ENTRIES:
        raise refused(f"{len(content):,} entries; at most {MOST_ENTRIES:,} are read")
    names = [key for key, value in content.items() if isinstance(value, TensorRecord)]
    for name in names:
        if not isinstance(name, str):
            raise refused(f"a tensor under {shown(name)} ({type(name).__name__}), which is no name")
        if len(name) > MOST_NAME:
            raise refused(f"a tensor's name of {len(name):,} characters; at most {MOST_NAME} are read")
    records = {name: content[name] for name in names}
    _check_total(sum({r.storage.key: file.locate(r.storage)[1] for r in records.values()}.values()))
    bare = all(name.startswith("module.") for name in names)
    state = {name.removeprefix("module.") if bare else name: file.tensor(record) for name, record in records.items()}
    return WeightFile(file.path, state, {}, tuple(reader.dropped), tuple(reader.hostile))


_MOST_COMPARED, _MOST_NAMED = 2000, 2


def nearest(missing: Sequence[str], surplus: Sequence[str], own: Sequence[str], held: Sequence[str]) -> str:
    """Name, for the first keys that do not fit, those of the other side that they resemble most.

    Args:
        missing, surplus: keys that only the model has, and keys that only the file has.
        own, held: all keys of the model and of the file; where one side lacks nothing, its keys are all compared.
    """
    keys, others = (missing, surplus or held) if missing else (surplus, own)
    pairs = []
    for key in keys[:_MOST_NAMED]:
        close = difflib.get_close_matches(key[:MOST_NAME], others[:_MOST_COMPARED], n=1, cutoff=0.0)
        pairs += [f"nearest to {shown(key)} is {shown(name)}" for name in close]
    return ", ".join(pairs) or "there is no other key"


def _found(content: Any) -> str:
    if isinstance(content, dict):
        return f"keys {some(content)}" if content else "nothing"
    return shown(content.what) if isinstance(content, Dropped) else f"a {type(content).__name__}"


def _check_total(size: int) -> None:
    most = most_tensor_bytes()
    if size > most:
        raise refused(f"{size / 2**30:,.1f} GiB of tensors; on this machine at most {most / 2**30:.1f} are read")


def _with_bases(file: WeightFile) -> WeightFile:
    state, bases = dict(file.state), [file]
    while (name := bases[-1].metadata.get(BASE)) is not None:
        if not name or "/" in name or "\0" in name or name.startswith("."):
            raise refused(f"its base {shown(name)!r} is no name of a file beside it")
        path = file.path.with_name(f"{name}.safetensors")
        if path.name in (base.path.name for base in bases) or len(bases) >= MOST_BASES:
            ring = " -> ".join(shown(item.path.name) for item in [*bases, replace(file, path=path)])
            raise refused(f"its bases form a ring or a long chain ({ring})")
        try:
            base = _read_one(path)
        except WeightFileError as error:
            raise WeightFileError(
                f"leave out what {shown(path.name)} has: put that file beside it ({error})"
            ) from error
        bases.append(base)
        state = {**base.state, **state}
    return replace(file, state=state)


def locate(path: str | Path) -> Path:
    """Return the weight file of a folder; whatever is no folder is returned as it is.

    Raises:
        WeightFileError: a folder without a weight file, or with several.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return path
        for name in _FOLDER_FILES:
            if (path / name).is_file():
                return path / name
        files = sorted(file for pattern in _FOLDER_PATTERNS for file in path.glob(pattern))
    except (OSError, ValueError) as error:
        raise WeightFileError(f"cannot be opened ({shown(error)}); give a .pth or .safetensors file") from error
    if len(files) == 1:
        return files[0]
    shards = " (a model in several parts: join them first)" if any(path.glob("*.index.json")) else ""
    raise WeightFileError(
        f"is a folder; expected {' or '.join(_FOLDER_FILES)} or one .pth file in the folder, "
        f"found {some([file.name for file in files], 4) or 'none'}{shards}"
    )
