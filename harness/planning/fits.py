"""Whose weights a file holds that does not fit the variant it was given to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import get_object

from harness import cards


def advice(config: Mapping[str, Any], error: BaseException) -> str:
    """End of a message about weights that do not fit: the packaged variants that they fit, or "".

    Nothing is loaded again: an error that has `shapes`, the names and shapes in the file, is shown to the optional hook
    `would_fit(shapes, **settings)` of every packaged variant's class, the variant's own class first.
    """
    shapes = getattr(error, "shapes", None)
    if not shapes:
        return ""
    own = cards.of(config)
    names = [card.variant for card in _fitting(shapes, str(config.get("_target_")))]
    if own is not None and own.variant in names:
        other = {k: v for k, v in own.settings.items() if k in config and config[k] != v and k != "weights"}
        settings = ", ".join(f"{key}={value}" for key, value in other.items())
        return f"; they are of {own.variant} with {settings or 'its packaged settings'}"
    return f"; they fit variant={' or variant='.join(names)}" if names else "; they fit no packaged variant"


def _fitting(shapes: Mapping[str, tuple[int, ...]], target: str) -> list[cards.Card]:
    """The cards of the first class that takes the weights in one of its forms."""
    families: dict[str, list[cards.Card]] = {}
    for card in cards.load().values():
        families.setdefault(card.target, []).append(card)
    for _, family in sorted(families.items(), key=lambda item: item[0] != target):
        if fitting := list(_those(shapes, family)):
            return fitting
    return []


def _those(shapes: Mapping[str, tuple[int, ...]], family: list[cards.Card]) -> Iterator[cards.Card]:
    try:
        hook = getattr(get_object(family[0].target), "would_fit", None)
    except Exception:  # a system whose package is not installed cannot say
        return
    for card in family:
        settings = {key: value for key, value in card.settings.items() if key != "_target_"}
        if hook is not None and hook(shapes, **settings):
            yield card
