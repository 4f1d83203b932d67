"""Several runs side by side: what changed between them, and whether anything got worse than chance explains."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.read.metric_names import metric
from reports.read.runs import Run
from reports.tables.table import Cell, Column, Row, Table, Value

METRICS = ("noc85", "noc90", "noc95", "nof90", "miou1", "miou5", "biou5", "iou_drop", "auc")
_QUIET = ("out", "threads", "tracking", "report", "dry_run", "executor")
_NOISE = ("load_average", "frequency_mhz", "quick", "id", "schema")


@dataclass(frozen=True)
class Change:
    """A metric of one variant on one data set in two runs.

    Attributes:
        before, after: means, in the stored unit.
        low, high: 95 % interval of after minus before.
        p_value: paired permutation test, NaN where the samples differ.
        how: "paired, n samples" or why it is not paired.
        verdict: "better", "worse", "no difference shown", "identical" or why the two cannot be compared.
    """

    variant: str
    dataset: str
    metric: str
    before: float
    after: float
    low: float
    high: float
    p_value: float
    how: str
    verdict: str


def changes(a: Run, b: Run, keys: Sequence[str] = METRICS) -> list[Change]:
    """Every metric of every variant and data set that two runs share."""
    from harness.scoring import metrics

    found = []
    record = a.config.get("protocol")
    limit = metrics.click_limit(a.clicks, record if isinstance(record, Mapping) else {})
    for dataset in (d for d in a.datasets if d in b.datasets):
        for variant in (v for v in a.variants if v in b.variants):
            ours, theirs = per_sample(a, variant, dataset), per_sample(b, variant, dataset)
            if ours is None or theirs is None:
                continue
            refusal = incomparable(a, b, dataset)
            for key in (k for k in keys if k in ours and k in theirs):
                before, after = ours[key].dropna(), theirs[key].dropna()
                unseen = metrics.unseen_difference(key, limit)
                found.append(_change(variant, dataset, key, before, after, refusal, unseen))
    return found


def incomparable(a: Run, b: Run, dataset: str) -> str:
    """Why two runs' numbers on a data set must not be subtracted, or ""."""
    protocols = [_protocol(run, dataset) for run in (a, b)]
    if protocols[0] != protocols[1]:
        return "not compared: different protocols"
    if a.note(dataset) != b.note(dataset):
        return "not compared: different kinds of data"
    return ""


def _protocol(run: Run, dataset: str) -> str:
    record = run.config.get("protocol")
    return json.dumps(record, sort_keys=True, default=str) if isinstance(record, Mapping) else run.protocol(dataset)


def per_sample(run: Run, variant: str, dataset: str) -> pd.DataFrame | None:
    """Metrics per sample by the harness's own functions; None where the run has no rows."""
    from harness.scoring import metrics

    rows = run.clicks[(run.clicks["variant"] == variant) & (run.clicks["dataset"] == dataset)]
    if len(rows) == 0:
        return None
    record = run.config.get("protocol")
    return metrics.per_sample(rows, record if isinstance(record, Mapping) else {})


def _change(
    variant: str, dataset: str, key: str, before: pd.Series, after: pd.Series, refusal: str, unseen: float
) -> Change:
    from harness.scoring import metrics

    scale = len(after) if "nof" in key else 1
    means = before.mean() * (len(before) if "nof" in key else 1), after.mean() * scale
    nothing = (math.nan, math.nan, math.nan)
    if refusal:
        return Change(variant, dataset, key, *means, *nothing, "–", refusal)
    common = before.index.intersection(after.index)
    if len(common) == len(before) == len(after):
        _, low, high, p_value = metrics.paired_comparison(after[common].to_numpy(), before[common].to_numpy(), unseen)
        how = f"paired, {len(common)} samples"
        low, high = low * scale, high * scale
        same = bool((after[common] == before[common]).all())
    elif "nof" in key:
        return Change(
            variant,
            dataset,
            key,
            *means,
            *nothing,
            "different samples",
            "not compared: a count over other samples",
        )
    else:
        low, high = _unpaired(before.to_numpy(), after.to_numpy())
        p_value, how, same = math.nan, f"unpaired, {len(before)} and {len(after)} samples", False
    difference = float(after.mean() - before.mean())
    verdict = "identical" if same else reading(difference, low, high, metric(key).better, p_value)
    return Change(variant, dataset, key, *means, low, high, p_value, how, verdict)


