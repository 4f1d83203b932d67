"""Entries in words: card, rules, machine, episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.scoring import metrics
from reports.board.records import METRICS, Line
from reports.repository.entry import Entry, MachineFacts
from reports.repository.store import Stored

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class EntryText:
    """An entry with its facts as text."""

    line: Line
    facts: Facts

    @property
    def stored(self) -> Stored:
        """The entry."""
        return self.line.stored

    @property
    def marks(self) -> Any:
        """Its marks."""
        return self.line.marks


@dataclass(frozen=True)
class EpisodeText:
    """One sample's episode as text."""

    sample: str
    reached: str
    share: str
    ious: str
    clicks: str


@dataclass(frozen=True)
class EpisodeBlock:
    """Some episodes of an entry."""

    title: str
    rows: tuple[EpisodeText, ...]


def protocol(record: Mapping[str, Any]) -> str:
    """The rules of a protocol in two sentences."""
    annotator = record.get("annotator")
    settings = dict(annotator) if isinstance(annotator, Mapping) else {"name": annotator}
    name = settings.pop("name", "not recorded")
    more = ", ".join(f"{k} {v}" for k, v in settings.items())
    stop = record.get("stop_iou")
    ends = f"an episode ends at {100 * float(stop):g} % IoU" if stop is not None else "no early end"
    return f"Annotator {name}{f' ({more})' if more else ''}, up to {record.get('clicks')} clicks, {ends}."


def card(entry: Entry) -> Facts:
    """What is known of a system: what its card said when it was submitted, and its settings."""
    facts = [
        (name.replace("_", " "), _text(value)) for name, value in entry.card.items() if value not in (None, "", [])
    ]
    facts.append(
        ("weights", f"{entry.weights.status}{f', digest {entry.weights.digest}' if entry.weights.digest else ''}")
    )
    if entry.weights.parameters:
        facts.append(("parameters as it ran", f"{entry.weights.parameters:,}".replace(",", " ")))
    facts.append(("settings", ", ".join(f"{k}={_text(v)}" for k, v in entry.settings.items())))
    return facts


def entry(stored: Stored) -> Facts:
    """Where an entry comes from."""
    e = stored.entry
    return [
        ("made", e.at or "not recorded"),
        ("commit", e.code.commit or "not recorded"),
        ("code digest", f"{e.code.digest or 'not recorded'}{', with changes in no commit' if e.code.dirty else ''}"),
        ("data digest", e.data.digest),
        ("rows digest", e.rows),
        ("weights", f"{e.weights.status} {e.weights.digest}".strip()),
        ("rules", f"protocol version {e.protocol_version}, metrics version {e.metrics_version}"),
        ("machine", f"{e.machine.kind} ({e.machine.id})"),
        ("deviations", "; ".join(e.deviations) or "none"),
    ]


def machine(facts: MachineFacts) -> Facts:
    """A machine's hardware, and the packages of the newest entry."""
    return [
        ("processor", f"{facts.cpu_model or 'not recorded'} ({facts.architecture})"),
        ("cores", str(facts.cores_usable)),
        ("memory", f"{facts.memory_gb:g} GB"),
        ("virtual", {True: "yes", False: "no", None: "not recorded"}[facts.virtual]),
        ("instructions", ", ".join(facts.instruction_sets) or "not recorded"),
        ("Python", facts.python),
        ("packages", ", ".join(f"{k} {v}" for k, v in facts.packages.items())),
    ]


def cost_notes(lines: Sequence[Line]) -> list[str]:
    """Where times and multiply-adds come from, where not from the entry itself."""
    notes: dict[str, None] = {}
    for line in lines:
        for what, source in (("Times", line.cost.times_from), ("Multiply-adds", line.cost.flops_from)):
            if source:
                condition = f" ({line.cost.condition}, images of {line.cost.times_on})" if what == "Times" else ""
                notes[f"{what} are of entry {source}{condition}."] = None
    return [*notes]


def mean_iou(stored: Stored, limit: int) -> tuple[float, ...]:
    """Mean IoU in % after click 1..limit."""
    return tuple(float(v) for v in 100 * metrics.curves(stored.rows, limit).mean().to_numpy())


def episodes(stored: Stored) -> EpisodeBlock:
    """The two worst, the middle and the best sample by clicks to 90 %, then by IoU at the end."""
    e = stored.entry
    limit = int(e.protocol_record.get("clicks") or stored.rows["click"].max())
    table = metrics.curves(stored.rows, limit)
    values = table.to_numpy()
    reached = np.where((values >= 0.9).any(axis=1), (values >= 0.9).argmax(axis=1) + 1, limit + 1)
    order = np.lexsort((table[limit].to_numpy(), -reached))
    chosen = dict.fromkeys([*order[:2], order[len(order) // 2], order[-1]])
    rows = [_episode(stored, str(table.index[i]), int(reached[i]), limit, values[i]) for i in chosen]
    return EpisodeBlock(f"{e.data.name}, {e.protocol}", tuple(rows))


def _episode(stored: Stored, sample: str, reached: int, limit: int, ious: np.ndarray) -> EpisodeText:
    mine = stored.rows[stored.rows["sample"] == sample].sort_values("click")
    clicks = len(mine)
    shown = [k for k in (1, 2, 3, 5, 10) if k < clicks] + [clicks]
    first = [
        f"{'+' if positive else '−'}({y}, {x})"
        for y, x, positive in zip(mine["y"][:4], mine["x"][:4], mine["positive"][:4], strict=True)
        if y >= 0
    ]
    return EpisodeText(
        sample,
        "never" if reached > limit else str(reached),
        f"{100 * float(mine['object_share'].iloc[0]):.1f}",
        ", ".join(f"{100 * ious[k - 1]:.0f}" for k in shown),
        " ".join(first),
    )


def flat(line: Line) -> dict[str, Any]:
    """A line of the board as one row of results.csv."""
    e = line.stored.entry
    row: dict[str, Any] = {
        "id": e.id, "system": e.system, "dataset": e.data.name, "dataset_digest": e.data.digest,
        "protocol": e.protocol, "machine": e.machine.kind, "weights_status": e.weights.status,
        "weights_digest": e.weights.digest, "parameters": e.weights.parameters, "samples": e.data.samples,
        "images": e.data.images,
    }  # fmt: skip
    for key in METRICS:
        row |= _columns(key, line.values[key].measured, line.values[key].low, line.values[key].high)
    for key in ("online", "spc20", "encode"):
        value = getattr(line.cost, key)
        row |= _columns(f"{key}_ms", value.measured, value.low, value.high)
    row |= {"time_condition": line.cost.condition, "times_from": line.cost.times_from}
    row |= {"gmacs_click": line.cost.gmacs.measured, "gmacs_image": line.cost.gmacs_image.measured}
    return {**row, "marks": "; ".join(m.word for m in line.marks), "commit": e.code.commit, "at": e.at}


def _columns(name: str, value: float | None, low: float | None, high: float | None) -> dict[str, float]:
    numbers = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {k: math.nan if v is None else v for k, v in numbers.items()}


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items() if v not in (None, "", []))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return "–" if value is None else str(value)
