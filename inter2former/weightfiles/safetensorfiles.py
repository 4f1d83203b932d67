"""Files of safetensors: the header is checked here before the library opens the file."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from inter2former.weightfiles.limits import (
    MOST_DIMENSIONS,
    MOST_ENTRIES,
    MOST_HEADER,
    MOST_NAME,
    damaged,
    parse_json,
    refused,
    shown,
)

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 8),
}
"""Bits per number of each type that torch has a tensor for."""


def read_header(path: Path, size: int) -> tuple[dict[str, int], dict[str, str]]:
    """Return the bytes of each tensor, and the metadata.

    Raises:
        WeightFileError: damaged, over a limit, or tensors that overlap, leave gaps or lie outside of the file.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if length < 2 or length + 8 > size:
            raise damaged(f"a header of {length:,} bytes in a file of {size:,}")
        if length > MOST_HEADER:
            raise refused(f"a header of {length:,} bytes; at most {MOST_HEADER:,} are read")
        header = parse_json(file.read(length), "the header", MOST_HEADER)
    if not isinstance(header, dict):
        raise damaged("the header is no list of tensors")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged("the header's metadata are no texts")
    if len(header) > MOST_ENTRIES:
        raise refused(f"{len(header):,} tensors; at most {MOST_ENTRIES:,} are read")
    spans = sorted((*_span(name, entry), name) for name, entry in header.items())
    edges = [(0, 0, ""), *spans]
    for (_, end, before), (begin, _, name) in itertools.pairwise(edges):
        if begin != end:
            how = f"overlaps {shown(before)}" if begin < end else "leaves a gap before it"
            raise damaged(f"tensor {shown(name)} {how}")
    room = size - 8 - length
    if edges[-1][1] != room:
        raise damaged(f"tensors end at byte {edges[-1][1]:,} of {room:,}, as after a broken download")
    return {name: end - begin for begin, end, name in spans}, metadata


def _span(name: str, entry: Any) -> tuple[int, int]:
    """First byte and end of a tensor, which its type and shape must agree with."""
    if len(name) > MOST_NAME:
        raise refused(f"a tensor's name of {len(name):,} characters; at most {MOST_NAME} are read")
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise damaged(f"tensor {shown(name)} has no dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _BITS:
        known = ", ".join(_BITS)
        what = shown(kind) if isinstance(kind, str) else type(kind).__name__
        raise refused(f"tensor {shown(name)} is of the unknown type {what} (known: {known})")
    if not _counts(shape) or len(shape) > MOST_DIMENSIONS:
        raise damaged(f"tensor {shown(name)} has no proper shape")
    if not _counts(offsets) or len(offsets) != 2:
        raise damaged(f"tensor {shown(name)} has no proper data_offsets")
    numbers = 1
    for side in shape:
        numbers *= side
    begin, end = offsets
    if end - begin != numbers * _BITS[kind] // 8:
        raise damaged(f"tensor {shown(name)} of {kind} {shown(shape)} cannot lie in {end - begin:,} bytes")
    return begin, end


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**62 for v in values
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a file whose header has been checked.

    Raises:
        WeightFileError: the library refuses it.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise damaged(error) from error
