"""What is known of each packaged system: paper, licences, training sets, checkpoints, the published rows it claims.

The facts are data, one file a family in `sweeps/card/`. A card never reaches a constructor and no key of a cell holds
it: it says of a variant what its settings cannot. Variants of a user's own need none.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from harness.errors import UserError, near_miss


@dataclass(frozen=True)
class Paper:
    """Where a system was published; `authors` is short, as "Liu et al."."""

    title: str
    authors: str
    year: int
    venue: str
    arxiv: str | None = None
    doi: str | None = None

    @property
    def short(self) -> str:
        """As a table has it, "Liu et al., ICCV 2023"."""
        return f"{self.authors}, {self.venue} {self.year}"

    @property
    def url(self) -> str | None:
        """Its page at arXiv or of its DOI."""
        if self.arxiv is not None:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return None if self.doi is None else f"https://doi.org/{self.doi}"


@dataclass(frozen=True)
class Licence:
    """Licences as their owners name them; None: none was found."""

    code: str | None
    weights: str | None


@dataclass(frozen=True)
class Checkpoint:
    """An official weight file; what nobody published is None.

    Attributes:
        name: of its entry in the fetch manifest.
        url: of the file, or with `file` of the repository that holds it.
        file: path within the repository at `url`.
        hf: repository on the Hugging Face hub, "owner/name".
        drive, drive_folder: id of a file, or of a folder with it, on Google Drive.
        md5: of the file, as somebody published it.
        size_mb: size in 1e6 bytes.
        training: training sets where they are others than the card's.
        note: what else one must know.
    """

    name: str
    url: str | None = None
    file: str | None = None
    hf: str | None = None
    drive: str | None = None
    drive_folder: str | None = None
    md5: str | None = None
    size_mb: float | None = None
    licence: str | None = None
    training: tuple[str, ...] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Claim:
    """Rows of the literature that are this system's.

    Attributes:
        backbone, configuration: the rows' `backbone` and `variant`, word for word.
        when: settings that a variant must have for it to be the published system.
        form: name of these settings, where a system was published in several.
        input_size: side of the rows' input, where their own text counts otherwise.
    """

    backbone: tuple[str, ...]
    configuration: tuple[str, ...]
    when: Mapping[str, Any] = field(default_factory=dict)
    form: str = ""
    input_size: int | None = None


@dataclass(frozen=True)
class Card:
    """What is known of one variant; a fact that nobody published is None.

    Attributes:
        variant: its name in `sweeps/variant/`.
        target: the class that it builds.
        method: name in the literature; None for ours.
        paper: of the method.
        code: address of the authors' repository.
        licence: of the authors' code and weights.
        training: sets that the official weights saw; None: unknown; (): there is nothing to train.
        protocols: under which its numbers were published.
        backbone: as the literature writes it.
        input_size: side of the network's input; None: the image's own.
        sizes: data set -> side, where the published evaluation takes another there.
        parameters: their number; None for a system without.
        checkpoints: official files, the one that the variant's published numbers mean first.
        published_as: rows of the literature that are this system's.
        superseded_by: the variant that its authors, or their successors, offer in its place.
        reduced: a small form, whose quality and time are not the published system's.
        switches: settings that turn parts of the method on and off.
        settings: the variant's own, from its file.
    """

    variant: str
    target: str
    method: str | None
    paper: Paper | None
    code: str | None
    licence: Licence
    training: tuple[str, ...] | None
    protocols: tuple[str, ...]
    backbone: str | None
    input_size: int | None
    parameters: int | None
    checkpoints: tuple[Checkpoint, ...]
    published_as: tuple[Claim, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    superseded_by: str | None = None
    reduced: bool = False
    switches: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, claim: Claim, config: Mapping[str, Any]) -> bool:
        """Whether a variant's configuration has the settings under which a claim was published."""
        return all(word(config.get(k, self.settings.get(k))) == word(v) for k, v in claim.when.items())

    def lines(self) -> list[str]:
        """The card as text, a fact a line, for --show."""
        paper = self.paper
        facts = {
            "system": ", ".join(part for part in (self.method or "ours", self.backbone) if part),
            "paper": f'"{paper.title}", {paper.short}{f", {paper.url}" if paper.url else ""}' if paper else None,
            "code": self.code,
            "licence": f"code {self.licence.code or 'not stated'}, weights {self.licence.weights or 'not stated'}",
            "trained on": _list(self.training),
            "input": f"{self.input_size} px" if self.input_size else "the image's own size",
            "parameters": f"{self.parameters:,}" if self.parameters else "none",
            "checkpoints": ", ".join(c.name for c in self.checkpoints) or "none",
            "superseded by": self.superseded_by,
        }
        return [f"{name}: {text}" for name, text in facts.items() if text is not None]


def _list(names: tuple[str, ...] | None) -> str:
    return "unknown" if names is None else ", ".join(names) or "nothing"


