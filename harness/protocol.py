"""The rules of an evaluation in one place: who clicks, how often, when it stops, what is asked of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UserError, near_miss
from harness.scoring.registry import CLICK_LIMIT, TARGETS, kinds_of, metrics_of, percent

DEFAULT_PRIMARY = "noc90"


@dataclass(frozen=True)
class Protocol:
    """The rules of one evaluation. Results of two protocols never stand in one column.

    Attributes:
        name: what the tables call it.
        annotator: object of `harness.clicking.annotators`, or one of your own with `name`, `start(sample)` and
            `record()`.
        clicks: click limit of an episode.
        stop_iou: an episode ends when the IoU reaches it (0..1); None: always up to the click limit.
        targets: IoU thresholds of NoC and NoF, 0..1.
        threshold: object where scores are greater; None: each segmenter's own.
        rerun_without_click: when the annotator finds no error: True: the decoder runs again; False: the
            episode ends.
        input: how images reach the model in this protocol: switch of a segmenter -> value.
        feedback: what of an answer goes into the next click: switch of a segmenter -> value.
        start: `zero`: episodes begin from nothing; `mask`: from a wrong mask, and again from nothing beside it.
        start_mask: where these masks come from (`harness.clicking.starts.Rule`); None: `dataset.starts`.
        sequential: stop adding samples once every variant is told from the base by the primary metric
            (`harness.scoring.sequential`). Like `primary` it is in no record: the episodes are the same ones.
        sequential_width: stop, too, once the interval of a difference is no wider than this; None: never for that.
        primary: the metric that counts, named before anybody looks at the results (a name of summary.csv). It decides
            how results are read, not how they are made: it is in no record and changes no cell. The default is noc90,
            or, where 0.90 is no target, NoC at the largest target.
        note: one sentence for readers.
    """

    name: str
    annotator: Any
    clicks: int = CLICK_LIMIT
    stop_iou: float | None = None
    targets: Sequence[float] = TARGETS
    threshold: float | None = None
    rerun_without_click: bool = False
    input: Mapping[str, Any] = field(default_factory=dict)
    feedback: Mapping[str, Any] = field(default_factory=dict)
    primary: str = DEFAULT_PRIMARY
    note: str = ""
    start: str = "zero"
    start_mask: Any = None
    sequential: bool = False
    sequential_width: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(float(t) for t in self.targets))
        if isinstance(self.clicks, bool) or not isinstance(self.clicks, int) or self.clicks < 1:
            raise UserError(
                f"protocol.clicks={self.clicks!r}: a whole number of clicks from 1; the field uses {CLICK_LIMIT}."
            )
        for target in self.targets:
            if not 0 < target <= 1:
                raise UserError(f"protocol.targets: {target:g} is not an IoU in (0, 1]; write 0.9 for 90 %.")
        if self.stop_iou is not None and not 0 < self.stop_iou <= 1:
            raise UserError(
                f"protocol.stop_iou={self.stop_iou:g} is not an IoU in (0, 1]; write null for no early stop."
            )
        beyond = [t for t in self.targets if self.stop_iou is not None and t > self.stop_iou]
        if beyond:
            raise UserError(
                f"protocol.stop_iou={self.stop_iou:g} ends episodes before target {max(beyond):g}. "
                f"Set stop_iou to at least {max(self.targets):g}, or to null, or leave that target out."
            )
        self._check_start_and_sequential()
        known = self.metrics()
        if self.primary == DEFAULT_PRIMARY and DEFAULT_PRIMARY not in known and self.targets:
            object.__setattr__(self, "primary", f"noc{percent(max(self.targets))}")
        elif self.primary not in known:
            hint = near_miss(self.primary, known, "docs/protocols.md lists all.")
            raise UserError(f"protocol.primary={self.primary!r}: this protocol gives no such metric. {hint}")

    def _check_start_and_sequential(self) -> None:
        if self.start not in ("zero", "mask"):
            raise UserError(f"protocol.start={self.start!r}. {near_miss(str(self.start), ('zero', 'mask'))}")
        if not isinstance(self.sequential, bool):
            raise UserError(f"protocol.sequential={self.sequential!r}: true or false.")
        width = self.sequential_width
        if width is not None and (isinstance(width, bool) or not isinstance(width, (int, float)) or not width > 0):
            raise UserError(
                f"protocol.sequential_width={width!r}: a number above 0, in the metric's own unit, or null."
            )

    @property
    def label(self) -> str:
        """Name in every table: with what the annotator and the start say of themselves, so that no two of different
        rules share a column."""
        parts = [str(text) for text in (getattr(self.annotator, "label", ""),) if text]
        if self.start == "mask":
            parts.append(getattr(self.start_mask, "label", "from given masks"))
        return f"{self.name} ({', '.join(parts)})" if parts else self.name

    @property
    def episodes(self) -> int:
        """Episodes of each sample that are known beforehand, for estimates; those of recorded users are not."""
        return 1 + int(getattr(self.annotator, "further", 0)) + (self.start == "mask")

    def metrics(self) -> list[str]:
        """Names of the metrics that rows of this protocol give, as in summary.csv."""
        kinds = kinds_of(self.record())
        return [metric.key for metric in metrics_of(self.targets, self.clicks, kinds)]

    def record(self) -> dict[str, Any]:
        """Machine-readable form, equal exactly for equal rules; stands in every cell and in config.yaml."""
        annotator = self.annotator.record() if hasattr(self.annotator, "record") else {"name": str(self.annotator)}
        start = {} if self.start_mask is None else self.start_mask.record()
        return {
            "name": self.name,
            "annotator": annotator,
            "clicks": self.clicks,
            "stop_iou": self.stop_iou,
            "targets": list(self.targets),
            "threshold": self.threshold,
            "rerun_without_click": self.rerun_without_click,
            "input": dict(self.input),
            "feedback": dict(self.feedback),
            **({"start": start or {"rule": "given"}} if self.start == "mask" else {}),
        }

    def deviations(self, variant: Mapping[str, Any]) -> list[str]:
        """Settings of a variant that differ from what this protocol asks for, as readable sentences.

        Args:
            variant: resolved configuration of a variant; switches that it does not have are not compared.
        """
        required = {**self.input, **self.feedback}
        return [
            f"{key}={variant[key]!r}, protocol {self.name} asks for {value!r}"
            for key, value in required.items()
            if key in variant and variant[key] != value
        ]
