"""Which of several systems is the best: only on the samples that all of them have, and only where that is shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness.scoring.decision import ALPHA, Decision, Outcome, decide, holm, not_compared
from harness.scoring.paired import paired_comparison
from harness.scoring.registry import CLICK_LIMIT, metric


@dataclass(frozen=True)
class Ranking:
    """The systems of one data set by one metric.

    Attributes:
        leader: the one with the best mean on the common samples, or "".
        decision: the leader against the one that is hardest to tell from it; `better` allows to call it the best.
        samples: number of samples that all have.
        of: number of samples that any of them has.
        means: name -> mean on the common samples.
    """

    leader: str
    decision: Decision
    samples: int
    of: int
    means: Mapping[str, float]

    @property
    def best(self) -> str:
        """The system that may be called the best, or ""."""
        return self.leader if self.decision.outcome is Outcome.BETTER else ""

    @property
    def equal_sets(self) -> bool:
        """Whether all systems have the same samples."""
        return self.samples == self.of


def rank(
    tables: Mapping[str, pd.DataFrame], keys: Iterable[str], primary: str, limit: int = CLICK_LIMIT
) -> dict[str, Ranking]:
    """Rank systems by each metric on the samples that all of them have.

    "The best" has to be better than every other one: the largest p of those comparisons is the p of the claim (an
    intersection-union test needs no correction for their number). The claims of all metrics but `primary` are adjusted
    by Holm's method.

    Args:
        tables: system -> values per sample (`metrics.per_sample`: index sample, a column a metric).
        keys: the metrics to rank; one of which nobody knows whether low or high is better is left out.
        primary: metric that was named beforehand.
        limit: clicks that were allowed.

    Returns:
        metric -> ranking.
    """
    claims = {}
    for record in (m for m in map(metric, keys) if m.better):
        columns = {name: table[record.key].dropna() for name, table in tables.items() if record.key in table}
        claims[record.key] = _claim(columns, record.better, record.unseen_difference(limit))
    others = [key for key in claims if key != primary]
    adjusted = dict(zip(others, holm([claims[key].decision.p_value for key in others]), strict=True))
    return {key: _adjusted(claim, adjusted.get(key)) for key, claim in claims.items()}


def _claim(columns: Mapping[str, pd.Series], better: str, unseen: float) -> Ranking:
    """The leader against each other one, the nearest first; the first that it is not better than ends the claim."""
    if not columns:
        return Ranking("", not_compared("not measured"), 0, 0, {})
    common = sorted(set.intersection(*(set(c.index) for c in columns.values())))
    everything = set().union(*(c.index for c in columns.values()))
    means = {name: float(c.loc[common].mean()) for name, c in columns.items()}
    if len(columns) < 2 or not common:
        reason = "no sample in common" if len(columns) > 1 else "nothing to compare it with"
        return Ranking("", not_compared(reason), len(common), len(everything), means)
    order = sorted(means, key=lambda name: means[name], reverse=better == "high")
    leader, rivals = order[0], order[1:]
    decision = not_compared("nothing to compare it with")
    for rival in rivals:
        a, b = (columns[name].loc[common].to_numpy(dtype=float) for name in (leader, rival))
        comparison = compare_pair(a, b, better, unseen)
        if decision.outcome is Outcome.NOT_COMPARED or not comparison.p_value <= decision.p_value:
            decision = comparison
        if comparison.outcome is not Outcome.BETTER:
            break
    return Ranking(leader, decision, len(common), len(everything), means)


def compare_pair(a: np.ndarray, b: np.ndarray, better: str, unseen: float | None = None) -> Decision:
    """Decision on a against b, (samples,) values each in the same order; `unseen` as in `paired_comparisons`."""
    difference, low, high, p_value = paired_comparison(a, b, unseen)
    pairs = ~np.isnan(a - b)
    differing = int((a[pairs] != b[pairs]).sum())
    return decide(difference, p_value, int(pairs.sum()), differing, better=better, low=low, high=high)


def _adjusted(claim: Ranking, p_adjusted: float | None) -> Ranking:
    decision = claim.decision
    if p_adjusted is None or math.isnan(p_adjusted) or decision.outcome is not Outcome.BETTER:
        return claim
    outcome = Outcome.BETTER if p_adjusted <= ALPHA else Outcome.NO_DIFFERENCE
    return replace(claim, decision=replace(decision, outcome=outcome, p_adjusted=p_adjusted))
