"""Delivers a training run: settings, a metric for each curve, the record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from harness.errors import UserError
from harness.results.mlflow import identity, names
from harness.results.mlflow.contents import read_json, standard_tags
from harness.results.mlflow.numbers import number as as_number
from harness.results.mlflow.runs import CONTENT, Point, Runs


def deliver(folder: Path, uri: str, runs: Runs) -> None:
    """Log `run.json` and `history.jsonl`; curves that have grown replace the run of before.

    Raises:
        UserError: the folder holds no training run.
    """
    history = folder / "history.jsonl"
    if not history.exists():
        raise UserError(f"{folder} holds no training run (no history.jsonl).")
    record = read_json(folder / "run.json", {})
    points = []
    for number, line in enumerate(history.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
            points += [Point(k, float(v), int(entry["step"])) for k, v in entry.items() if k != "step"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{history}, line {number} is damaged ({error}). Remove the line.") from error
    params = names.flatten({k: record.get(k) for k in ("variant", "settings", "data", "init")})
    digest = hashlib.sha256(repr((params, points)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    mine = identity.of(folder, str(record.get("name")))
    by = {"is.training": mine.id}
    earlier = mine.older_run(uri)
    if earlier is not None and not runs.find(by):
        runs.adopt(earlier, by)
    tags = {
        **standard_tags("harness.train", str(record.get("commit") or "")),
        "is.kind": "training",
        CONTENT: digest,
    }
    end_ms = round(history.stat().st_mtime * 1000)  # each step is written as it ends
    spent = as_number(record.get("training_seconds"))
    start_ms = end_ms - round(spent * 1000) if 0 <= spent * 1000 < end_ms else None
    run, others = runs.find_or_make(
        by, str(record.get("name")), tags, lambda run: run.data.tags.get(CONTENT) == digest, start_ms
    )
    runs.add_params(run, params)
    runs.add_points(run, points)
    if (folder / "run.json").exists():
        runs.add_file(run, folder / "run.json")
    if run.info.status != "FINISHED":
        runs.end(run, "FINISHED", end_ms)
    runs.delete(others)
