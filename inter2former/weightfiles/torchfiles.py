"""Files of `torch.save`: the zip archive of torch 1.6 and later, and the plain sequence of pickles before it.

Only the descriptions are decoded at first (`pickles`); numbers are read when a tensor is asked for.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inter2former.weightfiles.descriptions import StorageRecord, TensorRecord
from inter2former.weightfiles.limits import (
    MOST_DIRECTORY,
    MOST_ENTRIES,
    MOST_PICKLE,
    WeightFileError,
    damaged,
    refused,
    shown,
)
from inter2former.weightfiles.pickles import PickleReader

ZIP = b"PK\x03\x04"
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_END, _END64_LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"


@dataclass
class TorchFile:
    """What a torch file holds, with descriptions in place of tensors.

    Attributes:
        content: plain values, `TensorRecord` and `Dropped`.
        reader: says what was left out.
        locate: (first byte, number of bytes) of a storage's numbers within the file.
    """

    path: Path
    content: Any
    reader: PickleReader
    locate: Callable[[StorageRecord], tuple[int, int]]
    _read: dict[str, Tensor] = field(default_factory=dict)

    def tensor(self, record: TensorRecord) -> Tensor:
        """Read a tensor; tensors that share numbers in the file share them in memory."""
        key = record.storage.key
        if key not in self._read:
            self._read[key] = self._numbers(record.storage)
        numbers = self._read[key]
        whole = numbers[: len(numbers) // record.dtype.itemsize * record.dtype.itemsize]
        return whole.view(record.dtype).as_strided(record.shape, record.strides, record.offset)

    def _numbers(self, storage: StorageRecord) -> Tensor:
        start, length = self.locate(storage)
        numbers = torch.empty(length, dtype=torch.uint8)
        with open(self.path, "rb") as file:
            file.seek(start)
            if file.readinto(memoryview(numbers.numpy())) != length:  # type: ignore[arg-type]
                raise damaged("it became shorter while it was read")
        return numbers


def read_zip(path: Path, size: int) -> TorchFile:
    """Read a zip archive of `torch.save`.

    Raises:
        WeightFileError: damaged, over a limit, compressed, or another kind of archive.
    """
    with open(path, "rb") as file:
        _check_directory(file, size)
        try:
            archive = zipfile.ZipFile(file)
            members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError) as error:
            raise damaged(error) from error
        names = {member.filename: member for member in members}
        if len(names) != len(members):
            raise refused("an archive with two members of one name")
        if any(name.endswith("/constants.pkl") for name in names):
            raise refused("a TorchScript program, not a state dict; ask its authors for the state dict")
        packed = [m.filename for m in members if m.compress_type or m.compress_size != m.file_size]
        if packed:
            raise refused(f"an archive with compressed members ({shown(packed[0])}), which torch never writes")
        if any(member.flag_bits & 1 for member in members):
            raise refused("an encrypted archive")
        unpacked = sum(member.file_size for member in members)
        if unpacked > size:
            raise refused(f"an archive of {size:,} bytes that would unpack to {unpacked:,}")
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise refused(
                "a zip archive without torch's data.pkl" if not pickles else "an archive of several torch files"
            )
        prefix = pickles[0].removesuffix("data.pkl")
        if names[pickles[0]].file_size > MOST_PICKLE:
            raise refused(f"an archive whose data.pkl is larger than {MOST_PICKLE:,} bytes")
        spots = {name: _spot(file, member, size) for name, member in names.items()}
        order = spots.get(f"{prefix}byteorder")
        if order is not None and _bytes(file, order[0], min(order[1], 8)) != b"little":
            raise refused("written on a big-endian machine")
        reader = PickleReader()
        content = reader.read(io.BytesIO(_bytes(file, *spots[pickles[0]])))

    def locate(storage: StorageRecord) -> tuple[int, int]:
        spot = spots.get(f"{prefix}data/{storage.key}")
        needed = storage.count * storage.dtype.itemsize
        if spot is None or spot[1] < needed:
            raise damaged(f"numbers {shown(storage.key)} are missing or cut off")
        return spot

    return TorchFile(path, content, reader, locate)


def _check_directory(file: Any, size: int) -> None:
    """Raise if the table of contents is larger than it may be; Python's reader takes it into memory as a whole."""
    tail_start = max(0, size - 65_557)
    tail = _bytes(file, tail_start, size - tail_start)
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        raise damaged("the zip archive has no end, as after a broken download")
    count, length = struct.unpack_from("<HI", tail, end + 10)
    if tail[max(end - 20, 0) :].startswith(_END64_LOCATOR):
        (start,) = struct.unpack_from("<Q", tail, end - 20 + 8)
        record = _bytes(file, start, 56) if start + 56 <= size else b""
        if not record.startswith(_END64):
            raise damaged("the zip archive's end is damaged")
        count, length = struct.unpack_from("<QQ", record, 32)
    if count > MOST_ENTRIES or length > MOST_DIRECTORY:
        raise refused(f"an archive of {count:,} members; at most {MOST_ENTRIES:,} are read")


