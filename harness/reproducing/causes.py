"""Why a row is off, as far as the harness can tell: first what differs from the published, then what nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from harness.reproducing.rows import Row

ORDER = ("protocol", "data digest", "weights digest", "size", "flip", "zoom-in", "other settings", "library versions")
"""In the order in which they have explained differences most often; each is looked at in this order."""
DIFFERS, UNKNOWN, EQUAL = "differs", "not known", "as published"
_RANK = (DIFFERS, UNKNOWN, EQUAL)
_SIZES = ("size", "target_size")
_ZOOM = ("zoom_in", "expansion", "min_crop", "empty_zoom", "target_expansion", "focus_expansion")
_LIBRARIES = ("torch", "numpy", "opencv-python-headless", "transformers", "pillow")


@dataclass(frozen=True)
class Cause:
    """One way in which a row can be off.

    Attributes:
        name: one of ORDER.
        state: differs | not known | as published.
        text: what was found.
    """

    name: str
    state: str
    text: str


@dataclass(frozen=True)
class Evidence:
    """What is known of a measured row.

    Attributes:
        config: the variant's configuration.
        protocol: name of the protocol that ran.
        deviations: where the variant is set otherwise than its protocol asks.
        data_digest, published_digest: of the data set, and of the published one ("" where nobody published it).
        samples, published_samples: numbers of samples.
        weights_changed: what is wrong with the fetched weights; "" where nothing is.
        weights_known: whether a digest that somebody published fits the weights.
        weights: the weights in words.
    """

    config: Mapping[str, Any]
    protocol: str
    deviations: tuple[str, ...]
    data_digest: str
    published_digest: str
    samples: int
    published_samples: int | None
    weights_changed: str
    weights_known: bool
    weights: str


def ranked(row: Row, evidence: Evidence) -> list[Cause]:
    """All causes, what differs first; in equal states in the order of ORDER."""
    causes = [
        _protocol(row, evidence),
        _data(row, evidence),
        _weights(evidence),
        *(
            _setting(name, keys, row, evidence)
            for name, keys in (("size", _SIZES), ("flip", ("flip",)), ("zoom-in", _ZOOM))
        ),
        _others(row, evidence),
        _versions(row),
    ]
    return sorted((c for c in causes if c is not None), key=lambda c: (_RANK.index(c.state), ORDER.index(c.name)))


def _protocol(row: Row, evidence: Evidence) -> Cause:
    if evidence.deviations:
        return Cause("protocol", DIFFERS, "; ".join(evidence.deviations))
    if row.protocol_settings:
        changed = ", ".join(f"{k}={v}" for k, v in row.protocol_settings.items())
        return Cause("protocol", EQUAL, f"{evidence.protocol} with {changed}, as the row says")
    return Cause("protocol", EQUAL, f"{evidence.protocol}, as the row says")


def _data(row: Row, evidence: Evidence) -> Cause:
    published = row.data_digest or evidence.published_digest
    if evidence.published_samples is not None and evidence.samples != evidence.published_samples:
        return Cause("data digest", DIFFERS, f"{evidence.samples} samples, published on {evidence.published_samples}")
    if not published:
        return Cause("data digest", UNKNOWN, f"nobody published a digest of {row.dataset}; here {evidence.data_digest}")
    if published != evidence.data_digest:
        return Cause(
            "data digest",
            DIFFERS,
            f"here {evidence.data_digest}, published {published}: python -m harness.doctor says what",
        )
    return Cause("data digest", EQUAL, published)


def _weights(evidence: Evidence) -> Cause:
    if evidence.weights_changed:
        return Cause("weights digest", DIFFERS, evidence.weights_changed)
    state = EQUAL if evidence.weights_known else UNKNOWN
    return Cause("weights digest", state, evidence.weights)


def _setting(name: str, keys: tuple[str, ...], row: Row, evidence: Evidence) -> Cause | None:
    """Settings of one kind: against the published ones, or not known where the row does not say them."""
    known = {k: v for k, v in row.published.items() if k in keys}
    other = {k: v for k, v in known.items() if evidence.config.get(k) != v}
    if other:
        text = ", ".join(f"{k}={evidence.config.get(k)}, published with {v}" for k, v in other.items())
        return Cause(name, DIFFERS, text)
    here = {k: evidence.config[k] for k in keys if k in evidence.config}
    if not here and not known:
        return None
    settings_text = ", ".join(f"{k}={v}" for k, v in here.items())
    return (
        Cause(name, EQUAL, settings_text)
        if known
        else Cause(name, UNKNOWN, f"here {settings_text}; the row does not say")
    )


def _others(row: Row, evidence: Evidence) -> Cause | None:
    keys = {*_SIZES, "flip", *_ZOOM}
    other = {k: v for k, v in row.published.items() if k not in keys and evidence.config.get(k) != v}
    if not other:
        return None
    text = ", ".join(f"{k}={evidence.config.get(k)}, published with {v}" for k, v in other.items())
    return Cause("other settings", DIFFERS, text)


def _versions(row: Row) -> Cause:
    here = {name: _version(name) for name in (*_LIBRARIES, *row.versions)}
    other = {name: (here[name], v) for name, v in row.versions.items() if here[name] != v}
    if other:
        return Cause(
            "library versions", DIFFERS, ", ".join(f"{n} {a}, published with {b}" for n, (a, b) in other.items())
        )
    text = ", ".join(f"{name} {version}" for name, version in here.items() if version)
    if row.versions:
        return Cause("library versions", EQUAL, text)
    return Cause(
        "library versions", UNKNOWN, f"here {text}; the original clicker is not deterministic (docs/protocols.md)"
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
