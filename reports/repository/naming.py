"""Names of folders in a repository: equal things have equal names, whatever a sweep called them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml

from harness.text import visible

_NOT_IDENTITY = ("_target_", "weights", "seed", "name")
_LONGEST = 80


def segment(text: str) -> str:
    """A text as one part of a path and of an address: letters, digits and `._+=-`, never `.` or `..`.

    >>> segment("../../etc/passwd"), segment("SAM 2.1"), segment("")
    ('etc-passwd', 'sam-2.1', 'unnamed')
    """
    shown = visible(str(text)).lower()
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._+=-") else "-" for c in shown)
    while "--" in kept:
        kept = kept.replace("--", "-")
    name = kept.strip("-.")
    if len(name) <= _LONGEST:
        return name or "unnamed"
    return f"{name[: _LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def system(settings: Mapping[str, Any], variant: str) -> str:
    """The system behind a variant's settings: the packaged variant that is nearest, and what differs from it.

    `hybrid` of one sweep and `all_on` of another are both `inter2former_lite`. A class that the project does not have
    goes by the variant's own name.

    >>> system({"_target_": "inter2former.segmenter.Inter2FormerSegmenter", "preset": "lite", "dha": "bsq"}, "bsq")
    'inter2former_lite+dha=bsq'
    """
    packaged = {n: c for n, c in _packaged().items() if c.get("_target_") == settings.get("_target_")}
    if not packaged:
        return segment(variant)
    differences = {n: _differences(settings, c) for n, c in packaged.items()}
    nearest = min(differences, key=lambda n: (len(differences[n]), n))
    return segment("+".join([nearest, *differences[nearest]]))


def _differences(settings: Mapping[str, Any], packaged: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}={_word(settings[key])}"
        for key in sorted(settings)
        if key not in _NOT_IDENTITY and (key not in packaged or _word(settings[key]) != _word(packaged[key]))
        and not (key not in packaged and settings[key] is None)
    ]  # fmt: skip


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


@functools.cache
def _packaged() -> Mapping[str, Mapping[str, Any]]:
    folder = resources.files("sweeps") / "variant"
    files = sorted(f.name for f in folder.iterdir() if f.name.endswith(".yaml"))
    return {n.removesuffix(".yaml"): yaml.safe_load((folder / n).read_text(encoding="utf-8")) for n in files}


def machine_kind(machine: Mapping[str, Any]) -> str:
    """A name for all machines of one hardware: processor, usable cores, and digits of what else counts.

    Commit and packages are no part of it, so that results of one machine can be followed over many commits.
    """
    names = ("cpu_model", "architecture", "cores_usable", "memory_gb", "instruction_sets")
    facts = [machine.get(name) for name in names]
    if isinstance(facts[3], (int, float)):
        facts[3] = round(facts[3])
    digits = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:6]
    return segment(f"{machine.get('cpu_model') or 'unknown-cpu'}-{machine.get('cores_usable') or '?'}-cores-{digits}")


def protocol(record: Mapping[str, Any], label: str) -> str:
    """The protocol's name and what differs from the packaged protocol of that name.

    >>> protocol({"name": "ritm", "clicks": 20, "stop_iou": 0.95}, "ritm")
    'ritm+stop_iou=0.95'
    """
    path = resources.files("sweeps") / "protocol" / f"{segment(str(record.get('name', label)))}.yaml"
    packaged = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    if packaged is None:
        digits = hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:6]
        return segment(f"{label}-{digits}")
    plain = ("clicks", "stop_iou", "threshold", "rerun_without_click")
    words = [f"{k}={_word(record[k])}" for k in plain if k in record and record[k] != packaged.get(k)]
    annotator, usual = (dict(source.get("annotator") or {}) for source in (record, packaged))
    words += [f"{k}={_word(v)}" for k, v in sorted(annotator.items()) if k != "name" and v != usual.get(k)]
    rest = {k: v for k, v in record.items() if k not in (*plain, "name", "annotator", "targets")}
    if any(_plain(v) != _plain(packaged.get(k)) for k, v in rest.items() if v or packaged.get(k)):
        words.append(hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()[:6])
    return segment("+".join([label, *words]))


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
