"""What differs between two runs beside their results: configuration, data, weights, machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.planning.dotted import dotted
from reports.read.runs import Run
from reports.tables.table import Column, Row, Table

_QUIET = ("out", "threads", "tracking", "report", "dry_run", "executor")
_NOISE = ("load_average", "frequency_mhz", "quick", "id", "schema")


def changed(a: Run, b: Run) -> Table:
    """What is different in configuration, data, weights and machine."""
    pairs = [
        ("configuration", _settings(a), _settings(b)),
        ("data", _data(a), _data(b)),
        ("weights", _weights(a), _weights(b)),
        ("machine", _machine(a), _machine(b)),
    ]
    rows = []
    for what, one, two in pairs:
        for key in dict.fromkeys([*one, *two]):
            if one.get(key) != two.get(key):
                rows.append(Row((what, key, one.get(key, "–"), two.get(key, "–"))))
    columns = (
        Column("what", "What"),
        Column("key", "Entry"),
        Column("before", "Before"),
        Column("after", "After"),
    )
    caption = "Everything that differs between the two runs; what is not listed is the same in both."
    return Table("changed", "What changed", caption, columns, tuple(rows))


def _settings(run: Run) -> dict[str, str]:
    kept = {k: run.config.get(k) for k in ("ablation", "variants", "protocol")}
    resolved = run.config.get("resolved")
    if isinstance(resolved, Mapping):
        kept["resolved"] = {
            k: v for k, v in resolved.items() if k not in _QUIET and k not in ("ablation", "variant", "protocol")
        }
    return _flat(kept)


def _data(run: Run) -> dict[str, str]:
    entries = run.config.get("datasets")
    digests = {}
    for name in run.datasets:
        entry = entries.get(name, {}) if isinstance(entries, Mapping) else {}
        digests[f"{name} samples"] = str(run.samples(name))
        if isinstance(entry, Mapping) and entry.get("digest"):
            digests[f"{name} digest"] = str(entry["digest"])
    return digests


def _weights(run: Run) -> dict[str, str]:
    rows = run.clicks.drop_duplicates("variant").set_index("variant")
    return {str(v): f"{rows.loc[v, 'weights_status']} {rows.loc[v, 'weights_digest']}".strip() for v in rows.index}


def _machine(run: Run) -> dict[str, str]:
    return _flat({k: v for k, v in run.machine.items() if k not in (*_NOISE, "peaks")})


def _flat(nested: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in dotted(nested).items() if value is not None}
