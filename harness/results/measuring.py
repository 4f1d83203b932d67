"""The `measure` configuration, typed: which stages a sweep has, and what each of them depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.errors import UserError, near_miss
from harness.latency.options import Options

PEAKS = ("none", "quick", "full")


@dataclass(frozen=True)
class Measure:
    """What a sweep measures; the fields of sweeps/measure/default.yaml.

    Attributes:
        quality: click through the data sets.
        flops, latency: count operations, take times.
        machine: measured peaks in machine.json.
        options: how carefully, and the workload that FLOPs and latency share.
    """

    quality: bool = True
    flops: bool = False
    latency: bool = False
    machine: Literal["none", "quick", "full"] = "none"
    options: Options = field(default_factory=Options)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Measure:
        """From the plain values of a composed configuration.

        Raises:
            UserError: a value out of range; of threads and rounds only where latency is measured.
        """
        machine = str(config.get("machine", "none"))
        if machine not in PEAKS:
            raise UserError(f"measure.machine={machine!r}: {near_miss(machine, PEAKS)}")
        stages = {name: bool(config[name]) for name in ("quality", "flops", "latency") if name in config}
        options = Options.of(config) if stages.get("latency") else Options.unchecked(config)
        return cls(**stages, machine=machine, options=options)  # type: ignore[arg-type]  # it is one of PEAKS

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the measuring stages in their order: latency uses the FLOPs for its roofline."""
        return tuple(name for name in ("flops", "latency") if getattr(self, name))
