"""Settings of the `measure` configuration that concern latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import UserError
from harness.latency import pinning

AUTO = "auto"
AUTO_WIDTH = 0.1
"""A ratio's interval is narrow enough where both ends are within this share of its median."""


@dataclass(frozen=True)
class Options:
    """What is measured and how carefully; see sweeps/measure/default.yaml for what each means.

    With `budget_s` "auto" each child does rounds until its ratio is known to within `AUTO_WIDTH`, whatever
    `max_repeats` says; all together for `auto_limit_s` at most.
    """

    threads: tuple[int | str, ...] = (1, "all")
    resolutions: tuple[int, ...] = (512,)
    samples: int = 4
    later_clicks: int = 19
    encodes: int = 2
    workload: str = "auto"
    budget_s: float | str = 600.0
    auto_limit_s: float = 7200.0
    min_repeats: int = 7
    max_repeats: int = 40
    warmup_s: float = 3.0
    timeout_s: float = 300.0
    strict: bool = False
    parts: bool = False
    memory_share: float = 0.6

    @classmethod
    def of(cls, measure: Mapping[str, Any]) -> Options:
        """Take the known fields of a `measure` configuration.

        Raises:
            UserError: a value out of range.
        """
        options = cls.unchecked(measure)
        if options.workload not in ("auto", "recorded", "truth"):
            raise UserError(f"measure.workload={options.workload!r}: allowed are auto, recorded, truth.")
        if not options.threads or not options.resolutions:
            raise UserError(
                "measure.threads and measure.resolutions need at least one entry, e.g. measure.threads=[1,all]."
            )
        if min(options.resolutions) < 32:
            raise UserError(
                f"measure.resolutions={list(options.resolutions)}: a longest side of at least 32 px is needed."
            )
        if isinstance(options.budget_s, str) and options.budget_s != AUTO:
            raise UserError(f"measure.budget_s={options.budget_s!r}: seconds, or auto.")
        for name in ("samples", "encodes", "max_repeats", "budget_s", "auto_limit_s", "timeout_s"):
            if not isinstance(getattr(options, name), str) and getattr(options, name) <= 0:
                raise UserError(f"measure.{name}={getattr(options, name)}: must be greater than 0.")
        options.thread_counts()
        return options

    @classmethod
    def unchecked(cls, measure: Mapping[str, Any]) -> Options:
        """The same without a look at the values, for a sweep that takes no times."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in measure.items() if k in known}
        return cls(**values)

    @property
    def auto(self) -> bool:
        """Whether rounds go on until the ratios are narrow enough."""
        return self.budget_s == AUTO

    @property
    def seconds(self) -> float:
        """For all children together; with `auto` the most that they may take."""
        return self.auto_limit_s if isinstance(self.budget_s, str) else float(self.budget_s)

    def thread_counts(self) -> list[int]:
        """`threads` with `all` resolved, without doubles, in order.

        Raises:
            UserError: not a number or `all`, or more threads than CPUs.
        """
        counts: list[int] = []
        for entry in self.threads:
            if entry != "all" and not isinstance(entry, int):
                raise UserError(f"measure.threads={list(self.threads)}: entries are numbers or `all`.")
            count = pinning.all_threads() if entry == "all" else int(entry)
            try:
                pinning.pick_cpus(count)
            except ValueError as error:
                raise UserError(f"measure.{error}") from error
            if count not in counts:
                counts.append(count)
        return counts
