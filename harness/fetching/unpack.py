"""Archives of strangers, unpacked into a folder and nowhere else: no way out of it, no links, no devices, no bombs.

Nothing of an archive's metadata is obeyed but names and content: no owners, modes, times or links. An archive that asks
for more is refused as a whole, since what it was meant to hold is then unknown.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness.errors import UserError
from harness.fetching import room

MOST_MEMBERS = 2_000_000
MOST_PATH, MOST_DEPTH = 1_000, 32
MOST_RATIO, ALWAYS = 100, 16 << 20
"""An archive may unpack to MOST_RATIO times its size, or to ALWAYS bytes where that is more. Images are packed already:
data sets stay below twice their archive, masks alone below thirty times."""
_BLOCK = 1 << 20
_JUNK = ("__MACOSX",)
_FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
}
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class BadArchive(UserError):
    """The archive is damaged, or asks for what no data set needs."""


@dataclass(frozen=True)
class Member:
    """A file that was unpacked: its path under the folder (with slashes) and its SHA-256."""

    path: str
    sha256: str


@dataclass
class _Budget:
    """What is left before an archive counts as a bomb."""

    archive: Path
    left: int = 0
    members: int = 0
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.most = self.left = max(ALWAYS, MOST_RATIO * self.archive.stat().st_size)

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise BadArchive(
                f"{self.archive}: unpacks to more than {self.most / 1e6:,.0f} MB, {MOST_RATIO} times its size, as "
                "bombs do; refused."
            )

    def name(self, name: str) -> None:
        self.members += 1
        if self.members > MOST_MEMBERS:
            raise BadArchive(f"{self.archive}: more than {MOST_MEMBERS:,} members; refused.")
        if name in self.seen:
            raise BadArchive(f"{self.archive}: holds {name!r} twice; refused, since one would replace the other.")
        self.seen.add(name)


def kind_of(path: Path) -> str:
    """zip | tar, from the content, or "" for neither.

    Raises:
        BadArchive: an archive of a kind that is not unpacked here.
    """
    with open(path, "rb") as file:
        start = file.read(512)
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise BadArchive(
                f"{path}: {what}, which is not unpacked here; unpack it yourself and give dataset.root=DIR."
            )
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "tar" if start[257:262] == b"ustar" or start.startswith(tuple(_OPENERS)) or _is_old_tar(path) else ""


def unpack(archive: Path, folder: Path, rule: str = "auto") -> list[Member]:
    """Write the files of an archive under a folder that exists.

    Args:
        rule: auto | zip | tar; auto goes by the content.

    Raises:
        BadArchive: no archive, a damaged one, or one that asks for paths outside, links, devices or too much room; the
            folder then holds a part of it, and is the caller's to remove.
        NoRoom: full disk, no permission.
    """
    kind = kind_of(archive)
    if not kind or rule not in ("auto", kind):
        raise BadArchive(
            f"{archive}: not {'a ' + rule if rule != 'auto' else 'a zip or tar'} archive; begins with "
            f"{_start(archive)}."
        )
    budget = _Budget(archive)
    read = _zip_members if kind == "zip" else _tar_members
    members = []
    try:
        for name, content in read(archive, budget):
            parts = _safe(archive, name)
            if parts[0] in _JUNK or parts[-1] == ".DS_Store" or parts[-1].startswith("._"):
                continue
            budget.name("/".join(parts))
            members.append(Member("/".join(parts), _write(folder, parts, content, budget)))
    except _ERRORS as error:
        if isinstance(error, UserError):
            raise
        raise BadArchive(f"{archive}: damaged or not readable ({_text(error)}); fetch it again.") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadArchive(f"{archive}: two members want {error.filename}; refused.") from error
    except OSError as error:
        if error.errno is None:  # gzip.BadGzipFile, a damaged stream
            raise BadArchive(f"{archive}: damaged ({_text(error)}); fetch it again.") from error
        raise room.no_room(error, folder / "x", archive.name) from error
    if not members:
        raise BadArchive(f"{archive}: holds no files.")
    return members


def _zip_members(archive: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        budget_check = sum(info.file_size for info in infos)
        if budget_check > budget.left:
            budget.take(budget_check)
        for info in infos:
            mode = info.external_attr >> 16
            name = info.filename.replace("\\", "/")
            _safe(archive, name)
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise BadArchive(f"{archive}: {info.filename!r} is {_kind_of_mode(mode)}; refused.")
            if info.flag_bits & 0x1:
                raise BadArchive(
                    f"{archive}: {info.filename!r} is encrypted; unpack it yourself and give dataset.root=DIR."
                )
            if info.is_dir() or name.endswith("/"):
                continue
            with opened.open(info) as content:
                yield name, content


def _tar_members(archive: Path, budget: _Budget) -> Iterator[tuple[str, IO[bytes]]]:
    with open(archive, "rb") as file:
        start = file.read(6)
    opener = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), open)
    with opener(archive, "rb") as plain:  # type: ignore[operator]
        # What the stream gives is counted, too: headers of a tar file may be as large as anybody likes.
        counted: Any = _Counted(plain, archive, budget.most)
        with tarfile.open(fileobj=counted, mode="r|", errorlevel=2, tarinfo=_Info) as opened:
            for info in opened:
                _safe(archive, info.name)
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise BadArchive(f"{archive}: {info.name!r} is {_kind_of_tar(info)}; refused.")
                if info.size > budget.left:
                    budget.take(info.size)
                content = opened.extractfile(info)
                assert content is not None
                yield info.name, content


class _Info(tarfile.TarInfo):
    """A header that is cut off or damaged is an error; tarfile itself takes it for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Any:
        """The next header."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the end mark
                raise
            raise tarfile.ReadError(f"cut off, or {error}") from error


class _Counted:
    """A stream that gives so many bytes and no more."""

    def __init__(self, stream: Any, archive: Path, most: int):
        # Headers and padding take at most 1 KiB a member of the plain tar file.
        self._stream, self._archive, self._left = stream, archive, 2 * most

    def read(self, count: int = -1) -> bytes:
        """Like the stream's."""
        block: bytes = self._stream.read(count)
        self._left -= len(block)
        if self._left < 0:
            raise BadArchive(f"{self._archive}: unpacks to far more than its size, as bombs do; refused.")
        return block


