"""BibTeX of every system in a table, from the cards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reports.board.records import Line
from reports.tables.latex import latex_escape


def text(lines: Sequence[Line]) -> str:
    """An entry a paper; a comment names the systems that have none."""
    papers: dict[str, str] = {}
    without: dict[str, None] = {}
    for line in lines:
        paper = line.stored.entry.card.get("paper")
        if isinstance(paper, Mapping) and paper.get("title"):
            papers[key(paper)] = entry(paper)
        else:
            without[line.stored.entry.system] = None
    head = "".join(f"% {name}: no paper in its card\n" for name in without)
    return head + "\n".join(papers[name] for name in sorted(papers))


def key(paper: Mapping[str, Any]) -> str:
    """First author's name, year and first word of the title, such as `huang2025inter2former`."""
    first = re.split(r"[ ,]", str(paper.get("authors", "")).strip())[0]
    word = next((w for w in re.split(r"[^A-Za-z0-9]+", str(paper["title"])) if len(w) > 3), "paper")
    return re.sub(r"[^a-z0-9]", "", f"{first}{paper.get('year', '')}{word}".lower())


def entry(paper: Mapping[str, Any]) -> str:
    """One paper; the cards name the first author only."""
    authors = re.sub(r"\s*et al\.?$", " and others", str(paper.get("authors", "")))
    fields = {
        "title": f"{{{latex_escape(str(paper['title']))}}}",
        "author": latex_escape(authors),
        "year": str(paper.get("year", "")),
        "booktitle": latex_escape(str(paper.get("venue") or "")),
        "eprint": str(paper.get("arxiv") or ""),
        "archiveprefix": "arXiv" if paper.get("arxiv") else "",
        "doi": str(paper.get("doi") or ""),
    }
    body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    kind = "inproceedings" if paper.get("venue") and "arxiv" not in str(paper.get("venue")).lower() else "misc"
    return f"@{kind}{{{key(paper)},\n{body}}}\n"
