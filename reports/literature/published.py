"""What others published: the rows of `published.json`, each with its source and how far to trust it.

`python -m reports.literature.published FILE` writes `published.json` anew from all published results.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from harness import cards

DATASETS = {
    "HQSeg-44K": 1537,
    "DAVIS": 345,
    "GrabCut": 50,
    "Berkeley": 100,
    "SBD": 6671,
    "COCO_MVal": 800,
    "PascalVOC": None,
}
"""Data set -> its number of samples in the field's protocol; None where the published split was never released."""
COMPUTE = ("(unspecified)", "(compute)")
SECONDARY = ("secondary_note", "issue_report", "third_party_readme", "third_party_rerun", "third_party_paper")
"""Kinds of source that are marked: nobody of the authors stands behind the number as it is quoted."""
MARK = "† known from a secondary note, a third party or an issue only: not checked against the publication."


@dataclass(frozen=True)
class Published:
    """One published number, as collected."""

    method: str
    backbone: str
    variant: str
    training_data: str
    input_size: str
    dataset: str
    metric: str
    value: float
    unit: str
    source: str
    source_kind: str

    @property
    def trusted(self) -> bool:
        """Whether the authors' own publication or files say so."""
        return self.source_kind not in SECONDARY


def select(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the reports need: every method that has a card, on every data set that the project loads."""
    places, methods = {*DATASETS, *COMPUTE}, {card.method for card in cards.load().values()}
    return [dict(r) for r in rows if r["method"] in methods and r["dataset"] in places and "GPU" not in r["metric"]]


@functools.cache
def load() -> tuple[Published, ...]:
    """All rows of `published.json`."""
    text = (resources.files("reports.literature") / "published.json").read_text(encoding="utf-8")
    return tuple(Published(**row) for row in json.loads(text))


def find(**conditions: str) -> list[Published]:
    """Rows whose fields are as given, the most trusted first."""
    rows = [row for row in load() if all(getattr(row, key) == value for key, value in conditions.items())]
    return sorted(rows, key=lambda row: not row.trusted)


def dataset_name(name: str) -> str:
    """The published name of a data set of ours, or "" where nothing was published under it.

    Subsets (`davis_val138`) are other data sets and have no published name.
    """
    plain = "".join(c for c in name.lower() if c.isalnum())
    known = {"".join(c for c in published.lower() if c.isalnum()): published for published in DATASETS}
    return {**known, "hqseg44kval": "HQSeg-44K", "voc": "PascalVOC", "cocomval": "COCO_MVal"}.get(plain, "")


def main(arguments: Sequence[str]) -> None:
    """Write `published.json` from the collection, one row a line."""
    rows = select(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    body = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (Path(__file__).parent / "published.json").write_text(f"[\n{body}\n]\n", encoding="utf-8")
    print(f"{len(rows)} rows")


if __name__ == "__main__":
    main(sys.argv[1:])
