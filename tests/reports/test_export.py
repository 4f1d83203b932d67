"""Exports are read back by who they are for: the hub's library, a CSV reader, a BibTeX parser of ours, LaTeX."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from reports.board.records import Line, lines
from reports.export import bibtex, latex, model_index, papers_with_code
from reports.export.write import export
from reports.repository import store

OWN = Path(__file__).resolve().parents[2] / "reports" / "results"


@pytest.fixture(scope="module")
def own() -> Sequence[Line]:
    """The project's own results."""
    return lines(store.read(OWN, thorough=False).stored)


def test_the_hub_reads_a_model_index(own: Sequence[Line]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    mine = [line for line in own if line.stored.entry.system == "inter2former_lite"]
    card = hub.ModelCardData(**yaml.safe_load(model_index.text(mine)))
    found = {(r.dataset_name, r.metric_type): r.metric_value for r in card.eval_results}
    (grabcut,) = (x for x in mine if x.stored.entry.data.name == "grabcut")
    assert found["grabcut", "noc90"] == pytest.approx(grabcut.stored.value("noc90")[0], abs=1e-4)  # type: ignore[index]
    assert card.model_name == "inter2former_lite"


def test_a_row_for_each_ranked_result(own: Sequence[Line]) -> None:
    rows = list(csv.DictReader(io.StringIO(papers_with_code.text(own))))
    assert len(rows) == sum(line.ranked for line in own)
    (row,) = (
        r
        for r in rows
        if r["model_name"] == "opencv_grabcut" and "ritm" in r["evaluated_on"] and r["dataset"] == "grabcut"
    )
    assert (
        row["paper_title"].startswith("GrabCut") and row["uses_additional_data"] == "false" and row["NoC@90"] == "5.80"
    )


def test_every_paper_of_a_table_once(own: Sequence[Line]) -> None:
    text = bibtex.text(own)
    keys = re.findall(r"^@\w+\{(\w+),$", text, re.M)
    assert sorted(set(keys)) == keys and "rother2004grabcut" in keys
    assert text.count("{") == text.count("}") and "% sam_lite: no paper in its card" in text
    assert bibtex.entry({"title": "A & B_c", "authors": "Doe et al.", "year": 2020, "venue": "X"}) == (
        "@inproceedings{doe2020paper,\n  title = {{A \\& B\\_c}},\n  author = {Doe and others},\n  year = {2020},\n"
        "  booktitle = {X},\n}\n"
    )


def test_the_tables_compile(own: Sequence[Line], tmp_path: Path) -> None:
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip(
            "no pdflatex here (Debian: texlive-latex-recommended, texlive-science); the tables were not compiled"
        )
    (tmp_path / "results.tex").write_text(latex.document(own), encoding="utf-8")
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "results.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:]


def test_every_row_of_latex_has_every_column(own: Sequence[Line]) -> None:
    text = latex.text(own)
    for table in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.S):
        columns = 1 + table.count("S[table-format=")
        rows = [line for line in table.splitlines() if line.endswith("\\\\")]
        assert rows and all(re.sub(r"\\&", "", row).count("&") == columns - 1 for row in rows)
    assert len(re.findall(r"\\toprule", text)) == len(
        {(x.stored.entry.data.name, x.stored.entry.protocol) for x in own}
    )


def test_all_forms_at_once(tmp_path: Path) -> None:
    written = export(str(OWN), "all", str(tmp_path), dataset="grabcut")
    names = {path.name for path in written}
    assert {"papers_with_code.csv", "systems.bib", "results.tex", "opencv_grabcut.model-index.yaml"} <= names
