"""`python -m reports docs`: the parts of the documents between marks, made anew from stored rows.

    <!-- rows: quality dataset=grabcut systems=inter2former_lite* -->
    what stands here is written by the command
    <!-- rows: end -->

The first word names what is made (`reports/documents/parts.py`, `PARTS`), the rest are its settings. Prose stays prose.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UserError, near_miss
from harness.results.files import replace
from reports.documents import parts
from reports.documents.source import Source

DOCUMENTS = ("README.md", "docs/*.md", "benchmarks/RESULTS.md")
_MARK = re.compile(r"^<!-- rows: (?!end -->)(?P<call>[^\n]+?) -->$(?P<body>.*?)^<!-- rows: end -->$", re.M | re.S)
_BEGIN = re.compile(r"^<!-- rows: (?!end -->)", re.M)


def update(root: Path, results: str, check: bool) -> list[str]:
    """Write every part of every document, or with `check` only say which differ.

    Args:
        root: of the checkout.
        results: the repository, from the root.

    Returns:
        "file: call" for each part that is (or would be) another.

    Raises:
        UserError: a mark without its end, an unknown part or setting, rows that are not there.
    """
    source = Source(root, root / results)
    changed: list[str] = []
    documents = [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]
    if not documents:
        raise UserError(f"root={root}: no document there; give root=DIR, the folder of a checkout.")
    for path in documents:
        text = path.read_text(encoding="utf-8")
        written = _document(text, path.relative_to(root).as_posix(), source, check, changed)
        if written != text and not check:
            replace(path, functools.partial(Path.write_text, data=written, encoding="utf-8"))
    return changed


def _document(text: str, name: str, source: Source, check: bool, changed: list[str]) -> str:
    marks = [*_MARK.finditer(text)]
    if len(marks) != len(_BEGIN.findall(text)):
        raise UserError(f"{name}: a mark `<!-- rows: … -->` without its end `<!-- rows: end -->`.")

    def part(match: re.Match[str]) -> str:
        body = make(match["call"], source, name, check)
        if body is None or body.strip() != match["body"].strip():
            changed.append(f"{name}: {match['call']}")
        return f"<!-- rows: {match['call']} -->\n\n{(body or '').strip()}\n\n<!-- rows: end -->"

    return _MARK.sub(part, text)


def make(call: str, source: Source, document: str, check: bool) -> str | None:
    """The Markdown of one part; None where a figure's file is not the one that its rows give.

    Raises:
        UserError: an unknown part or setting, or rows that are not there.
    """
    try:
        kind, *words = shlex.split(call)
    except ValueError as error:
        raise UserError(f"{document}: `{call}`: {error}.") from error
    if kind not in parts.PARTS:
        raise UserError(f"{document}: `{call}`: no part is called {kind!r}. {near_miss(kind, parts.PARTS)}")
    one = parts.PARTS[kind]
    settings: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in one.settings:
            raise UserError(f"{document}: `{call}`: unknown setting {key!r}. {near_miss(key, one.settings)}")
        settings[key] = value
    try:
        return one.make(source, _completed(one.settings, settings), check)
    except UserError as error:
        raise UserError(f"{document}: `{call}`: {error}") from error


def _completed(known: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    settings = {**known, **new}
    missing = [key for key, value in settings.items() if value == ""]
    if missing:
        raise UserError(f"{missing[0]}=… is missing.")
    return settings
