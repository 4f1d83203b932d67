"""LaTeX tables: what a name or number says survives; every kind compiles, alone and in somebody's two columns."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from reports.pages import history
from reports.read import frames
from reports.read.runs import Run
from reports.tables import across, latex, published
from reports.tables import quality as tables
from reports.tables.table import Column, Row, Table, Value

TRICKY = r"100%_a&b#c $x {y} ~^\z ±2×3 – … | <1% >2 “é” 10⁹ α --k"


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return frames.read(folder)


def renamed(run: Run, old: str, new: str) -> Run:
    """The run with a variant and its base named otherwise."""
    changed = {}
    for name in ("clicks", "summary", "compare", "latency", "flops", "parts", "timings"):
        frame = getattr(run, name)
        columns = [c for c in ("variant", "base") if c in frame]
        changed[name] = frame.assign(**{c: frame[c].replace(old, new) for c in columns})
    variants = {new if k == old else k: v for k, v in run.config["variants"].items()}
    return replace(run, config={**run.config, "variants": variants, "ablation": {"base": new}}, **changed)


def every_kind(run: Run) -> list[Table]:
    """Each table of a run, of two runs, of published rows, and one that failed."""
    failed = pd.DataFrame(
        [
            {
                "stage": "clicks",
                "variant": "near",
                "dataset": "a_b",
                "sample": "x#1",
                "error": "OSError: 50% of /a_b " * 9,
            }
        ]
    )
    made = [make(replace(run, failures=failed)) for make in tables.ALL.values()]
    made.append(published.baselines(run, everything=True))
    other = replace(run, clicks=run.clicks.assign(iou=run.clicks["iou"] * 0.9), machine={"commit": "f" * 40})
    found = across.changes(run, other)
    made += [across.changed(run, other), history.timeline([run, other])]
    made.append(Table("changes", "Quality", "95 % & more", across.CHANGE_COLUMNS, across.change_rows(found)))
    return made


def compiled(text: str, folder: Path) -> str:
    """Path of the PDF of a document, and LaTeX's messages; skips where no TeX with booktabs is installed."""
    folder.mkdir(exist_ok=True)
    pdflatex, where = shutil.which("pdflatex"), shutil.which("kpsewhich")
    missing = (
        pdflatex is None
        or where is None
        or subprocess.run([where, "booktabs.sty"], stdout=subprocess.DEVNULL, check=False).returncode != 0
    )
    if missing:
        pytest.skip("no pdflatex with booktabs (Debian: texlive-latex-recommended); the syntax test stands in")
    (folder / "t.tex").write_text(text, encoding="utf-8")
    command = [str(pdflatex), "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def words_of(folder: Path) -> str | None:
    """Text of the compiled PDF with single blanks; None without poppler."""
    if shutil.which("pdftotext") is None:
        return None
    done = subprocess.run(["pdftotext", "-layout", "t.pdf", "-"], cwd=folder, capture_output=True, check=True)
    return " ".join(done.stdout.decode().split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b%c&d#e", r"a\_b\%c\&d\#e"),
        ("{$~^\\}", r"\{\$\textasciitilde{}\textasciicircum{}\textbackslash{}\}"),
        ("±×–…−", r"$\pm$$\times$--\dots{}$-$"),
        ("<1% | >2", r"$<$1\% \textbar{} $>$2"),
        ("10⁹ μs é ü", r"10$^9$ $\mu$s é ü"),
        ("--help ---", "-{}-help -{}-{}-"),  # two hyphens would become a dash
        ("ő ﬁ", "o fi"),  # no such letter in the fonts: the nearest
        ("中🙂", "U+4E2DU+1F642"),  # nothing near: the code, so that two names stay two
        ("a\nb", "a b"),
    ],
)
def test_escapes(text: str, expected: str) -> None:
    """Expected: LaTeX's ten special characters and the commands that print them (Lamport 1994, section 2.2)."""
    assert latex.latex_escape(text) == expected


def test_letters_of_reasons() -> None:
    assert [latex._letter(n) for n in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]


