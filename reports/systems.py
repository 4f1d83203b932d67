"""Which published system a variant is, from its configuration, and whether it may stand beside the published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports import published
from reports.runs import Run

CLASSES = {
    "Inter2FormerSegmenter": "Inter2Former",
    "InterFormer": "InterFormer",
    "SegNext": "SegNext",
    "HRSAM": "HRSAM",
    "Sam": "SAM",
    "SamHQ": "HQ-SAM",
    "Ritm": "RITM",
}
SMALL = ("lite", "tiny_test", "toy")
_OWN = ("inter2former",)
_RITM = ("ritm", "segnext", "sam")
PROTOCOLS = {
    "Inter2Former": _OWN,
    "InterFormer": _OWN,
    "HRSAM": _OWN,
    "HRSAM++": _OWN,
    "SegNext": _RITM,
    "SAM": _RITM,
    "HQ-SAM": _RITM,
    "RITM": _RITM,
}
"""Method -> protocols under which its numbers were published."""


@dataclass(frozen=True)
class System:
    """What a variant is an instance of.

    Attributes:
        method: published name, or "" for a system that nobody published under a name of ours.
        backbone: "vit_b", "hrnet18s", … as configured, or "".
        small: a reduced form, whose quality and time are not the published system's.
        switches: dpe, dha, hmoe, dlu as text, for Inter2Former.
    """

    method: str
    backbone: str = ""
    small: bool = False
    switches: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Name in a table; a reduced form says so."""
        return f"{self.method} (lite)" if self.small else self.method


def identify(config: Mapping[str, Any]) -> System:
    """The system behind a `_target_` configuration."""
    name = str(config.get("_target_", "")).rpartition(".")[2]
    method = CLASSES.get(name, "")
    words = [str(v).lower() for k, v in config.items() if isinstance(v, str) and k != "_target_"]
    if method == "HRSAM" and (config.get("plus") is True or any("plus" in w or "++" in w for w in words)):
        method = "HRSAM++"
    backbone = next((w for w in words if w.startswith(("vit", "hrnet")) and "/" not in w and "." not in w), "")
    switches: tuple[tuple[str, str], ...] = ()
    if method == "Inter2Former":
        switches = tuple((k, _state(config.get(k, "on"))) for k in ("dpe", "dha", "hmoe", "dlu"))
    return System(method, backbone, any(w in SMALL for w in words), switches)


def _state(value: object) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def of(run: Run, variant: str) -> System:
    """The system of a run's variant."""
    return identify(run.variant_configs.get(variant, {}))


def obstacles(run: Run, variant: str, dataset: str) -> list[str]:
    """What is missing before a variant's numbers on a published data set may stand beside published ones."""
    system, status = of(run, variant), run.status(variant)
    needs = []
    if system.small:
        needs.append("the full-size model")
    if status not in ("released", "trained here", "no weights"):
        needs.append("released weights")
    ours = our_dataset(run, dataset)
    if ours is None:
        return [*needs, dataset]
    expected, found = published.DATASETS[dataset], run.samples(ours)
    if expected is not None and found != expected:
        needs.append(f"all {expected} samples of {dataset} (ran {found})")
    if run.note(ours):
        needs.append(f"{dataset} as published (this is {run.note(ours)})")
    allowed = PROTOCOLS.get(system.method, ())
    if allowed and run.protocol(ours) not in allowed:
        needs.append(f"protocol {allowed[0]} (ran {run.protocol(ours)})")
    return needs


def our_dataset(run: Run, dataset: str) -> str | None:
    """The run's data set that was published as `dataset`, if it has one."""
    return next((d for d in run.datasets if published.dataset_name(d) == dataset), None)
