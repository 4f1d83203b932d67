"""CSV with the columns of a leaderboard of Papers with Code: one row a result, one column a metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from harness.scoring.registry import metric
from reports.board.records import METRICS, Line

COLUMNS = (
    "task", "dataset", "model_name", "paper_title", "paper_url", "paper_date", "code_url", "uses_additional_data",
    *(metric(key).title for key in METRICS), "evaluated_on", "notes",
)  # fmt: skip


def text(lines: Sequence[Line]) -> str:
    """The table; results of untrained weights are left out."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        if line.ranked:
            writer.writerow(_row(line))
    return buffer.getvalue()


def _row(line: Line) -> dict[str, object]:
    e = line.stored.entry
    paper = e.card.get("paper")
    paper = paper if isinstance(paper, dict) else {}
    arxiv, doi = paper.get("arxiv"), paper.get("doi")
    address = f"https://arxiv.org/abs/{arxiv}" if arxiv else f"https://doi.org/{doi}" if doi else ""
    training = e.card.get("training")
    row: dict[str, object] = {
        "task": "Interactive Segmentation",
        "dataset": e.data.name,
        "model_name": e.system,
        "paper_title": paper.get("title") or "",
        "paper_url": address,
        "paper_date": paper.get("year") or "",
        "code_url": e.card.get("code") or "",
        "uses_additional_data": "" if training is None else "true" if training else "false",
        "evaluated_on": f"{e.protocol}, {e.data.samples} samples, data digest {e.data.digest[:12]}",
        "notes": "; ".join(mark.word for mark in line.marks),
    }
    for key in METRICS:
        value = line.values[key]
        row[metric(key).title] = "" if value.measured is None else f"{value.measured:.{value.digits}f}"
    return row
