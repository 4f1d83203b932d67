"""Columns that several tables have: one key, one heading, one explanation each."""

from __future__ import annotations

from collections.abc import Iterable

from harness.scoring.registry import metric
from reports.tables.table import Column

VARIANT = Column("variant", "Variant")
DATASET = Column("dataset", "Data set")
DATASET_NOTE = Column("dataset_note", "Kind of data")
WEIGHTS = Column("weights_status", "Weights")
SAMPLES = Column("samples", "Samples")
SIZE_BIN = Column("size_bin", "Object size")
METRIC = Column("metric", "Metric")
KIND = Column("kind", "What")
P_VALUE = Column("p_value", "p", help="paired permutation test")
P_HOLM = Column("p_holm", "p (Holm)", help="the p that is read: adjusted for every metric but the primary one")
VERDICT = Column("verdict", "Reading")
OURS = (Column("variant", "Ours"), Column("weights_status", "Our weights"))
"""Beside published rows: which variant of the run stands there."""
RESULT = (VARIANT, DATASET, DATASET_NOTE, WEIGHTS, SAMPLES)
"""What stands before the metrics of a variant on a data set."""

_ARROWS = {"low": " ↓", "high": " ↑"}


def metric_columns(keys: Iterable[str], arrows: bool = False) -> list[Column]:
    """A column for each metric, as its record says; with an arrow to the better side where asked for."""
    return [
        Column(m.key, m.title + (_ARROWS.get(m.better, "") if arrows else ""), better=m.better, help=m.meaning)
        for m in map(metric, keys)
    ]
