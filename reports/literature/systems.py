"""Which published system a variant is, from its configuration, and whether it may stand beside the published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.literature import published
from reports.literature.published import Published
from reports.read.runs import Run

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
_BACKBONES = {"InterFormer": "vit_b", "SegNext": "vit_b", "HRSAM": "vit_b", "HRSAM++": "vit_b", "RITM": "hrnet18s"}
"""Method -> backbone of the one form that runs here; the others name theirs in the configuration."""
_SIDES = {"SegNext": 1024, "SAM": 1024, "HQ-SAM": 1024, "HRSAM": 1024, "HRSAM++": 1024, "RITM": 400}
"""Method -> side of its input where the configuration says nothing; the others take the image's own size."""
_OWN_SIZE = "the image's own"


@dataclass(frozen=True)
class System:
    """What a variant is an instance of.

    Attributes:
        method: published name, or "" for a system that nobody published under a name of ours.
        backbone: "vit_b", "hrnet18s", … as configured, or "".
        small: a reduced form, whose quality and time are not the published system's.
        switches: dpe, dha, hmoe, dlu as text, for Inter2Former.
        form: which of several published forms: "sax1", "sax2"; "multimask" or "single mask" for SAM; "other" where
            switches are set as in no publication; "" else.
        side: of the network's input in pixels; None: the image's own.
    """

    method: str
    backbone: str = ""
    small: bool = False
    switches: tuple[tuple[str, str], ...] = ()
    form: str = ""
    side: int | None = None

    @property
    def label(self) -> str:
        """Name in a table; a reduced form says so."""
        return f"{self.method} (lite)" if self.small else self.method

    def published_as(self, row: Published) -> bool:
        """Whether a published row is of this system: method, backbone, all parts, form; sizes are another question."""
        if any(state != "on" for _, state in self.switches):
            return False
        if row.method == "RITM" and "baseline" in row.variant:  # another network, which takes no previous mask
            return False
        if self.small or row.method != self.method or not same_backbone(self.backbone, row.backbone):
            return False
        return not self.form or self.form == _published_form(row)

    def other_size(self, row: Published) -> str:
        """What to say where the row is of another input size than this system's: "" or "published at …, here …"."""
        theirs = published_side(row)
        if theirs is None or theirs == self.side:
            return ""
        return f"published at {theirs}, here {self.side or _OWN_SIZE}"


def identify(config: Mapping[str, Any]) -> System:
    """The system behind a `_target_` configuration."""
    name = str(config.get("_target_", "")).rpartition(".")[2]
    method = CLASSES.get(name, "")
    words = [str(v).lower() for k, v in config.items() if isinstance(v, str) and k != "_target_"]
    if method == "HRSAM" and (config.get("plus") is True or any("plus" in w or "++" in w for w in words)):
        method = "HRSAM++"
    backbone = next((w for w in words if w.startswith(("vit", "hrnet")) and "/" not in w and "." not in w), "")
    backbone = backbone or _BACKBONES.get(method, "")
    switches: tuple[tuple[str, str], ...] = ()
    if method == "Inter2Former":
        switches = tuple((k, _state(config.get(k, "on"))) for k in ("dpe", "dha", "hmoe", "dlu"))
    small = any(w in SMALL for w in words)
    side = config.get("size") or config.get("target_size") or _SIDES.get(method)
    return System(method, backbone, small, switches, _form(method, config), int(side) if side else None)


def _form(method: str, config: Mapping[str, Any]) -> str:
    if method == "SegNext":
        return str(config.get("variant", "sax2"))
    if method == "SAM":
        chosen = {"every": "multimask", "never": "single mask"}.get(str(config.get("multimask", "every")), "other")
        return chosen if config.get("feedback", True) else "other"
    if method == "RITM":
        published_zoom = config.get("zoom_in", True) and config.get("empty_zoom", "keep") == "keep"
        return "" if config.get("flip", True) and published_zoom else "other"
    return ""


def _published_form(row: Published) -> str:
    """The form that a published row names; "" where it names none."""
    if row.method == "SegNext":
        return next((form for begin, form in _SEGNEXT if row.variant.startswith(begin)), "")
    return next((form for form in ("multimask", "single mask") if row.variant.startswith(form)), "")


_SEGNEXT = (("sax1", "sax1"), ("sax2", "sax2"), ("x2", "sax2"))


def published_side(row: Published) -> int | None:
    """Side of the input of a published row, None where it is not stated.

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
    wanted = _plain(ours)
    return bool(wanted) and wanted in {_plain(part) for part in re.split(r"[()]", theirs)}


def _plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _state(value: object) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


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
        needs.append(f"input side {published_side(row)} (ran {system.side or _OWN_SIZE})")
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
