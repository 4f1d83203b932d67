"""Which published system a variant is, by its card, and whether it may stand beside the published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness import cards
from harness.cards import Card, Claim
from reports.literature import published
from reports.literature.published import Published
from reports.read.runs import Run

_OWN_SIZE = "the image's own"
_OTHER = "other"


@dataclass(frozen=True)
class System:
    """What a variant is an instance of.

    Attributes:
        method: published name, or "" for a system that nobody published under a name of ours.
        backbone: as the literature writes it, or "".
        small: a reduced form, or one that no card describes; its quality and time are not the published system's.
        switches: dpe, dha, hmoe, dlu as text, for Inter2Former.
        form: which of several published forms: "sax1", "sax2", "multimask", "S1", …; "other" where the settings are
            those of no publication; "" where there is one form, and where nothing was published.
        side: of the network's input in pixels; None: the image's own.
        claims: published rows that are this system's with these settings.
        card: what is known of it; None for a user's own.
    """

    method: str
    backbone: str = ""
    small: bool = False
    switches: tuple[tuple[str, str], ...] = ()
    form: str = ""
    side: int | None = None
    claims: tuple[Claim, ...] = ()
    card: Card | None = None

    @property
    def label(self) -> str:
        """Name in a table; a reduced form says so."""
        return f"{self.method} (lite)" if self.small else self.method

    def published_as(self, row: Published) -> bool:
        """Whether a published row is of this system: method, backbone, all parts, form; sizes are another question."""
        return self._claim(row) is not None

    def other_size(self, row: Published) -> str:
        """What to say where the row is of another input size than this system's: "" or "published at …, here …"."""
        theirs = self.published_side(row)
        if theirs is None or theirs == self.side:
            return ""
        return f"published at {theirs}, here {self.side or _OWN_SIZE}"

    def published_side(self, row: Published) -> int | None:
        """Side of the input of a row of this system: as its card says, else as the row does; None: nobody says."""
        claim = self._claim(row)
        if self.card is not None and row.dataset in self.card.sizes:
            return self.card.sizes[row.dataset]
        return claim.input_size if claim is not None and claim.input_size else published_side(row)

    def _claim(self, row: Published) -> Claim | None:
        if self.small or row.method != self.method:
            return None
        mine = (c for c in self.claims if row.backbone in c.backbone and row.variant in c.configuration)
        return next(mine, None)


def identify(config: Mapping[str, Any]) -> System:
    """The system behind a `_target_` configuration."""
    card = cards.of(config)
    if card is None:
        relatives = cards.relatives(config)
        return System((relatives[0].method or "") if relatives else "", small=bool(relatives), side=_side(config, None))
    switches = tuple((key, str(cards.word(config.get(key, "on")))) for key in card.switches)
    claims = tuple(claim for claim in card.published_as if card.matches(claim, config))
    form = claims[0].form if claims else _OTHER if card.published_as and not switches else ""
    backbone = card.backbone or ""
    return System(card.method or "", backbone, card.reduced, switches, form, _side(config, card), claims, card)


def _side(config: Mapping[str, Any], card: Card | None) -> int | None:
    side = config.get("size") or config.get("target_size") or (card.input_size if card is not None else None)
    return int(side) if side else None


def published_side(row: Published) -> int | None:
    """Side of the input that a published row states, None where it states none.

    >>> from dataclasses import replace
    >>> row = published.load()[0]
    >>> published_side(replace(row, input_size="zoom-in 400 (600 DAVIS), flip TTA"))
    400
    """
    stated = re.search(r"\d{3,}", row.input_size)
    return int(stated[0]) if stated else None


def same_backbone(ours: str, theirs: str) -> bool:
    """Whether "vit_b" and "ViT-B", "Light (ViT-B)" or "ViT-B (HRSAM Flash Swin encoder)" are the same.

    >>> same_backbone("vit_b", "Light (ViT-B)"), same_backbone("vit_b", "Tiny (ViT-L)"), same_backbone("", "")
    (True, False, False)
    """
    backbone = _plain(ours)
    return bool(backbone) and backbone in {_plain(part) for part in re.split(r"[()]", theirs)}


def _plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def of(run: Run, variant: str) -> System:
    """The system of a run's variant."""
    return identify(run.variant_configs.get(variant, {}))


def obstacles(run: Run, variant: str, dataset: str, row: Published | None = None) -> list[str]:
    """What is missing before a variant's numbers on a published data set may stand beside published ones.

    Args:
        run: the run.
        variant: of the run.
        dataset: as it was published.
        row: the published number, where there is one: its input size counts too.
    """
    system, status = of(run, variant), run.status(variant)
    needs = []
    if system.small:
        needs.append("the full-size model")
    if row is not None and system.other_size(row):
        needs.append(f"input side {system.published_side(row)} (ran {system.side or _OWN_SIZE})")
    if status not in ("released", "trained here", "no weights"):
        needs.append("released weights")
    ours = our_dataset(run, dataset)
    if ours is None:
        return [*needs, dataset]
    expected, count = published.DATASETS[dataset], run.samples(ours)
    if expected is not None and count != expected:
        needs.append(f"all {expected} samples of {dataset} (ran {count})")
    if run.note(ours):
        needs.append(f"{dataset} as published (this is {run.note(ours)})")
    allowed = system.card.protocols if system.card is not None else ()
    if allowed and run.protocol(ours) not in allowed:
        needs.append(f"protocol {allowed[0]} (ran {run.protocol(ours)})")
    return needs


def our_dataset(run: Run, dataset: str) -> str | None:
    """The run's data set that was published as `dataset`, if it has one."""
    return next((d for d in run.datasets if published.dataset_name(d) == dataset), None)


def seen_in_training(run: Run, variant: str, dataset: str) -> str:
    """What a variant's weights saw of a data set when they were trained: "images", "part" (others of it) or "".

    Known of official weights and of those of the package. Where a card names several files the first one counts, since
    a run does not say which was loaded.
    """
    card = of(run, variant).card
    official = run.status(variant) == "released" or run.variant_configs.get(variant, {}).get("weights") == "default"
    if card is None or not official:
        return ""
    return cards.seen(card.training, published.dataset_name(dataset) or dataset)
