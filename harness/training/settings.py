"""Settings of a training run: everything that decides its result, as one frozen dataclass."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UserError, near_miss
from harness.planning.identity import PRECISIONS
from harness.training.augmentation import Augmentation
from harness.training.material import Mixture


@dataclass(frozen=True)
class Settings:
    """One training run.

    Attributes:
        steps: optimizer steps.
        batch: samples per step and process at the first of `sizes`; greater sizes get fewer, for about as many pixels.
        sizes: sides of the square crops in pixels; every step takes one at random.
        rounds: most clicks per step; the number is geometric (each further click with probability `more`), every one
            has its loss, and the encoder runs once for all.
        more: see `rounds`.
        learning_rate: peak of AdamW's, after `warmup` steps; then a cosine down to `final` times the peak.
        weight_decay: of matrices and kernels; norms, biases and tables have none.
        clip: greatest norm of the gradient.
        ema: decay of the averaged weights, which are validated and kept.
        trunk: learning rate of the pretrained trunk, relative; 0 keeps it as it came.
        freeze: beginnings of the names of parameters that keep their values, for example what makes the embedding.
        precision: `fp32`, or `bf16` for the convolutions (autocast).
        seed: of initial weights, order of data, augmentation and clicks.
        validate_every, save_every: in steps.
        validate_samples, validate_clicks: how much is validated as it goes.
        limit: only so many photographs; None: all.
        mixture, augmentation: what is trained on.
    """

    steps: int = 4000
    batch: int = 12
    sizes: tuple[int, ...] = (256, 320, 384)
    rounds: int = 5
    more: float = 0.6
    learning_rate: float = 1e-3
    warmup: int = 100
    final: float = 0.02
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998
    trunk: float = 0.0
    freeze: tuple[str, ...] = ()
    precision: str = "fp32"
    seed: int = 0
    validate_every: int = 1000
    validate_samples: int = 50
    validate_clicks: int = 10
    save_every: int = 250
    limit: int | None = None
    mixture: Mixture = field(default_factory=Mixture)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rounds", "save_every", "validate_every"):
            if getattr(self, name) < 1:
                raise UserError(f"training {name}={getattr(self, name)}: must be at least 1.")
        if PRECISIONS.get(self.precision) not in ("fp32", "bf16"):
            known = ("fp32", "bf16", "float32", "bfloat16")
            raise UserError(f"unknown training precision {self.precision!r}. {near_miss(self.precision, known)}")
        object.__setattr__(self, "precision", PRECISIONS[self.precision])
        for side in self.sizes:
            if side < 64 or side % 32:
                raise UserError(
                    f"training sizes={list(self.sizes)}: each must be a multiple of 32 and at least 64 pixels."
                )
        if not self.sizes:
            raise UserError("training sizes=[]: give at least one side, for example sizes=[320].")
        if not 0 <= self.ema < 1 or not 0 <= self.more < 1:
            raise UserError(f"training ema={self.ema}, more={self.more}: both must be in [0, 1).")

    def record(self) -> dict[str, Any]:
        """All fields as plain values."""
        return _plain(dataclasses.asdict(self))


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from a configuration.

    Raises:
        UserError: unknown name (with the near miss), or a value of the wrong type.
    """
    return _make(Settings, values, "training")


def _make(kind: Any, values: Mapping[str, Any], what: str) -> Any:
    types_ = typing.get_type_hints(kind)
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types_:
            raise UserError(f"{what} has no setting {name!r}. {near_miss(name, types_, '`--show` lists all.')}")
        fields[name] = _convert(types_[name], value, f"{what} {name}")
    return kind(**fields)


def _convert(kind: Any, value: Any, what: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UserError(
                f"{what}={value!r}: must be a group of settings, for example {what.split()[-1]}.scale=[1,2]."
            )
        return _make(kind, value, what)
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(typing.get_args(kind)[0], value, what)
    try:
        if origin is tuple:
            inner = typing.get_args(kind)[0]
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise TypeError
            return tuple(_convert(inner, v, what) for v in value)
        if kind is int and (isinstance(value, bool) or int(value) != float(value)):
            raise TypeError
        return kind(value)
    except (TypeError, ValueError):
        expected = "a list" if origin is tuple else {int: "a whole number", float: "a number", str: "a word"}[kind]
        raise UserError(f"{what}={value!r}: must be {expected}.") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