def word(value: object) -> object:
    """A setting in one spelling: YAML's true is "on", 0 is 0.0."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return float(value) if isinstance(value, (int, float)) else value


@functools.cache
def load() -> Mapping[str, Card]:
    """Cards by the name of their variant.

    Raises:
        UserError: a file is no card; names the file and the key.
    """
    cards: dict[str, Card] = {}
    for name in _names("card"):
        cards.update(_family(name))
    return types.MappingProxyType(cards)


@functools.cache
def training_sets() -> Mapping[str, Mapping[str, str]]:
    """Known training set -> evaluated data set -> "images" (the same ones) or "part" (others of the collection)."""
    return types.MappingProxyType(_yaml("training_sets.yaml"))


def of(config: Mapping[str, Any]) -> Card | None:
    """The card of a variant's configuration, whatever its name in a table; None where no card describes it."""
    same = [card for card in load().values() if card.target == config.get("_target_")]
    return next((card for card in same if card.variant == _chosen(same, config)), None)


def relatives(config: Mapping[str, Any]) -> list[Card]:
    """Cards of the same class: what an unknown form of it is a form of."""
    return [card for card in load().values() if card.target == config.get("_target_")]


def _chosen(same: list[Card], config: Mapping[str, Any]) -> str | None:
    if not same:
        return None
    key, default = _choosers()[same[0].variant]
    if key is None:
        return same[0].variant
    if key not in config:
        return default
    return next((card.variant for card in same if card.settings.get(key) == config[key]), None)


@functools.cache
def _choosers() -> Mapping[str, tuple[str | None, str | None]]:
    """Variant -> the setting that tells its family's members apart, and the member that a silent configuration is."""
    choosers = {}
    for name in _names("card"):
        family = _yaml(f"card/{name}.yaml")
        for variant in family["cards"]:
            choosers[variant] = (family.get("chosen_by"), family.get("default"))
    return choosers


_FAMILY = ("cards", "chosen_by", "default")


def _family(name: str) -> dict[str, Card]:
    file = f"card/{name}.yaml"
    family = _yaml(file)
    if not isinstance(family.get("cards"), dict) or not family["cards"]:
        raise UserError(f"sweeps/{file}: needs `cards`, a mapping of variants to their facts.")
    shared = {key: value for key, value in family.items() if key not in _FAMILY}
    cards = {}
    for variant, facts in family["cards"].items():
        if variant not in _names("variant"):
            raise UserError(f"sweeps/{file}: cards.{variant}: no such variant. {near_miss(variant, _names('variant'))}")
        if not isinstance(facts, dict):
            raise UserError(f"sweeps/{file}: cards.{variant}: must be a mapping of facts, not {facts!r}.")
        settings = _yaml(f"variant/{variant}.yaml")
        own = {"variant": variant, "target": settings["_target_"], "settings": settings}
        cards[variant] = typing.cast(Card, _read(Card, {**shared, **facts, **own}, f"sweeps/{file}: cards.{variant}"))
    return cards


@functools.cache
def _names(folder: str) -> tuple[str, ...]:
    files = (resources.files("sweeps") / folder).iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


@functools.cache
def _yaml(file: str) -> dict[str, Any]:
    text = (resources.files("sweeps") / file).read_text(encoding="utf-8")
    try:
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise UserError(f"sweeps/{file}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"sweeps/{file}: must be a mapping, not {type(content).__name__}.")
    return content


def _read(kind: type, facts: object, where: str) -> Any:
    """Build a record from YAML; every key and every type is checked.

    Raises:
        UserError: an unknown key, one that is missing, or a value of another type; names the file and the key.
    """
    if not isinstance(facts, dict):
        raise UserError(f"{where}: must be a mapping with {_fields(kind)}, not {facts!r}.")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in facts:
        if key not in fields:
            raise UserError(f"{where}.{key}: unknown. {near_miss(str(key), fields, '')}")
    for name, one in fields.items():
        if name not in facts and one.default is one.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}.{name}: missing; null where nobody knows it.")
    kinds = typing.get_type_hints(kind)
    return kind(**{key: _value(kinds[key], value, f"{where}.{key}") for key, value in facts.items()})


def _value(kind: Any, value: object, where: str) -> Any:
    """Check one value against its type: a text, a number, a record, a tuple of these, a mapping, or None."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: must be a list, not {value!r}.")
        return tuple(_value(arguments[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return _read(typing.cast(type, kind), value, where)
    if typing.get_origin(kind) is not None:
        if not isinstance(value, dict):
            raise UserError(f"{where}: must be a mapping, not {value!r}.")
        return types.MappingProxyType(value)
    number = kind is float and isinstance(value, int) and not isinstance(value, bool)
    if not (number or type(value) is kind):
        raise UserError(f"{where}: must be {_NAMES[kind]}, not {value!r}.")
    return value


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _fields(kind: type) -> str:
    return ", ".join(f.name for f in dataclasses.fields(kind))


def seen(training: Iterable[str] | None, dataset: str) -> str:
    """What weights trained on these sets saw of a data set: "images", "part" or ""."""
    plain_name = _plain(dataset)
    kinds = {
        kind
        for name in training or ()
        for held, kind in training_sets()[name].items()
        if plain_name.startswith(_plain(held))
    }
    return next((kind for kind in ("images", "part") if kind in kinds), "")


def _plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())
