"""What can be fetched: one YAML file an entry, in `manifests/` of this package and in `fetch/` of the user's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from harness import cards
from harness.errors import UserError, near_miss
from harness.fetching.places import KINDS, NAME

UNPACK = ("none", "auto", "zip", "tar")
LISTED = "`python -m harness.fetch list=true` lists all."
_DIGEST = {"md5": 32, "sha256": 64}
_DRIVE = "https://drive.google.com/uc?export=download&id="
_MOST_YAML = 1 << 20


@dataclass(frozen=True)
class Download:
    """One file of an entry.

    Attributes:
        name: under which it is kept.
        urls: in the order to try. `drive:ID` is a file of Google Drive, `hub:OWNER/NAME[@REVISION]/PATTERN` the files
        of
            a repository of the Hugging Face Hub (`hub-dataset:` of a data repository) that match; they are listed when
            they are fetched.
        size: bytes, where somebody published them exactly; None: not known.
        about_mb: the rounded size that was published, in 10^6 bytes.
        digest: "md5:…" or "sha256:…"; None: recorded at first use, and required from then on.
        digest_from: where the digest was read.
        unpack: none | auto (the content says which archive it is) | zip | tar (also .gz, .bz2, .xz).
    """

    name: str
    urls: tuple[str, ...] = ()
    size: int | None = None
    about_mb: float | None = None
    digest: str | None = None
    digest_from: str = ""
    unpack: str = "none"

    @property
    def on_hub(self) -> bool:
        """Whether a repository has to be listed before its files are known."""
        return any(url.startswith(("hub:", "hub-dataset:")) for url in self.urls)

    @property
    def bytes(self) -> int | None:
        """Size, exact or about; None where nobody said."""
        return self.size if self.size is not None else None if self.about_mb is None else round(self.about_mb * 1e6)


@dataclass(frozen=True)
class Published:
    """The content of a data set, published here so that a copy from any source can be checked.

    Attributes:
        digest: as the doctor computes it, of all samples.
        samples: their number.
        name: of the published set, for people.
        what: which data this is: the whole set of the field, or a subset with its rule.
    """

    digest: str
    samples: int
    name: str
    what: str


@dataclass(frozen=True)
class Entry:
    """A data set or a checkpoint.

    Attributes:
        kind: data | weights.
        name: `dataset=NAME`, or the name that `official` of a variant leads to.
        title: for people.
        files: what to transfer; empty: no address is known.
        licence: as it was read; "" where none is stated.
        licence_from: where it was read.
        layout: paths that must be there under a data set's root (the doctor's `parts`); the root is looked for.
        use: of weights: the file that a variant loads, as a pattern; "." for a folder in transformers' format.
        variants: files of `variant/` whose `official` weights these are, beside those whose card names them.
        by_hand: where a person gets it, for what no program can fetch; then from=FILE.
        note: shown in the list.
        published: digests of the content, where we hold the data.
    """

    kind: str
    name: str
    title: str = ""
    files: tuple[Download, ...] = ()
    licence: str = ""
    licence_from: str = ""
    layout: tuple[str, ...] = ()
    use: str = "*"
    variants: tuple[str, ...] = ()
    by_hand: str = ""
    note: str = ""
    published: Published | None = field(default=None)

    @property
    def key(self) -> str:
        """`data/grabcut`, for locks and messages."""
        return f"{self.kind}/{self.name}"

    @property
    def bytes(self) -> int | None:
        """Sum of what is known of the files' sizes; None where nothing is."""
        known = [size for file in self.files if (size := file.bytes) is not None]
        return sum(known) if known else None


class Catalogue:
    """All entries, the user's after the packaged ones (an equal name replaces).

    Args:
        config_dir: folder of the user's own; its `fetch/*.yaml` are entries, too.

    Raises:
        UserError: a file is no manifest; the message names it and the field.
    """

    def __init__(self, config_dir: str | Path | None = None):
        self.entries: dict[tuple[str, str], Entry] = {}
        for kind in KINDS:
            packaged = resources.files("harness.fetching") / "manifests" / kind
            for item in sorted(packaged.iterdir(), key=lambda i: i.name):
                if item.name.endswith(".yaml"):
                    self._add(parse(item.read_text(encoding="utf-8"), item.name))
        for path in sorted(Path(config_dir).expanduser().glob("fetch/*.yaml")) if config_dir is not None else ():
            if path.stat().st_size > _MOST_YAML:
                raise UserError(f"{path}: {path.stat().st_size:,} bytes are no manifest; at most {_MOST_YAML:,}.")
            try:
                self._add(parse(path.read_text(encoding="utf-8"), str(path)))
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{path}: {error}; write it as UTF-8 text.") from error

    def _add(self, entry: Entry) -> None:
        self.entries[entry.kind, entry.name] = entry

    def of(self, kind: str) -> dict[str, Entry]:
        """Entries of a kind by name."""
        return {name: entry for (of, name), entry in self.entries.items() if of == kind}

    def get(self, kind: str, name: str) -> Entry:
        """The entry of a name; of weights also by the name of a variant.

        Raises:
            UserError: unknown name, with the near miss.
        """
        known = self.of(kind)
        if name in known:
            return known[name]
        official = self.official(name) if kind == "weights" else None
        if official is None:
            raise UserError(f"unknown {kind} {name!r}. {near_miss(name, known, LISTED)}")
        return official

    def official(self, variant: str) -> Entry | None:
        """The checkpoint of a file of `variant/`: whose entry names it, else the first of its card; or None."""
        known = self.of("weights")
        named = [entry for entry in known.values() if variant in entry.variants]
        card = cards.load().get(variant)
        checkpoints = [known[one.name] for one in card.checkpoints if one.name in known] if card is not None else []
        return next(iter([*named, *checkpoints]), None)

    def variants(self, entry: Entry) -> list[str]:
        """The files of `variant/` whose `official` weights an entry is."""
        return [*entry.variants, *(name for name in cards.load() if self.official(name) == entry)]


