"""What people clicked in a study (`harness.click study=FILE`), as frames: their clicks, and the variants' answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.clicking import recording
from harness.clicking.recorded import RecordedClick
from harness.clicking.recorded_rows import read_rows
from harness.clickpage import answers, study
from harness.errors import UserError


@dataclass(frozen=True)
class Studied:
    """A study as its table needs it.

    Attributes:
        title: of the study.
        limit: most clicks on a sample; None where no file says it.
        answers: one row per user, sample, standing click and variant: user, sample, image (both with their data set),
            variant, click, iou, biou, encode_ms, online_ms.
        actions: one row per user, sample and thing done: user, sample, action, seconds (since the thing before on the
            same appearance of the sample; NaN for its appearance).
        unanswered: standing clicks that some variant has no answer for.
    """

    title: str
    limit: int | None
    answers: pd.DataFrame
    actions: pd.DataFrame
    unanswered: int


def read(path: str) -> Studied:
    """A study's file, or the folder that `harness.click` wrote.

    Raises:
        UserError: neither, or nobody has clicked yet.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        folder, title, limit = place, place.resolve().name, None
    else:
        asked = study.read(path)
        folder, title, limit = asked.out, asked.title, asked.clicks
    clicks = folder / "clicks.csv"
    if not clicks.is_file() or not (folder / "answers.csv").is_file():
        raise UserError(
            f"study={path}: nobody has clicked yet, there is no clicks.csv with answers.csv in {folder}. Click with "
            f"python -m harness.click study={path} user=NAME, or give the folder that was its out=DIR."
        )
    rows = read_rows(clicks).clicks
    answered = answers.read(folder / "answers.csv")
    standing = [
        click
        for dataset in dict.fromkeys(row.dataset for row in rows)
        for of_users in recording.read(clicks, dataset or None).episodes.values()
        for episode in of_users.values()
        for click in episode
        if click.dataset == dataset
    ]
    if not standing:
        raise UserError(f"study={path}: {clicks} holds no click that was not undone.")
    frame, unanswered = _answers(standing, answered)
    return Studied(title, limit, frame, _actions(rows), unanswered)


def _answers(standing: list[RecordedClick], answered: list[answers.AnswerRow]) -> tuple[pd.DataFrame, int]:
    """The last answer of each variant to each standing click, and how many clicks lack one."""
    last = {
        (row.dataset, row.user, row.image, row.object, row.click, row.y, row.x, row.positive, row.variant): row
        for row in answered
    }
    variants = list(dict.fromkeys(row.variant for row in answered))
    lines, unanswered = [], 0
    for click in standing:
        place = (click.click, int(click.y), int(click.x), click.positive)
        row_of_each = [last.get((click.dataset, click.user, click.image, click.object, *place, v)) for v in variants]
        unanswered += any(row is None for row in row_of_each)
        for row in row_of_each:
            if row is not None:
                of = f"{click.dataset}/"
                same = (click.user, of + click.sample, of + click.image, row.variant, click.click)
                lines.append((*same, row.iou, row.biou, row.encode_ms, row.online_ms))
    columns = ["user", "sample", "image", "variant", "click", "iou", "biou", "encode_ms", "online_ms"]
    return pd.DataFrame(lines, columns=columns), unanswered


def _actions(rows: tuple[RecordedClick, ...]) -> pd.DataFrame:
    """Every row with the seconds since the one before it of the same user and sample."""
    before: dict[tuple[str, str, str], float] = {}
    lines = []
    for row in rows:
        key = (row.dataset, row.user, row.sample)
        seconds = math.nan if row.action == "show" else row.time - before.get(key, math.nan)
        lines.append((row.user, f"{row.dataset}/{row.sample}", row.action, seconds))
        before[key] = row.time
    return pd.DataFrame(lines, columns=["user", "sample", "action", "seconds"])
