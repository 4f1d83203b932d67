"""`dataset=tasks`: questions that no data set marks, asked of a folder's photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.datasets.folder import Folder
from harness.datasets.tasks import TASKS, Tasks
from harness.errors import SampleError, UserError
from harness.planning.config import Config, build
from tests.harness.shapes import Shapes


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Eight shapes, and one whose object is the whole image."""
    source = Shapes(8)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in source.names:
        sample = source.load(name)
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), sample.image[..., ::-1])
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), 255 * sample.mask)
    cv2.imwrite(str(tmp_path / "images" / "whole.png"), np.full((96, 96, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "masks" / "whole.png"), np.full((96, 96), 255, np.uint8))
    return tmp_path


def test_the_configuration_builds_every_task(photographs: Path) -> None:
    for task in TASKS:
        made = build(Config().load("dataset", "tasks", {"root": str(photographs), "task": task}), "tasks")
        assert (made.name, len(made)) == (task, 9)
        assert task in made.note and made.record()["task"] == task


def test_background_is_the_complement_of_the_folders_object(photographs: Path) -> None:
    folder, tasks = Folder(str(photographs)), Tasks(str(photographs), "background")
    for name in folder.names[:8]:
        np.testing.assert_array_equal(tasks.load(name).mask, 1 - folder.load(name).mask)
        np.testing.assert_array_equal(tasks.load(name).image, folder.load(name).image)


def test_object_is_the_folders_own(photographs: Path) -> None:
    folder, tasks = Folder(str(photographs)), Tasks(str(photographs), "object")
    for name in folder.names:
        np.testing.assert_array_equal(tasks.load(name).mask, folder.load(name).mask)


def test_pasted_asks_for_what_was_laid_over_or_what_was_there(photographs: Path) -> None:
    """Where the image is as before, away from the pasted edge, the question is about the original object only."""
    folder, tasks = Folder(str(photographs)), Tasks(str(photographs), "pasted")
    asked = set()
    for name in folder.names:
        before, made = folder.load(name), tasks.load(name)
        changed = (made.image != before.image).any(-1)
        assert changed.any() and not changed.all()
        near = cv2.dilate(changed.astype(np.uint8), np.ones((5, 5))) > 0
        wanted = made.mask == 1
        assert not (wanted & ~near & (before.mask == 0)).any()
        asked.add((bool((wanted & near).any()), bool((wanted & ~near).any())))
    assert len(asked) > 1


def test_region_has_an_ignored_edge(photographs: Path) -> None:
    tasks = Tasks(str(photographs), "region")
    masks = []
    for name in tasks.names:
        try:
            masks.append(tasks.load(name).mask)
        except SampleError:
            continue
    assert len(masks) > 3
    for mask in masks:
        assert {1, 255} <= set(np.unique(mask).tolist()) <= {0, 1, 255}
        # Between object and background lies the band: no object pixel touches a background pixel.
        grown = cv2.dilate((mask == 1).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert not (grown & (mask == 0)).any()


@pytest.mark.parametrize("task", ["pasted", "region"])
def test_a_task_depends_on_name_and_seed_and_not_on_the_selection(photographs: Path, task: str) -> None:
    whole, part = Tasks(str(photographs), task), Tasks(str(photographs), task, limit=3)
    for name in part.names:
        try:
            first = whole.load(name)
        except SampleError:
            continue
        np.testing.assert_array_equal(first.image, part.load(name).image)
        np.testing.assert_array_equal(first.mask, part.load(name).mask)
    other = Tasks(str(photographs), task, seed=1)
    assert any((other.load(n).mask != whole.load(n).mask).any() for n in whole.names[:4])


def test_digest_tells_task_seed_and_content_apart(photographs: Path) -> None:
    root = str(photographs)
    digests = [Tasks(root, task, seed).digest() for task in TASKS for seed in (0, 1)]
    assert len(set(digests)) == len(digests) and all(len(d) == 32 for d in digests)
    before = Tasks(root, "region").digest()
    assert before == digests[6]
    cv2.imwrite(str(photographs / "images" / "shape003.png"), np.zeros((96, 96, 3), np.uint8))
    assert Tasks(root, "region").digest() != before


def test_a_photograph_that_gives_no_such_task_says_so(photographs: Path) -> None:
    with pytest.raises(SampleError, match="whole: gives no task of kind 'background'"):
        Tasks(str(photographs), "background").load("whole")


def test_unknown_task_gets_its_near_miss(photographs: Path) -> None:
    with pytest.raises(UserError, match="unknown 'backgruond'. Did you mean 'background'"):
        Tasks(str(photographs), "backgruond")