def parse(text: str, where: str) -> Entry:
    """An entry from its YAML text.

    Raises:
        UserError: no mapping, an unknown key, a value of another type; the message names the file and the key.
    """
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{where}: no YAML ({' '.join(str(error).split())[:200]}).") from error
    values = _mapping(values, where, Entry)
    files = tuple(
        _download(_mapping(one, f"{where}: files", Download), f"{where}: files")
        for one in _list(values.get("files"), f"{where}: files")
    )
    published = values.get("published")
    entry = Entry(
        kind=_text(values, "kind", where, KINDS),
        name=_text(values, "name", where),
        title=_text(values, "title", where),
        files=files,
        licence=_text(values, "licence", where),
        licence_from=_text(values, "licence_from", where),
        layout=_texts(values, "layout", where),
        use=_text(values, "use", where) or "*",
        variants=_texts(values, "variants", where),
        by_hand=_text(values, "by_hand", where),
        note=_text(values, "note", where),
        published=None
        if published is None
        else _published(_mapping(published, f"{where}: published", Published), where),
    )
    if not NAME.fullmatch(entry.name):
        raise UserError(f"{where}: name {entry.name!r}: letters, digits, '.', '_' and '-'.")
    names = [file.name for file in files]
    if len(set(names)) != len(names):
        raise UserError(f"{where}: two files of one name ({', '.join(names)}).")
    return entry


def _download(values: Mapping[str, Any], where: str) -> Download:
    name, digest = _text(values, "name", where), values.get("digest")
    if not NAME.fullmatch(name):
        raise UserError(f"{where}: name {name!r}: a file name of letters, digits, '.', '_' and '-'.")
    if digest is not None:
        algorithm, _, value = str(digest).partition(":")
        if not re.fullmatch(rf"[0-9a-f]{{{_DIGEST.get(algorithm, 0)}}}", value) or not value:
            raise UserError(f"{where}: digest {digest!r}: md5:(32 hexadecimal digits), sha256:(64), or null.")
    for key in ("size", "about_mb"):
        number = values.get(key)
        known = isinstance(number, (int, float)) and not isinstance(number, bool) and number > 0
        if number is not None and not known:
            raise UserError(f"{where}: {key} {number!r}: a number above 0, or null where nobody published it.")
    urls = _texts(values, "urls", where)
    for url in urls:
        if not url.startswith(("https://", "http://", "drive:", "hub:", "hub-dataset:")):
            raise UserError(
                f"{where}: url {url!r}: https://…, http://…, drive:ID, hub:OWNER/NAME/PATTERN or hub-dataset:…."
            )
    size = values.get("size")
    return Download(
        name=name,
        urls=tuple(_DRIVE + url.removeprefix("drive:") if url.startswith("drive:") else url for url in urls),
        size=None if size is None else int(size),
        about_mb=values.get("about_mb"),
        digest=None if digest is None else str(digest),
        digest_from=_text(values, "digest_from", where),
        unpack=_text(values, "unpack", where, UNPACK) or "none",
    )


def _published(values: Mapping[str, Any], where: str) -> Published:
    digest, samples = _text(values, "digest", where), values.get("samples")
    if not re.fullmatch(r"[0-9a-f]{32}", digest) or isinstance(samples, bool) or not isinstance(samples, int):
        raise UserError(f"{where}: published: digest (32 hexadecimal digits) and samples (a number).")
    return Published(digest, samples, _text(values, "name", where), _text(values, "what", where))


def _mapping(values: Any, where: str, of: type) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected keys and values, found {type(values).__name__}.")
    allowed = [f.name for f in fields(of)]
    for key in values:
        if key not in allowed:
            raise UserError(
                f"{where}: unknown key {str(key)!r}. {near_miss(str(key), allowed, 'docs/fetch.md lists all.')}"
            )
    return values


def _text(values: Mapping[str, Any], key: str, where: str, allowed: Sequence[str] = ()) -> str:
    value = values.get(key)
    if value is None and not (allowed and key == "kind"):
        return ""
    if not isinstance(value, str) or (allowed and value not in allowed):
        raise UserError(
            f"{where}: {key} {value!r}: {near_miss(str(value), allowed) if allowed else 'expected a text.'}"
        )
    return " ".join(value.split())


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list, found {type(value).__name__}.")
    return value


def _texts(values: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    texts = _list(values.get(key), f"{where}: {key}")
    if not all(isinstance(one, str) for one in texts):
        raise UserError(f"{where}: {key}: a list of texts.")
    return tuple(texts)


def matches(name: str, pattern: str) -> bool:
    """Whether a file's name fits a pattern of `use` or of a repository, with `*` and `?`."""
    return fnmatchcase(name.rpartition("/")[2], pattern) or fnmatchcase(name, pattern)