def balanced(text: str) -> bool:
    """Braces match, escaped ones aside."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@pytest.mark.parametrize("name", ["near", TRICKY])
def test_syntax(run: Run, name: str) -> None:
    """What can be checked without TeX: braces, environments, columns of each row, characters, every row once."""
    for made in every_kind(renamed(run, "near", name)):
        text = latex.to_latex(made)
        assert balanced(text) and all(ord(c) < 256 for c in text)
        for kind in ("table*", "tabular"):
            assert text.count(f"\\begin{{{kind}}}") == text.count(f"\\end{{{kind}}}")
        body = [line for part in text.split("\\midrule\n")[1:] for line in part.split("\\bottomrule")[0].splitlines()]
        assert len(body) == max(1, len(made.rows))
        for line in body:
            assert line.endswith(" \\\\")
            if made.rows:
                assert len(re.findall(r"(?<!\\)&", line)) == len(made.columns) - 1


def test_every_number_is_written(run: Run) -> None:
    for made in every_kind(run):
        text = latex.to_latex(made)
        for row in made.rows:
            for cell in row.cells:
                if isinstance(cell, Value):
                    shown = [cell.number(v) for v in (cell.measured, cell.published) if v is not None]
                    assert all(latex.latex_escape(s) in text for s in [*shown, cell.interval])


def test_a_reason_stands_below_once(run: Run) -> None:
    text = latex.to_latex(tables.ALL["main"](run))
    reasons = re.findall(r"footnotesize \$\^\{(\w)\}\$\\,([^\n]+)\.", text)
    assert len(reasons) == len(set(reasons)) >= 2
    for letter, reason in reasons:
        assert text.count(reason) == 1 and f"--$^{{{letter}}}$" in text


def test_a_long_table_goes_on_under_the_same_number(run: Run) -> None:
    made = tables.ALL["latency"](run)
    text = latex.to_latex(made)
    floats = text.count("\\begin{table*}")
    assert floats == -(-len(made.rows) // latex._LINES) > 2
    assert text.count("\\addtocounter{table}{-1}") == text.count("continued") == floats - 1
    assert text.count("\\label") == 1


@pytest.mark.parametrize("name", ["near", TRICKY])
def test_the_document_compiles(run: Run, tmp_path: Path, name: str) -> None:
    made = every_kind(renamed(run, "near", name))
    log = compiled(latex.document(made), tmp_path)
    for trouble in ("Float too large", "Overfull", "undefined", "Missing character"):
        assert trouble not in log
    words = words_of(tmp_path)
    if words is None:
        return
    if name == TRICKY:
        assert "100%" in words and "a&b#c $x {y}" in words and "±2×3 – . . ." in words
    quality = next(t for t in made if t.name == "quality")
    numbers = [c.number(c.measured) for row in quality.rows for c in row.cells if isinstance(c, Value)]
    assert len(numbers) > 50 and all(n in words for n in numbers)


def test_each_table_compiles_in_two_columns_of_a_paper(run: Run, tmp_path: Path) -> None:
    """As a reader uses it: `\\input` in an article that loads what the first line asks for, with its own fonts."""
    made = every_kind(run)
    for one in made:
        (tmp_path / f"{one.name}.tex").write_text(latex.to_latex(one), encoding="utf-8")
    parts = "\\clearpage\n".join(f"Text.\\input{{{one.name}}}\n" for one in made)
    head = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    log = compiled(head + parts + "\\end{document}\n", tmp_path)
    assert "Overfull" not in log and "undefined" not in log


def test_every_character_of_the_standard_fonts_compiles(tmp_path: Path) -> None:
    every = "".join(chr(c) for c in (*range(32, 127), *range(160, 256))) + "αμΔ⁹≥≤≈∞→↓↑†−—‘’“”\u202f"
    column = (Column("a", "A"),)
    table = Table("t", every, every, column, tuple(Row((every[i : i + 9],)) for i in range(0, len(every), 9)), (every,))
    assert "Missing character" not in compiled(latex.document([table]), tmp_path)
