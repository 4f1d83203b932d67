"""What an Inter2Former is made of: sizes and switches, as one frozen dataclass with two presets."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

SWITCHES: Mapping[str, tuple[str, ...]] = {
    "dpe": ("on", "off"),
    "dha": ("on", "full", "bsq", "vq", "off"),
    "routing": ("intended", "executed"),
    "hmoe": ("on", "shared", "dense", "off"),
    "dlu": ("on", "off"),
}
"""Allowed values of each switch; `off` of dha and hmoe are other names for `full` and `dense`."""

SYNONYMS = {("dha", "off"): "full", ("hmoe", "off"): "dense"}
"""Other names of states."""

_MOST = {
    **{"multiple": 4096, "dim": 1024, "stem": 1024, "label_dim": 64, "blocks": 16, "head_dim": 256, "code_bits": 12},
    **{"hidden": 4096, "experts": 64, "head": 1024, "edge_blocks": 64, "click_radius": 1000},
}
"""Greatest value of each size: a weight file brings its own, and no machine builds a network of a billion blocks."""


class ConfigError(ValueError):
    """A configuration value that does not exist; the message names it, what is allowed, and the nearest."""


def choose(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return `value` as one of `allowed`; True and False (YAML's on and off) count as "on" and "off"."""
    text = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    if text in allowed:
        return str(text)
    near = difflib.get_close_matches(str(text), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{name}={value!r} is unknown.{hint} Allowed: {', '.join(allowed)}.")


def _check_size(name: str, value: object, most: int) -> None:
    """Raise ConfigError unless a size, or each of four, is a whole number from 1 to `most`."""
    several = name in ("stem", "head")
    sizes = value if isinstance(value, tuple) else (value,)
    whole = all(isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= most for size in sizes)
    if not whole or len(sizes) != (4 if several else 1) or isinstance(value, tuple) != several:
        what = "four whole numbers" if several else "a whole number"
        raise ConfigError(f"{name}={str(value)[:80]} is not {what} from 1 to {most}")


@dataclass(frozen=True)
class Config:
    """Sizes and switches of one model.

    Attributes:
        preset: where the sizes come from, `vit_b` (the paper) or `lite`.
        encoder: `hrsam` or `lite`; the embedding has `dim` channels at stride 16.
        multiple: the encoder's input is padded to sides that are multiples of it.
        dim: token width of the decoder.
        stem: widths of the four stride-2 convolutions that embed the label map; the last is `dim`.
        label_dim: channels of the label embedding that the stem sees.
        blocks: decoder blocks (attention, then feed-forward).
        head_dim: width of the one attention head.
        code_bits: bits of a BSQ code; 2 ** code_bits keys. VQ learns as many vectors.
        hidden: width of the full feed-forward; the shared part and each expert have hidden / experts.
        experts: routed experts of HMoE.
        head: input widths of the four upsampling stages, coarsest first; each adds an edge map of its width.
        edge_blocks: residual blocks at each level of the edge detector.
        click_radius: radius in pixels of the disc that a click writes into the label map.
        coarse_threshold: DLU upsamples the bounding box of tokens whose coarse logit is greater.
        dpe, dha, routing, hmoe, dlu: the switches, see SWITCHES.
    """

    preset: str = "vit_b"
    encoder: str = "hrsam"
    multiple: int = 256
    dim: int = 256
    stem: tuple[int, int, int, int] = (32, 64, 128, 256)
    label_dim: int = 5
    blocks: int = 2
    head_dim: int = 32
    code_bits: int = 8
    hidden: int = 512
    experts: int = 8
    head: tuple[int, int, int, int] = (256, 64, 16, 4)
    edge_blocks: int = 4
    click_radius: int = 5
    coarse_threshold: float = -2.0
    dpe: str = "on"
    dha: str = "on"
    routing: str = "intended"
    hmoe: str = "on"
    dlu: str = "on"

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            _check_size(name, getattr(self, name), most)
        if not isinstance(self.coarse_threshold, (int, float)) or not math.isfinite(self.coarse_threshold):
            raise ConfigError(f"coarse_threshold={str(self.coarse_threshold)[:80]} is no number")
        for name, allowed in SWITCHES.items():
            value = choose(name, getattr(self, name), allowed)
            object.__setattr__(self, name, SYNONYMS.get((name, value), value))
        if self.stem[-1] != self.dim or self.head[0] != self.dim:
            raise ConfigError(
                f"stem={self.stem} must end and head={self.head} must begin with dim={self.dim}: same tokens"
            )
        if self.hidden % self.experts:
            raise ConfigError(f"hidden={self.hidden} must be a multiple of experts={self.experts}")

    @property
    def expert_hidden(self) -> int:
        """Hidden width of the shared part and of each expert."""
        return self.hidden // self.experts

    def switches(self) -> dict[str, str]:
        """Return the switches and their states."""
        return {name: getattr(self, name) for name in SWITCHES}

    def record(self) -> dict[str, Any]:
        """Return all fields, JSON-ready (tuples as lists)."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


PRESETS: Mapping[str, Config] = {
    "vit_b": Config(),
    "lite": Config(
        preset="lite",
        encoder="lite",
        multiple=32,
        dim=96,
        stem=(16, 32, 64, 96),
        hidden=256,
        head=(96, 32, 16, 8),
        edge_blocks=1,
    ),
}


def make_config(preset: str = "vit_b", **changes: Any) -> Config:
    """Return a preset with some fields changed; lists (from JSON or YAML) become tuples.

    Raises:
        ConfigError: unknown preset, field or switch value.
    """
    base = PRESETS[choose("preset", preset, tuple(PRESETS))]
    known = tuple(field.name for field in fields(Config))
    values: dict[str, Any] = {}
    for name, value in changes.items():
        choose("field", name, known)
        values[name] = tuple(value) if isinstance(value, list) else value
    return replace(base, **values)
