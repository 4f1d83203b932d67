"""`python -m reports verify`: a maintainer's rerun of entries; equal rows, or no difference shown, mark them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from harness.errors import UserError
from harness.results.files import replace
from harness.scoring import metrics
from harness.scoring.decision import Decision, Outcome, decide
from harness.scoring.registry import metric
from reports.read.frames import read
from reports.repository import checks, naming, store
from reports.repository.entry import Verification, row_digest
from reports.repository.store import Stored
from reports.repository.submit import compact

EXACT = ["sample", "click", "y", "x", "positive", "iou", "biou"]
"""Columns of two runs that are equal where a rerun gives the same; times never are."""


def verify(path: str | Path, repository: str | Path) -> list[tuple[Stored, Verification | None, str]]:
    """Hold a rerun against the entries of the same system, data, protocol and weights; mark what it bears out.

    Returns:
        For each entry: itself, what was written (None where the rerun contradicts it), and a sentence.

    Raises:
        UserError: the run would be refused itself, or no entry is of the same.
    """
    run = read(path)
    raw = checks.raw_cells(run)
    refusals = checks.problems(run, raw)
    if refusals:
        raise UserError(f"refused: {refusals[0]}. Nothing was marked.")
    stored = store.read(repository).stored
    results: list[tuple[Stored, Verification | None, str]] = []
    for cell in raw:
        header = cell.header
        system = naming.system(header.variant_config, header.variant)
        same = (system, header.dataset, header.dataset_digest, header.protocol_record, cell.origin.weights_digest)
        for one in stored:
            e = one.entry
            if (e.system, e.data.name, e.data.digest, e.protocol_record, e.weights.digest) == same:
                results.append((one, *_hold(one, cell)))
    if not results:
        raise UserError(
            f"run={path}: no entry of {repository} is of the same system, data, protocol and weights; "
            "submit puts the run in as entries of its own."
        )
    return results


def _hold(one: Stored, cell: checks.RawCell) -> tuple[Verification | None, str]:
    if one.entry.at == cell.origin.at and one.entry.code.commit == cell.origin.commit:
        return None, "the run is the entry's own, no rerun"
    theirs, ours = one.rows, compact(cell.rows())
    equal = theirs[EXACT].equals(ours[EXACT])
    # Where nobody reaches 90 %, NoC@90 of any two systems is equal: the area under the IoU has to be alike, too.
    decisions = {key: _decision(one, cell, key) for key in (one.entry.primary, "auc")}
    contrary = [(k, d) for k, d in decisions.items() if d.outcome is not Outcome.NO_DIFFERENCE]
    if not equal and contrary:
        return None, f"not borne out: {contrary[0][0]} {contrary[0][1].text}"
    decision = decisions[one.entry.primary]
    outcome = "equal" if equal else decision.outcome.value
    kind = one.entry.machine.kind
    record = Verification(
        outcome,
        decision.differing,
        decision.samples,
        cell.origin.commit,
        kind if cell.origin.machine == one.entry.machine.id else cell.origin.machine,
        row_digest(ours),
        cell.origin.at,
    )
    text = json.dumps(asdict(record), indent=1) + "\n"
    replace(one.folder / "verified.json", lambda beside: beside.write_text(text, encoding="utf-8"))
    return record, f"{outcome}: {decision.differing} of {decision.samples} images differ in {one.entry.primary}"


def _decision(one: Stored, cell: checks.RawCell, key: str) -> Decision:
    """What may be said of a metric of the rerun against the entry's."""
    record = one.entry.protocol_record
    before = metrics.per_sample(one.clicks, record)[key].dropna()
    after = metrics.per_sample(cell.rows(), record)[key].dropna()
    common = before.index.intersection(after.index)
    images = one.rows.groupby("sample")["image"].first().loc[common].to_numpy()
    first, second = before.loc[common].to_numpy(float), after.loc[common].to_numpy(float)
    unseen = metric(key).unseen_difference(metrics.click_limit(one.rows, record))
    difference, low, high, p_value = metrics.paired_comparison(second, first, unseen, images)
    differing = len(set(images[first != second]))
    return decide(difference, p_value, len(common), differing, better=metric(key).better, low=low, high=high)