def _unpaired(before: np.ndarray, after: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the difference of two means, each side resampled by itself."""
    if len(before) < 2 or len(after) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    means = [v[rng.integers(len(v), size=(resamples, len(v)))].mean(1) for v in (before, after)]
    low, high = np.percentile(means[1] - means[0], [2.5, 97.5])
    return float(low), float(high)


def reading(difference: float, low: float, high: float, better: str, p_value: float = math.nan) -> str:
    """What a difference allows to say: its permutation test and, where there is one, its interval have to agree."""
    interval = not (math.isnan(low) or math.isnan(high))
    if not interval and math.isnan(p_value):
        return "no interval"
    if p_value > 0.05 or (interval and low <= 0 <= high) or difference == 0:
        return "no difference shown"
    return "better" if (difference < 0) == (better == "low") else "worse"


def slower(a: Run, b: Run) -> list[tuple[str, Row]]:
    """Latency of the same condition in both runs, where both ran on the same machine: (verdict, row)."""
    keys = ["variant", "threads", "resolution", "kind", "size_bin"]
    one, two = (r.latency[r.latency["median_ms"].notna()].drop_duplicates(keys).set_index(keys) for r in (a, b))
    found = []
    for key in one.index.intersection(two.index):
        old, new = one.loc[key], two.loc[key]
        verdict = "no difference shown"
        if _limit(new["low_ms"]) > _limit(old["high_ms"]):
            verdict = "worse"
        elif _limit(new["high_ms"]) < _limit(old["low_ms"]):
            verdict = "better"
        values = [Value(float(r["median_ms"]), *_pair(r["low_ms"], r["high_ms"]), digits=1) for r in (old, new)]
        ratio = Value(float(new["median_ms"]) / float(old["median_ms"]), digits=2)
        found.append((verdict, Row((*map(str, key), *values, ratio, verdict), "", str(key[-1]))))
    return found


def _limit(value: Any) -> float:
    return float(value)  # NaN compares as false: no verdict without an interval


def _pair(low: Any, high: Any) -> tuple[float | None, float | None]:
    both = float(low), float(high)
    return both if all(map(math.isfinite, both)) else (None, None)


def same_machine(a: Run, b: Run) -> bool:
    """Whether absolute times may be compared."""
    keys = ("cpu_model", "cpus", "node")
    return bool(a.machine) and all(a.machine.get(k) == b.machine.get(k) for k in keys)


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
    given = run.config.get("datasets")
    found = {}
    for name in run.datasets:
        entry = given.get(name, {}) if isinstance(given, Mapping) else {}
        found[f"{name} samples"] = str(run.samples(name))
        if isinstance(entry, Mapping) and entry.get("digest"):
            found[f"{name} digest"] = str(entry["digest"])
    return found


def _weights(run: Run) -> dict[str, str]:
    rows = run.clicks.drop_duplicates("variant").set_index("variant")
    return {str(v): f"{rows.loc[v, 'weights_status']} {rows.loc[v, 'weights_digest']}".strip() for v in rows.index}


def _machine(run: Run) -> dict[str, str]:
    return _flat({k: v for k, v in run.machine.items() if k not in (*_NOISE, "peaks")})


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        out: dict[str, str] = {}
        for key, child in value.items():
            out.update(_flat(child, f"{prefix}{key}."))
        return out
    return {} if value is None else {prefix[:-1]: str(value)}


def change_rows(found: Sequence[Change]) -> tuple[Row, ...]:
    """Changes as rows of a table."""
    rows = []
    for c in found:
        m = metric(c.metric)
        difference = (c.after - c.before) * m.scale
        low, high = (None, None) if math.isnan(c.low) else (c.low * m.scale, c.high * m.scale)
        refused = c.verdict.startswith("not compared")
        cells: tuple[Cell, ...] = (
            c.variant,
            c.dataset,
            m.title,
            Value(c.before * m.scale, digits=m.digits),
            Value(c.after * m.scale, digits=m.digits),
            Value(missing="–") if refused else Value(difference, low, high, digits=max(1, m.digits), signed=True),
            Value(None if math.isnan(c.p_value) else c.p_value, digits=4),
            c.verdict,
            c.how,
        )
        rows.append(Row(cells, c.dataset))
    return tuple(rows)


CHANGE_COLUMNS = (
    Column("variant", "Variant"),
    Column("dataset", "Data set"),
    Column("metric", "Metric"),
    Column("before", "Before"),
    Column("after", "After"),
    Column("difference", "After − before"),
    Column("p_value", "p"),
    Column("verdict", "Reading"),
    Column("how", "How compared"),
)
LATENCY_COLUMNS = (
    Column("variant", "Variant"),
    Column("threads", "Threads"),
    Column("resolution", "Resolution"),
    Column("kind", "What"),
    Column("size_bin", "Object size"),
    Column("before", "Before ms"),
    Column("after", "After ms"),
    Column("ratio", "After / before"),
    Column("verdict", "Reading"),
)
