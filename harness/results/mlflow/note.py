"""The description of a sweep's run: what was compared, the table with the numbers that matter, where the report is."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.planning.addresses import without_secrets
from harness.results.mlflow.names import VALUE_LENGTH
from harness.results.mlflow.numbers import Headline
from harness.results.mlflow.runs import NOTE
from harness.scoring.intervals import is_interval
from harness.scoring.registry import metric
from harness.text import visible

MARK = "is.note"
"""Tag: digest of the description that was written last."""
_COSTS = {
    "6_later_ms": ("later click, ms", 1),
    "7_encode_ms": ("encode, ms", 1),
    "8_later_gmacs": ("later click, GMACs", 2),
    "9_encode_gmacs": ("encode, GMACs", 2),
}
"""Headline -> column of the table, decimals."""
_PLAIN = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")


@dataclass(frozen=True)
class Line:
    """A line of the table: a variant on a data set.

    Attributes:
        weights: "untrained" and the like; "" where nothing has to be said.
    """

    variant: str
    dataset: str
    headlines: tuple[Headline, ...]
    is_base: bool = False
    weights: str = ""


def description(title: str, lines: Sequence[Line], failures: int, report: Path | None, link: str) -> str:
    """Markdown of at most 5000 characters: title, report, table, failures; lines that find no place are counted.

    Args:
        title: of the ablation.
        lines: of the table.
        failures: rows of failures.csv.
        report: index.html on this machine, None where there is none.
        link: to the same file among the artifacts of the run.
    """
    end = [f"\n{failures} failures: see tables/failures.csv among the artifacts."] * bool(failures)
    head = [f"**{escaped(title)[:500]}**\n"]
    if report is not None:  # first: MLflow folds long descriptions
        place = f" (on the machine of the sweep: {escaped(str(report))})" if len(str(report)) < 500 else ""
        head.append(f"Report: [report/index.html]({link}){place}\n")
    names = sorted({h.name for line in lines for h in line.headlines})
    if lines:
        titles = [_title(name, lines) for name in names]
        head += [_row(["variant", "data set", *titles]), _row(["---", "---", *["---:"] * len(names)])]
    room = VALUE_LENGTH - len("\n".join([*head, *end])) - 80
    body: list[str] = []
    for line in lines:
        row = _row([_who(line), escaped(line.dataset), *(_cell(line, name) for name in names)])
        room -= len(row) + 1
        if room < 0:
            body.append(f"\n… and {len(lines) - len(body)} more lines: see tables/summary.csv among the artifacts.")
            break
        body.append(row)
    intervals = ["\nIn brackets: 95 % interval."] * any(_has_interval(h) for line in lines for h in line.headlines)
    return without_secrets("\n".join([*head, *body, *intervals, *end]))[:VALUE_LENGTH]


def tags(text: str, known: Mapping[str, str]) -> dict[str, str]:
    """The tags that put a description in place; none where somebody has written another one since the last delivery."""
    before = known.get(NOTE)
    if before and before != text and known.get(MARK) != _digest(before):
        return {}
    return {NOTE: text, MARK: _digest(text)}


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> print(escaped("a|b_c"))
    a\|b\_c
    """
    return _PLAIN.sub(r"\\\1", visible(text))


def _title(name: str, lines: Sequence[Line]) -> str:
    if name in _COSTS:
        return _COSTS[name][0]
    of = next(metric(h.metric) for line in lines for h in line.headlines if h.name == name)
    return escaped(of.title) + (" %" if of.unit == "%" else "")


def _who(line: Line) -> str:
    name = f"**{escaped(line.variant)}** (base)" if line.is_base else escaped(line.variant)
    return f"{name}, {escaped(line.weights)}" if line.weights else name


def _cell(line: Line, name: str) -> str:
    headline = next((h for h in line.headlines if h.name == name), None)
    if headline is None:
        return "–"
    of = metric(headline.metric)
    scale, digits = (1.0, _COSTS[name][1]) if name in _COSTS else (of.scale, of.digits)
    text = f"{headline.value * scale:.{digits}f}"
    if not _has_interval(headline):
        return text
    return f"{text} ({headline.low * scale:.{digits}f} to {headline.high * scale:.{digits}f})"


def _has_interval(headline: Headline) -> bool:
    return is_interval(headline.low, headline.high) and math.isfinite(headline.value)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
