"""`weights=official`, `official:NAME` and `hf:OWNER/NAME[@REVISION][:FILE]`: names of checkpoints, and their paths.

A configuration keeps the name, so that it means the same on every machine; the path is looked up where a model is
built.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import cards
from harness.errors import UserError, near_miss
from harness.fetching import hub, places
from harness.fetching.manifests import LISTED, Catalogue, Entry

OFFICIAL = "official"


def is_name(weights: object) -> bool:
    """Whether a setting `weights` names a checkpoint that was, or is to be, fetched."""
    return isinstance(weights, str) and (weights == OFFICIAL or weights.startswith((f"{OFFICIAL}:", hub.PREFIX)))


def require_spelling(weights: object) -> None:
    """Raise UserError for a path that is no file and is nearly the word `official`."""
    if not isinstance(weights, str) or is_name(weights) or Path(weights).expanduser().exists():
        return
    word, colon, name = weights.partition(":")
    if difflib.get_close_matches(word.lower(), [OFFICIAL], cutoff=0.8):
        raise UserError(f"weights={weights}: no such file. Did you mean {OFFICIAL + colon + name!r}?")


def settled(weights: str, variant: str, config: Mapping[str, Any], catalogue: Catalogue) -> str:
    """The name that a plan keeps: `official` of a variant becomes `official:NAME`, `hf:` gets its commit.

    `hf:` may ask the network here, and nowhere else.

    Args:
        variant: name of the file in `variant/`, or of the variant.
        config: its settings; a card of theirs names the checkpoint where no entry names the variant.

    Raises:
        UserError: nobody published weights of this variant, they have not been fetched (the message is the command), or
            the Hub does not give them.
    """
    if weights.startswith(hub.PREFIX):
        return hub.pin(weights)
    name = weights.removeprefix(OFFICIAL).removeprefix(":")
    entry = catalogue.get("weights", name) if name else catalogue.official(variant) or _of_card(config, catalogue)
    if entry is None:
        known = [name for name in cards.load() if catalogue.official(name) is not None]
        raise UserError(f"variant {variant!r} has no official weights. {near_miss(variant, known, LISTED)}")
    require(entry)
    return f"{OFFICIAL}:{entry.name}"


def _of_card(config: Mapping[str, Any], catalogue: Catalogue) -> Entry | None:
    card = cards.of(config)
    return None if card is None else catalogue.official(card.variant)


def require(entry: Entry) -> Path:
    """The file of a checkpoint.

    Raises:
        UserError: it has not been fetched; the message is the command that does it.
    """
    record = places.installed("weights", entry.name)
    if record is None:
        raise UserError(f"official weights of {entry.name} are not in {places.home()}: {hint(entry)}")
    return record.path


def hint(entry: Entry) -> str:
    """How to get an entry that is not here."""
    command = places.command(entry.kind, entry.name)
    return command if entry.files else f"{entry.by_hand} Then: {command} from=FILE".strip()


def path_of(weights: str) -> Path:
    """The path behind `official:NAME` or a pinned `hf:…`; the network is never asked.

    Raises:
        UserError: it is not here.
    """
    if weights.startswith(hub.PREFIX):
        return hub.local(weights)
    name = weights.removeprefix(OFFICIAL).removeprefix(":")
    if not name:
        raise UserError(
            f"weights: {OFFICIAL} of which variant? Write {OFFICIAL}:NAME (python -m harness.fetch list=true)."
        )
    record = places.installed("weights", name)
    if record is None:
        raise UserError(f"official weights of {name} are not in {places.home()}: {places.command('weights', name)}")
    return record.path


def resolved(config: dict[str, Any]) -> dict[str, Any]:
    """A variant's configuration with the path in the place of its weights' name."""
    weights = config.get("weights")
    return {**config, "weights": str(path_of(str(weights)))} if is_name(weights) else config
