"""What a card says of a system, as an entry keeps it, and whether a system saw the data that it is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from harness import cards
from reports.repository.entry import Entry

_KEPT = ("method", "paper", "code", "licence", "training", "backbone", "input_size", "parameters", "superseded_by")


def facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the card of a variant's settings, JSON-ready; empty where no card describes it."""
    card = cards.of(settings)
    if card is None:
        return {}
    kept = {name: getattr(card, name) for name in _KEPT}
    records = {
        name: asdict(value) for name, value in kept.items() if is_dataclass(value) and not isinstance(value, type)
    }
    lists = {"training": None if card.training is None else list(card.training)}
    return {**kept, **records, **lists}


def saw(entry: Entry) -> str:
    """What a system's training sets have of its data set: "images" (the same ones), "part", "unknown" or "".

    "part": other images of the same collection. A system without weights saw nothing.
    """
    if entry.weights.status in ("no weights", "untrained"):
        return ""
    training = entry.card.get("training")
    if not isinstance(training, (list, tuple)):
        return "unknown"
    known = [str(name) for name in training if name in cards.training_sets()]
    return cards.seen(known, entry.data.name)
