"""`model-index` YAML, the head of a model card on the Hugging Face hub.

Form: https://github.com/huggingface/hub-docs/blob/main/modelcard.md, "model-index": a list of models, each with
`results` of `task`, `dataset`, `metrics` and, where known, `source`. `huggingface_hub` reads it back in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from harness.scoring.registry import metric
from reports.board.records import METRICS, Line

TASK = {"type": "image-segmentation", "name": "Click-based interactive segmentation"}


def text(lines: Sequence[Line]) -> str:
    """The YAML of one system's results."""
    return yaml.safe_dump(record(lines), sort_keys=False, allow_unicode=True, width=120)


def record(lines: Sequence[Line]) -> dict[str, Any]:
    """The same as plain values."""
    name = lines[0].stored.entry.system
    licence = lines[0].stored.entry.card.get("licence")
    weights = licence.get("weights") if isinstance(licence, dict) else None
    head = {"license": "other", "license_name": weights} if isinstance(weights, str) else {}
    results = [_result(line) for line in lines if line.ranked]
    return {**head, "pipeline_tag": "image-segmentation", "model-index": [{"name": name, "results": results}]}


def _result(line: Line) -> dict[str, Any]:
    e = line.stored.entry
    metrics = []
    for key in METRICS:
        value, m = line.values[key], metric(key)
        if value.measured is None:
            continue
        one: dict[str, Any] = {"type": key, "name": m.title, "value": round(value.measured, 4)}
        if value.low is not None and value.high is not None:
            one["args"] = {"unit": m.unit, "low": round(value.low, 4), "high": round(value.high, 4), "confidence": 0.95}
        metrics.append(one)
    if line.cost.online.measured is not None:
        condition = {"condition": line.cost.condition, "machine": e.machine.kind, "contended": line.cost.contended}
        time = {"type": "online_spc_ms", "name": "Online SPC, ms", "value": round(line.cost.online.measured, 2)}
        metrics.append({**time, "args": condition})
    data = {
        "type": e.data.name,
        "name": e.data.name,
        "revision": e.data.digest,
        "args": {"protocol": e.protocol, "samples": e.data.samples, "note": e.data.note or "as published"},
    }
    return {"task": dict(TASK), "dataset": data, "metrics": metrics}
