"""Documents are what the stored rows say, and say so where they are not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from harness.errors import UserError
from reports.__main__ import run as command
from reports.documents.write import update

ROOT = Path(__file__).resolve().parents[2]
CALL = "quality dataset=scenes systems=geodesic"


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A checkout of one document and its repository."""
    shutil.copytree(repository, tmp_path / "reports" / "results")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(f"Prose.\n\n<!-- rows: {CALL} -->\n<!-- rows: end -->\n\nMore prose.\n")
    return tmp_path


def test_the_documents_of_this_project_are_as_the_rows_say() -> None:
    assert update(ROOT, "reports/results", check=True) == []


def test_a_table_is_written_once_and_then_holds(checkout: Path) -> None:
    assert update(checkout, "reports/results", check=False) == [f"docs/a.md: {CALL}"]
    text = (checkout / "docs" / "a.md").read_text()
    assert text.startswith("Prose.\n\n") and text.endswith("\n\nMore prose.\n") and "| `geodesic` | scenes |" in text
    assert update(checkout, "reports/results", check=False) == [] == update(checkout, "reports/results", check=True)


def test_a_number_that_somebody_types_fails_the_check(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    update(checkout, "reports/results", check=False)
    path = checkout / "docs" / "a.md"
    path.write_text(re.sub(r"(\d)\.(\d\d) \(", r"\1.99 (", path.read_text(), count=1))
    with pytest.raises(UserError, match="differ from the stored rows"):
        command(["docs", "check=true", f"root={checkout}"])
    assert f"docs/a.md: {CALL}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"<!-- rows: {CALL} -->\n", "without its end"),
        ("<!-- rows: qualitty -->\n<!-- rows: end -->\n", "no part is called 'qualitty'.*quality"),
        ("<!-- rows: quality datset=x -->\n<!-- rows: end -->\n", "unknown setting 'datset'.*dataset"),
        ("<!-- rows: quality dataset=none -->\n<!-- rows: end -->\n", "no stored rows"),
        ("<!-- rows: differences -->\n<!-- rows: end -->\n", "base=… is missing"),
        ("<!-- rows: csv file=../../etc/passwd -->\n<!-- rows: end -->\n", "no such file in the checkout"),
        ("<!-- rows: quality dataset='x -->\n<!-- rows: end -->\n", "quotation"),
    ],
)
def test_a_mark_that_means_nothing_is_named(text: str, words: str, checkout: Path) -> None:
    (checkout / "docs" / "a.md").write_text(text)
    with pytest.raises(UserError, match=words):
        update(checkout, "reports/results", check=True)


def test_no_measurement_is_typed_into_the_docs() -> None:
    """A table row outside of marks with an interval, a "±" or a time in ms is a typed measurement."""
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"<!-- rows: (?!end).*?<!-- rows: end -->", "", path.read_text(encoding="utf-8"), flags=re.S)
        typed = [
            line
            for line in prose.splitlines()
            if line.startswith("|") and re.search(r"\d \(?[\d.]+ ?(–|to) ?[\d.]+\)|±|\d ms\b|\d\.\d+ \| \d+\.\d+", line)
        ]
        assert typed == [], path
