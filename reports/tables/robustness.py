"""The table of further episodes per sample: how many clicks a careless user pays."""

from __future__ import annotations

from collections.abc import Mapping

from harness.scoring.registry import metric
from reports.read.runs import Run
from reports.tables.cells import cell_of, count
from reports.tables.table import Cell, Column, Row, Table, Value


def robustness(run: Run) -> Table:
    """Metrics of groups, people, start masks, best and worst of k, with 95 % intervals over samples."""
    whole = run.summary[run.summary["size_bin"].isin(("", "all"))]
    known = [metric(key) for key in dict.fromkeys(whole["metric"])]
    targets = {m.at for m in known if m.kind and m.per == "target"}
    target = metric(run.primary).at if metric(run.primary).at in targets else max(targets & {0.9} or targets, default=0)
    chosen = [m for m in known if m.kind and (m.per != "target" or m.at == target)]
    chosen = [m for m in known if m.family == "noc" and m.at == target and chosen] + chosen
    rows = []
    for dataset in run.datasets:
        for variant in run.variants:
            mine = whole[(whole["variant"] == variant) & (whole["dataset"] == dataset)]
            lines = dict(zip(mine["metric"], mine.to_dict("records"), strict=True))
            if not chosen or not len(mine):
                continue
            cells: list[Cell] = [variant, dataset, run.note(dataset) or "as published", run.status(variant)]
            cells.append(count(int(mine["samples"].max()), run.attempted(dataset)))
            for m in chosen:
                source = ("summary", variant, dataset, m.key, "")
                line = lines.get(m.key)
                missing = Value(missing="not measured")
                cells.append(missing if line is None else cell_of(line, "value", m.scale, m.digits, source))
            rows.append(Row((*cells, str(mine["protocol"].iloc[0])), dataset))
    columns = [
        Column("variant", "Variant"),
        Column("dataset", "Data set"),
        Column("dataset_note", "Kind of data"),
        Column("weights_status", "Weights"),
        Column("samples", "Samples"),
        *(Column(m.key, m.title, better=m.better, help=m.meaning) for m in chosen),
        Column("protocol", "Protocol"),
    ]
    return Table(
        "robustness",
        "Robustness to who clicks, and from where",
        f"One value per sample, then means with 95 % intervals (too few: below 6 images). Protocol: {run.protocol()}.",
        tuple(columns),
        tuple(rows),
        tuple(_notes(run)) if rows else (),
    )


def _notes(run: Run) -> list[str]:
    record = run.config.get("protocol")
    annotator = record.get("annotator") if isinstance(record, Mapping) else None
    shown = annotator.get("map") if isinstance(annotator, Mapping) else None
    if shown in ("distance", "uniform"):
        agreement = {"distance": "0.14", "uniform": "0.10"}[str(shown)]
        return [
            f"Clicks were drawn from the map {shown!r}, which needs no weights and is a poor imitation of people: its "
            f"agreement with them on TETRIS-Val is {agreement} (RClicks' network: 0.55; 1 would be perfect)."
        ]
    return [f"Clicks were drawn from the map {shown}."] if shown is not None else []