def _spot(file: Any, member: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """First byte and length of a stored member."""
    header = _bytes(file, member.header_offset, 30) if 0 <= member.header_offset <= size - 30 else b""
    if not header.startswith(ZIP):
        raise damaged(f"the archive's member {shown(member.filename)} is not where it should be")
    name, extra = struct.unpack_from("<HH", header, 26)
    start = member.header_offset + 30 + name + extra
    if start + member.file_size > size:
        raise damaged(f"the archive's member {shown(member.filename)} is cut off")
    return start, member.file_size


def _bytes(file: Any, start: int, length: int) -> bytes:
    file.seek(start)
    return bytes(file.read(length))


def read_legacy(path: Path, size: int) -> TorchFile:
    """Read a file that torch wrote before 1.6: pickles one after another, then the numbers of each storage.

    Raises:
        WeightFileError: damaged, over a limit, or a pickle that torch did not write.
    """
    reader = PickleReader()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        if reader.read(mapped) != _LEGACY_MAGIC:
            dropped = f" with {', '.join(list(reader.dropped)[:3])}" if reader.dropped else ""
            raise refused(f"a plain pickle{dropped}, not a file of torch.save; damaged or no weight file")
        if reader.read(mapped) != _LEGACY_PROTOCOL:
            raise refused("a torch file of an unknown protocol")
        system = reader.read(mapped)
        if not (isinstance(system, dict) and system.get("little_endian") is True):
            raise refused("written on a big-endian machine")
        content = reader.read(mapped)
        keys = reader.read(mapped)
        if not isinstance(keys, list) or len(keys) > MOST_ENTRIES or not all(isinstance(key, str) for key in keys):
            raise damaged("its list of storages is none")
        position = mapped.tell()
        if position > MOST_PICKLE:
            raise refused(f"a torch file whose pickles are larger than {MOST_PICKLE:,} bytes")
        records = _storages(content)
        spots: dict[str, tuple[int, int]] = {}
        for key in keys:
            record = records.get(key)
            if position + 8 > size:
                raise damaged("its numbers are cut off")
            (count,) = struct.unpack_from("<q", mapped, position)
            if record is None:
                # Of something that was left out: without its kind, where it ends is unknown.
                raise refused(
                    f"an old torch file with numbers {shown(key)} of a kind that was left out "
                    f"({', '.join(list(reader.dropped)[:3]) or 'unknown'})"
                )
            length = count * record.dtype.itemsize
            if count < 0 or position + 8 + length > size:
                raise damaged(f"numbers {shown(key)} are cut off")
            spots[key] = (position + 8, length)
            position += 8 + length

    def locate(storage: StorageRecord) -> tuple[int, int]:
        spot = spots.get(storage.key)
        needed = storage.count * storage.dtype.itemsize
        if spot is None or spot[1] < needed:
            raise damaged(f"numbers {shown(storage.key)} are missing or cut off")
        return spot

    return TorchFile(path, content, reader, locate)


def _storages(content: Any) -> dict[str, StorageRecord]:
    """All storages under a value, by key; values that hold one another are visited once."""
    storages: dict[str, StorageRecord] = {}
    pending, seen = [content], set()
    while pending:
        value = pending.pop()
        if isinstance(value, TensorRecord):
            value = value.storage
        if isinstance(value, StorageRecord):
            known = storages.setdefault(value.key, value)
            if known.dtype != value.dtype:
                raise WeightFileError("cannot be read: one storage with two kinds of numbers")
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            pending.extend(value.values() if isinstance(value, dict) else value)
    return storages
