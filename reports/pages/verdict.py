"""The sentence on top of a run's page: what its primary metric says of every variant."""

from __future__ import annotations

from collections.abc import Sequence

from harness.scoring.decision import Outcome
from harness.scoring.registry import metric
from reports.read.runs import Run
from reports.tables import readings
from reports.tables.cells import cell_of
from reports.tables.readings import Reading
from reports.tables.table import Value

_NAMED = 4
"""Comparisons that are named one by one; more of one outcome are counted."""


def verdict(run: Run) -> str:
    """One sentence; every comparison of the primary metric with the base is in it, by name or by number."""
    if not run.variants:
        return "This run has no results yet."
    comparisons = [one for one in readings.of(run, [run.primary]) if one.primary]
    if not comparisons:
        return _alone(run)
    datasets, bases = (list(dict.fromkeys(getattr(one, k) for one in comparisons)) for k in ("dataset", "base"))
    several = len(datasets) > 1
    clauses = [
        *(_shown(_of(comparisons, outcome), outcome, several) for outcome in (Outcome.BETTER, Outcome.WORSE)),
        _plain("no difference is shown for", _of(comparisons, Outcome.NO_DIFFERENCE), several),
        _plain("too few samples differ to tell for", _of(comparisons, Outcome.TOO_FEW), several),
        *_refused(_of(comparisons, Outcome.NOT_COMPARED), several),
    ]
    where = "" if several else f" on {datasets[0]}"
    return f"By {metric(run.primary).title}{where}, against {' and '.join(bases)}: {'; '.join(filter(None, clauses))}."


def _of(comparisons: Sequence[Reading], outcome: Outcome) -> list[Reading]:
    return [one for one in comparisons if one.decision.outcome is outcome]


def _shown(group: Sequence[Reading], outcome: Outcome, several: bool) -> str:
    """ "a (+1.20 clicks) and b (+3.00 clicks) are worse"."""
    if not group:
        return ""
    sizes = {one: f" ({difference(one)})" for one in group}
    verb = "is" if len(group) == 1 else "are"
    return f"{_names(group, several, sizes)} {verb} {outcome.value}"


def _plain(start: str, group: Sequence[Reading], several: bool) -> str:
    return f"{start} {_names(group, several)}" if group else ""


def _refused(group: Sequence[Reading], several: bool) -> list[str]:
    clauses = []
    for text in dict.fromkeys(one.decision.text for one in group):
        same = [one for one in group if one.decision.text == text]
        if len({one.variant for one in same}) == 1:
            clauses.append(f"{same[0].variant} is {text}")
        else:
            clauses.append(f"{_names(same, several)} are {text}")
    return clauses


def difference(one: Reading) -> str:
    """A difference with sign and unit: "+1.20 clicks", "−3.4 points"."""
    m = metric(one.metric)
    value = Value(one.difference * m.scale, digits=max(m.digits, 1), signed=True)
    return f"{value.text} {'points' if m.unit == '%' else m.unit}".strip()


def _names(group: Sequence[Reading], several: bool, after: dict[Reading, str] | None = None) -> str:
    if len(group) > _NAMED:
        return f"{len(group)} comparisons"
    names = [one.variant + (f" on {one.dataset}" if several else "") + (after or {}).get(one, "") for one in group]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _alone(run: Run) -> str:
    """Where nothing is compared: the number itself of a single variant."""
    m = metric(run.primary)
    whole = run.summary[run.summary["size_bin"].isin(("", "all")) & (run.summary["metric"] == run.primary)]
    if len(run.variants) > 1 or len(whole) == 0:
        return "Nothing is compared: no two variants have results on one data set."
    values = [
        f"{cell_of(line, 'value', m.scale, m.digits, ()).text} on {line['dataset']}"
        for line in whole.head(_NAMED).to_dict("records")
    ]
    return f"{m.title} of {run.variants[0]}: {', '.join(values)}; nothing is compared, for this run has one variant."
