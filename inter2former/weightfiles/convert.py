"""`python -m inter2former.weightfiles.convert SOURCE TARGET`: rewrite a weight file as safetensors, confined.

The child of `python -m harness.convert`; it prints one line of JSON and writes the target, which must not exist.
"""

from __future__ import annotations

import json
import struct
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np  # noqa: F401  (loaded now: after `confine` nothing should be missing)
import torch
from torch import Tensor

from inter2former import weightfiles
from inter2former.weightfiles.confinement import confine

_KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_CPU_S = 600


def write(file: BinaryIO, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors one after another in safetensors' format (its library opens paths, which is forbidden by then)."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for name, tensor in state.items():
        length = tensor.numel() * tensor.element_size()
        entry = {"dtype": _KINDS[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**entry, "data_offsets": [position, position + length]}
        position += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for tensor in state.values():
        file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def main(source: str, target: str) -> dict[str, Any]:
    """Convert; return what the parent tells the user."""
    torch.set_num_threads(1)
    path = weightfiles.locate(source)
    size = max(weightfiles.regular_file(path), 1 << 20)
    with open(target, "xb") as file:
        confined = confine(most_memory=4 * size + (1 << 30), most_written=4 * size, cpu_s=_CPU_S)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", weightfiles.DroppedWarning)
            loaded = weightfiles.read(path, keep_hostile=True)
        strange = [name for name, tensor in loaded.state.items() if tensor.dtype not in _KINDS]
        state = {name: tensor for name, tensor in loaded.state.items() if name not in strange}
        if not state:
            raise weightfiles.WeightFileError("no tensor of a type that safetensors has")
        metadata = {key: value for key, value in loaded.metadata.items() if key != weightfiles.BASE}
        write(file, state, metadata)
    dropped = [*loaded.dropped, *(f"{name} ({state_type(loaded.state[name])})" for name in strange)]
    return {"tensors": len(state), "dropped": dropped, "hostile": list(loaded.hostile), "confined": confined}


def state_type(tensor: Tensor) -> str:
    """Type of a tensor in words."""
    return str(tensor.dtype).removeprefix("torch.")


if __name__ == "__main__":
    try:
        answer = main(*map(str, map(Path, sys.argv[1:3])))
    except (weightfiles.WeightFileError, OSError, MemoryError) as error:
        answer = {"error": weightfiles.shown(error or type(error).__name__, 500)}
    print(json.dumps(answer))