def _safe(archive: Path, name: str) -> list[str]:
    """Parts of a member's path; whatever could lead elsewhere is refused."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    shown = name[:120]
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        raise BadArchive(f"{archive}: {shown!r} is an absolute path; refused.")
    if ".." in (part.strip() for part in parts):
        raise BadArchive(f"{archive}: {shown!r} leads out of the folder; refused.")
    if any(unicodedata.category(c) == "Cc" for c in name):
        raise BadArchive(f"{archive}: {shown!r} has control characters; refused.")
    if len(os.fsencode(name)) > MOST_PATH or len(parts) > MOST_DEPTH or any(len(os.fsencode(p)) > 255 for p in parts):
        raise BadArchive(f"{archive}: {shown!r}… is too long or too deep; refused.")
    if not parts:
        return ["."]
    return parts


def _write(folder: Path, parts: list[str], content: IO[bytes], budget: _Budget) -> str:
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        while block := content.read(_BLOCK):
            budget.take(len(block))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _is_old_tar(path: Path) -> bool:
    """A tar file of before POSIX has no magic; its first header has a checksum."""
    try:
        with open(path, "rb") as file:
            tarfile.TarInfo.frombuf(file.read(512), "utf-8", "surrogateescape")
        return True
    except tarfile.TarError:
        return False


def _kind_of_mode(mode: int) -> str:
    return "a link" if stat.S_ISLNK(mode) else "a device, FIFO or socket"


def _kind_of_tar(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"a link to {info.linkname[:80]!r}"
    return "a sparse file" if info.issparse() else "a device, FIFO or something else that is no file"


def _start(path: Path) -> str:
    with open(path, "rb") as file:
        return ascii(file.read(16))


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
