"""The table of a study, from rows written here; expected numbers are counted by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from harness.clicking.recorded import RecordedClick, Writer
from harness.clickpage.answers import AnswerRow, AnswerWriter
from harness.errors import UserError
from reports.__main__ import study_table
from reports.read import study
from reports.tables.study import table

STUDY = "title: Two scenes\ndataset: scenes\nvariants: [inter2former_lite]\nclicks: 4\n"


def clicks(user: str, sample: str, start: float, *actions: tuple[str, int, float]) -> list[RecordedClick]:
    """Rows of (action, number, seconds after the one before); a click lies at (number, seconds), to tell it apart."""
    rows, now = [], start
    for action, number, seconds in actions:
        now += seconds
        place = (number, seconds, True) if action == "click" else (0.0, 0.0, False)
        rows.append(RecordedClick(sample, "", number, *place, user, "pc", now, 9, 9, "d", action))
    return rows


def answer(user: str, sample: str, click: int, x: int, variant: str, iou: float, ms: float) -> AnswerRow:
    return AnswerRow(sample, "", click, click, x, True, user, variant, iou, iou, 50.0, ms, "m", "d")


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Anna needs 2 clicks on `a`, one of them after an undo, and 1 on `b`; Ben 1 click on `a` without reaching 85 %."""
    out = tmp_path / "out"
    with Writer(out / "clicks.csv") as writer:
        writer.add(
            *clicks(
                "anna", "a", 100, ("show", 0, 0), ("click", 1, 4), ("click", 2, 2), ("undo", 2, 1), ("click", 2, 3)
            ),
            *clicks("anna", "b", 200, ("show", 0, 0), ("click", 1, 5)),
            *clicks("ben", "a", 300, ("show", 0, 0), ("click", 1, 8)),
        )
    writer2 = AnswerWriter(out / "answers.csv")
    for row in (
        answer("anna", "a", 1, 4, "x", 0.70, 10), answer("anna", "a", 2, 2, "x", 0.60, 10),
        answer("anna", "a", 2, 3, "x", 0.95, 20), answer("anna", "b", 1, 5, "x", 0.87, 30),
        answer("ben", "a", 1, 8, "x", 0.50, 40),
    ):  # fmt: skip
        writer2.add(row)
    writer2.close()
    path = tmp_path / "two.yaml"
    path.write_text(f"{STUDY}out: {out}\n", encoding="utf-8")
    return str(path)


def numbers(file: str) -> dict[str, dict[str, str]]:
    return {line["user"]: line for line in csv.DictReader(io.StringIO(study_table(file, "csv")))}


def test_numbers_of_people(file: str) -> None:
    rows = numbers(file)
    assert list(rows) == ["anna", "ben", "(all)"]
    expected = {
        "samples": 2, "clicks": 1.5, "iou": 91.0, "noc85": 1.5, "noc90": 3.0, "nof85": 0, "nof90": 1,
        "seconds": 7.5, "between": 3.5, "undone": 0.5, "online": 20.0, "encode": 50.0,
    }  # fmt: skip
    # NoC@90: 2 clicks on `a`, 4 (the limit) on `b`. Seconds: 4 + 2 + 1 + 3 on `a`, 5 on `b`; between: of 4, 2, 3, 5.
    assert {key: float(rows["anna"][key]) for key in expected} == expected
    assert float(rows["ben"]["noc85"]) == 4 and float(rows["ben"]["nof85"]) == 1
    assert float(rows["(all)"]["samples"]) == 3 and float(rows["(all)"]["iou"]) == pytest.approx((95 + 87 + 50) / 3)
    assert rows["(all)"]["clicks low"] == ""  # two images: too few for an interval


def test_the_table_as_markdown_and_latex(file: str) -> None:
    text = study_table(file, "md")
    assert text.startswith("### Two scenes") and "NoC counts 4 where the target is not reached" in text
    assert r"\begin{tabular}" in study_table(file, "tex")
    with pytest.raises(UserError, match="unknown format"):
        study_table(file, "html")


def test_the_folder_alone(file: str, tmp_path: Path) -> None:
    studied = study.read(str(tmp_path / "out"))
    assert (studied.title, studied.limit, studied.unanswered) == ("out", None, 0)
    assert len(table(studied).rows) == 3


def test_clicks_without_an_answer_are_said(file: str, tmp_path: Path) -> None:
    with Writer(tmp_path / "out" / "clicks.csv") as writer:
        writer.add(*clicks("ben", "b", 400, ("show", 0, 0), ("click", 1, 8)))
    studied = study.read(file)
    assert studied.unanswered == 1
    assert any("1 click lacks" in note for note in table(studied).notes)


def test_nobody_has_clicked(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(f"{STUDY}out: {tmp_path}/none\n", encoding="utf-8")
    with pytest.raises(UserError, match="nobody has clicked yet"):
        study.read(str(path))
