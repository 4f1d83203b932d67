"""What a run's page may say of its differences: every row of compare.csv put before `harness.scoring.decision`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.scoring import metrics, ranking
from harness.scoring.decision import Decision, Outcome, decide, differing_pairs, not_compared
from harness.scoring.ranking import Ranking
from harness.scoring.registry import metric
from reports.read.runs import Run
from reports.tables import across


@dataclass(frozen=True)
class Reading:
    """One comparison of the page: a variant against the base by one metric, and what may be said of it."""

    variant: str
    base: str
    dataset: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    samples: int
    decision: Decision
    primary: bool


def of(run: Run, keys: Sequence[str]) -> list[Reading]:
    """The comparisons over all object sizes, in the order of data sets, variants and `keys`."""
    frame = run.compare[run.compare["size_bin"].isin(("", "all"))]
    lines: dict[tuple[Any, Any, Any], list[tuple[Mapping[Any, Any], int]]] = {}
    for line, differing in zip(frame.to_dict("records"), differing_pairs(frame), strict=True):
        lines.setdefault((line["dataset"], line["variant"], line["metric"]), []).append((line, differing))
    return [
        _reading(run, line, key, differing)
        for dataset in run.datasets
        for variant in run.variants
        for key in keys
        for line, differing in lines.get((dataset, variant, key), [])
    ]


def _reading(run: Run, line: Mapping[Any, Any], key: str, differing: int) -> Reading:
    difference, low, high, p_value, p_holm = (
        float(line[name]) for name in ("difference", "low", "high", "p_value", "p_holm")
    )
    return Reading(
        str(line["variant"]),
        str(line["base"]),
        str(line["dataset"]),
        key,
        difference,
        low,
        high,
        p_value,
        p_holm,
        int(line["samples"]),
        decide_line(run, line, differing),
        key == run.primary,
    )


def decide_line(run: Run, line: Mapping[Any, Any], differing: int) -> Decision:
    """What a row of compare.csv allows to say, with its number of pairs that differ; quality of random weights is
    never judged."""
    statuses = [run.status(str(line[k])) for k in ("variant", "base")]
    if not all(run.ranked(str(line[k])) for k in ("variant", "base")):
        return not_compared("untrained weights" if "untrained" in statuses else "weights not recorded")
    return decide(
        float(line["difference"]),
        float(line["p_value"]),
        int(line["samples"]),
        differing,
        better=metric(str(line["metric"])).better,
        low=float(line["low"]),
        high=float(line["high"]),
        p_adjusted=float(line["p_holm"]),
        smallest=float(line["p_smallest"]),
    )


def counted(decisions: Sequence[tuple[bool, Decision]]) -> str:
    """How many comparisons a page makes, and how many of them would read as a difference by chance alone.

    Args:
        decisions: (whether it is of the primary metric, decision).
    """
    compared = [(primary, d) for primary, d in decisions if d.outcome is not Outcome.NOT_COMPARED]
    first = sum(primary for primary, _ in compared)
    if not compared:
        return ""
    sentence = (
        f"This page makes {len(compared)} comparison{'' if len(compared) == 1 else 's'} of quality: {first} of the "
        f"primary metric, each at 5 % (about {first * 0.05:.1f} would be shown by chance alone)"
    )
    others = len(compared) - first
    if others:
        sentence += (
            f", and {others} of other metrics, whose p are adjusted by Holm's method within each variant and data set"
        )
    return sentence + "."


def undecided(name: str, decisions: Sequence[Decision]) -> list[str]:
    """Sentences on the comparisons of one metric that show no difference, by what may be said of them."""
    sentences = []
    same = [d for d in decisions if d.outcome is Outcome.NO_DIFFERENCE]
    few = [d for d in decisions if d.outcome is Outcome.TOO_FEW]
    refused = [d for d in decisions if d.outcome is Outcome.NOT_COMPARED]
    if same:
        sentences.append(f"{name}: no difference shown in {_comparisons(len(same))}.")
    if few:
        most = max(few, key=lambda d: d.differing)
        sentences.append(f"{name}: {most.text}, in {_comparisons(len(few))}.".replace("(", "(at most ", 1))
    for reason in dict.fromkeys(d.text for d in refused):
        sentences.append(f"{name}: {_comparisons(sum(d.text == reason for d in refused))} {reason}.")
    return sentences


def _comparisons(number: int) -> str:
    return f"{number} comparison{'' if number == 1 else 's'}"


def rankings(run: Run, dataset: str, keys: Sequence[str]) -> dict[str, Ranking]:
    """metric -> ranking of the variants that may be ranked, on the samples that all of them have."""
    tables = {v: across.per_sample(run, v, dataset) for v in run.variants if run.ranked(v)}
    record = run.config.get("protocol")
    record = record if isinstance(record, Mapping) else {}
    known = {v: t for v, t in tables.items() if t is not None}
    return ranking.rank(known, keys, run.primary, metrics.click_limit(run.clicks, record))
