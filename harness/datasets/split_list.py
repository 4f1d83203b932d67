"""Lists of names, such as VOC's val.txt, in every form in which they are found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.datasets.pairs import IMAGE_ENDINGS, Entry, Stems, pair
from harness.errors import UserError
from harness.text import sample_name

_ENDINGS = (*IMAGE_ENDINGS, ".mat")
_WHAT = "it lists the samples, one name without ending a line"
# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_split(path: Path, *known: Stems) -> list[str]:
    """Names of a split file, one a line, without doubles; blank lines and comments (`#`) are skipped.

    A line may hold a path, an ending and further columns. Of what can be meant, a name that a file has wins, and the
    line as it stands wins over its parts: names may have blanks, dots and a `#`.

    Args:
        known: files by stem, any of which makes a name one that exists.

    Raises:
        UserError: the file is missing or empty, or is no text.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such split file; {_WHAT}.")
    names = []
    for line in re.split(r"\r\n|\n|\r", _text(path)):
        if not line.strip():
            continue
        candidates = list(dict.fromkeys(map(sample_name, _candidates(line))))
        existing = [name for name in candidates if any(stems.of(name) for stems in known)]
        if not existing and line.lstrip().startswith("#"):
            continue
        if existing and known and existing[0] not in known[0]:  # the same name in another case: as the file has it
            existing = [sample_name(path.stem) for path in known[0].of(existing[0])] or existing
        names.append(existing[0] if existing else sample_name(_likely(line)))
    if not names:
        raise UserError(f"{path}: the split file is empty; {_WHAT}.")
    return list(dict.fromkeys(names))


def listed_pairs(path: Path, images: Stems, masks: Stems, wanted_image: str, wanted_mask: str) -> list[Entry]:
    """One entry per name of a split file, in its order.

    Args:
        wanted_image, wanted_mask: what should be there, with {} for the name, as "img/{}.jpg"; for messages.

    Raises:
        UserError: as `read_split`.
    """
    return [
        pair(
            name,
            images.of(name),
            masks.of(name),
            wanted_image.replace("{}", name),
            wanted_mask.replace("{}", name),
            masks.nearest(name, images),
        )
        for name in read_split(path, images, masks)
    ]


def _candidates(line: str) -> Iterator[str]:
    """What a line may mean, the most literal first."""
    columns = [line, line.strip(), *re.split(r"\t+| {2,}|,", line.strip())[:1], line.split()[0]]
    for text in dict.fromkeys(columns):
        yield text
        yield _stem(text)
        # A text editor shows the byte of an old file name as another letter than the file system does.
        if not text.isascii():
            yield _stem(text).encode("utf-8", "replace").decode("utf-8")
            if all(ord(c) < 256 for c in text):
                yield _stem(text).encode("latin-1").decode("utf-8", "surrogateescape")


def _likely(line: str) -> str:
    """The name that a line means where no file has any of its parts as a name: its first column."""
    columns = re.split(r"\t+| {2,}", line.strip())
    words = line.split()
    if len(words) > 1 and all(re.fullmatch(r"[+-]?[\d.]+", word) for word in words[1:]) and len(columns) > 1:
        return _stem(words[0])
    return _stem(columns[0])


def _stem(text: str) -> str:
    name = re.split(r"[/\\]", text.strip())[-1]
    ending = Path(name).suffix.lower()
    return name[: -len(ending)] if ending in _ENDINGS else name


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {_WHAT}.") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and b"\0" in data:
        # UTF-16 without a mark: every other byte of plain letters is zero.
        encoding = "utf-16-le" if data[1::2].count(0) >= data[::2].count(0) else "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("latin-1") if encoding == "utf-8-sig" else "\0"
    if "\0" in text or any(ord(c) < 32 and c not in "\t\n\r\x0b\x0c\x1a" for c in text):
        raise UserError(f"{path}: is no text file; {_WHAT}. Save it as UTF-8.")
    return text.replace("\x1a", "")
