"""The page's small parts: masks as runs, overlays, records of answers, names that a server has."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import array_shapes, arrays

from harness.clickpage import answers, masks, overlays, pane, pictures
from harness.clickpage.answers import AnswerRow
from harness.clickpage.desk import Desk
from harness.clickpage.guard import names_of
from harness.clickpage.server import listen
from harness.clickpage.turns import Rules
from harness.datasets.scenes.dataset import Scenes
from harness.errors import SampleError, UserError
from harness.planning.config import Config, plain
from harness.planning.plan import Variant
from harness.segmenter import Click

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=some.booleans())


@given(MASKS)
@settings(deadline=None)
def test_runs_are_the_mask(mask: np.ndarray) -> None:
    """Against a walk over the pixels of the box, one by one."""
    runs = masks.encode(mask)
    np.testing.assert_array_equal(masks.decode(runs), mask)
    ys, xs = np.nonzero(mask)
    if len(ys) == 0:
        assert runs.box == (0, 0, 0, 0) and runs.runs == ()
        return
    top, left = ys.min(), xs.min()
    assert runs.box == (top, left, ys.max() - top + 1, xs.max() - left + 1)
    expected, value = [0], False
    for pixel in mask[top : ys.max() + 1, left : xs.max() + 1].ravel():
        if pixel != value:
            expected.append(0)
            value = pixel
        expected[-1] += 1
    assert list(runs.runs) == expected


def test_digests_are_of_shape_and_pixels() -> None:
    mask = np.zeros((4, 6), bool)
    other = mask.copy()
    other[3, 5] = True
    kinds = [mask, other, mask.reshape(6, 4), np.zeros((4, 7), bool)]
    assert len({masks.digest(m) for m in kinds}) == 4 and masks.digest(mask) == masks.digest(mask.copy())


class Shown:
    """A session with the hook."""

    def __init__(self, value: object):
        self.overlays = lambda: value


def test_overlays_become_boxes_and_runs_of_cells() -> None:
    cells = np.array([[-1, 3, 3], [3, -1, 0]])
    box, runs = overlays.of(Shown({"a": (1, 2, 3.5, 4), "b": (cells, 16)}))
    assert box == overlays.Box("a", 1, 2, 3.5, 4)
    assert runs == overlays.Cells("b", 16, ((0, 1, 2, 3), (1, 0, 1, 3), (1, 2, 1, 0)))
    assert overlays.of(object()) == ()


@pytest.mark.parametrize(
    "value", [[1], {"a": 1}, {"a": (1, 2, 3)}, {"a": (np.zeros((2, 2)), 1)}, {"a": (np.zeros((2, 2), int), 0)},
              {"a": "boxy"}, {"a": (np.zeros((300, 300), int), 1)}],
)  # fmt: skip
def test_overlays_that_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="overlay"):
        overlays.of(Shown(value))


ROW = AnswerRow("im,age 1", "", 2, 3, 4, True, "ännä", 'v"1"', 0.5, math.nan, 12.25, 3.5, "abc", "set")


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    writer = answers.AnswerWriter(path)
    writer.add(ROW)
    writer.close()
    whole = path.read_bytes()
    for cut in range(len(whole) - 40, len(whole)):  # a kill inside the second row's write
        path.write_bytes(whole + whole[whole.index(b"\n") + 1 : cut])
        again = answers.AnswerWriter(path)
        again.add(replace(ROW, click=3))
        again.close()
        first, *_, last = answers.read(path)
        assert repr(first) == repr(ROW) and repr(last) == repr(replace(ROW, click=3))


def test_answers_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with pytest.raises(UserError, match="cannot be read"):
        answers.read(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="its columns are a, b"):
        answers.read(path)
    with pytest.raises(UserError, match="its first line is not that of answers.csv"):
        answers.AnswerWriter(path)
    assert path.read_text() == "a,b\n1,2\n"
    good = ",".join(answers.COLUMNS) + "\n"
    for line, said in (
        ("i,,x,1,1,true,u,v,0.5,0.5,1,1,m,d,1", "line 2: invalid literal"),
        ("i,,1,1,1,true,u,v,1.5,0.5,1,1,m,d,1", "an overlap outside 0..1"),
        ("i,,1,1,1,yes,u,v,0.5,0.5,1,1,m,d,1", "'yes' is no value"),
        ("i,,1,1,1,true,u,v,0.5,0.5,1,1,m,d,9", "version 9"),
    ):
        path.write_text(f"{good}{line}\n")
        with pytest.raises(UserError, match=said):
            answers.read(path)


def test_names_under_which_a_server_is_reached() -> None:
    assert names_of("::1", 81) == {"[::1]:81", "127.0.0.1:81", "localhost:81"}
    assert names_of("10.0.0.5", 8765) == {"10.0.0.5:8765"}


@pytest.mark.parametrize(
    "host, said",
    [
        ("0.0.0.0", "the very address"),
        ("::", "the very address"),
        ("example.org", "is no IP address"),
        ("203.0.113.7", "cannot listen"),
    ],
)
def test_addresses_that_are_refused(host: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        listen(host, 0)


def test_huge_images_are_refused_before_a_model_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", 50 * 50)
    shown = pictures.SamplePictures(Scenes(count=1, longest=128), "scenes")
    with pytest.raises(SampleError, match="more than the .* megapixels that the page takes; shrink it"):
        shown.load(shown.names[0])


def test_switching_a_part_answers_anew(tmp_path: Path) -> None:
    """The lite model on a small scene: the answer after the switch is that of a model built so."""
    config = plain(Config().load("variant", "inter2former_lite"))
    panes = pane.build([Variant("lite", config)])
    dataset = Scenes(count=1, longest=128)
    click = Click(60, 60, True)

    async def clicked() -> list[str]:
        desk = Desk(pictures.SamplePictures(dataset, "scenes"), panes, tmp_path, "me", Rules())
        turn = await desk.look()
        turn = await desk.click(turn.state.revision, click, "pc")
        digests = []
        async for _, reply in turn.replies():
            digests.append(reply.answer.digest)
            assert {one.name for one in reply.answer.overlays} >= {"DPE box", "DLU box", "Boundary tokens", "Experts"}
        encoded = [reply.encode_ms async for _, reply in turn.replies()]
        turn = await desk.switch(turn.state.revision, 0, "routing", "executed")
        async for _, reply in turn.replies():
            digests.append(reply.answer.digest)
            assert [reply.encode_ms] == encoded  # on the same weights the image is not encoded again
        turn = await desk.switch(turn.state.revision, 0, "routing", "intended")
        turn = await desk.switch(turn.state.revision, 0, "dha", "bsq")
        assert turn.state.variants[0].title == "lite dha=bsq"
        async for _, reply in turn.replies():
            digests.append(reply.answer.digest)
        with pytest.raises(UserError, match="has no switch dha=boo"):
            await desk.switch(turn.state.revision, 0, "dha", "boo")
        desk.close()
        return digests

    digests = asyncio.run(clicked())
    image = dataset.load(dataset.names[0]).image
    for digest, changes in zip(digests, ({}, {"routing": "executed"}, {"dha": "bsq"}), strict=True):
        segmenter = Variant("lite", {**config, **changes}).make()
        mask = segmenter.start(segmenter.encode(image)).click(click) > 0
        assert digest == masks.digest(mask)
    assert [row.variant for row in answers.read(tmp_path / "answers.csv")][:2] == [
        "lite",
        "lite routing=executed",
    ]


class Still:
    """A variant that answers with nothing, at once."""

    encoder_key, threshold = "still", 0.0

    def encode(self, image: np.ndarray) -> np.ndarray:
        return np.zeros(image.shape[:2], np.float32)

    def start(self, embedding: np.ndarray) -> Still:
        self.scores = embedding
        return self

    def click(self, click: Click) -> np.ndarray:
        return self.scores


def no_space(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_click_that_is_not_on_disk_is_no_click(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the person is told, and what they see is what is recorded."""
    monkeypatch.setattr(Variant, "make", lambda self: Still())
    panes = pane.build([Variant("still", {"_target_": "x"})])

    async def clicked() -> None:
        desk = Desk(pictures.SamplePictures(Scenes(count=1, longest=64), "scenes"), panes, tmp_path, "me", Rules())
        turn = await desk.look()
        turn = await desk.click(turn.state.revision, Click(1, 2, True), "pc")
        whole = (tmp_path / "clicks.csv").read_bytes()
        with monkeypatch.context() as full:
            full.setattr("os.write", no_space)
            for action in (desk.click(turn.state.revision, Click(3, 4, True), "pc"), desk.undo(1, "pc")):
                with pytest.raises(UserError, match="No space left on device"):
                    await action
        assert (await desk.look()).state.clicks == (Click(1, 2, True),)
        assert (tmp_path / "clicks.csv").read_bytes() == whole
        turn = await desk.click(turn.state.revision, Click(3, 4, True), "pc")
        assert turn.state.clicks == (Click(1, 2, True), Click(3, 4, True))
        desk.close()

    asyncio.run(clicked())
