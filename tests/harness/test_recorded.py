"""The CSV of recorded clicks: what is written comes back, errors are one line, and a kill loses nothing."""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.clicking.recorded import COLUMNS, RecordedClick, Writer, names_of
from harness.clicking.recorded_rows import read_rows
from harness.clicking.recording import read
from harness.errors import UserError
from harness.sample import Sample
from harness.segmenter import Click

CLICK = RecordedClick("beach", "2", 1, 10, 20, True, "ann", "pc", 1_700_000_000.25, 48, 64, "scenes")


def write(path: Path, *clicks: RecordedClick) -> Path:
    with Writer(path) as writer:
        writer.add(*clicks)
    return path


def clicks_of(path: Path, sample: str = "beach#2", user: str = "ann") -> list[tuple[float, float]]:
    return [(c.y, c.x) for c in read(path).episodes.get(sample, {}).get(user, ())]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
times = st.floats(0, 4e9) | st.just(math.nan)
rows = st.builds(
    RecordedClick, texts.filter(bool), texts, st.integers(1, 40), st.floats(0, 5e3), st.floats(0, 5e3), st.booleans(),
    texts, texts, times, st.integers(0, 4000), st.integers(0, 4000), texts,
)  # fmt: skip


@given(st.lists(rows, max_size=5))
@settings(max_examples=60)
def test_every_row_comes_back_as_it_was_written(tmp_path_factory, clicks):
    path = write(tmp_path_factory.mktemp("clicks") / "c.csv", *clicks)
    back = read_rows(path).clicks
    assert [repr(c) for c in back] == [repr(c) for c in clicks]  # repr: NaN equals NaN


def test_undo_and_restart_leave_what_counts_while_every_row_stays(tmp_path):
    at = [replace(CLICK, click=n, y=float(n), time=math.nan) for n in (1, 2, 3)]
    undo = replace(CLICK, click=2, action="undo")
    shown = replace(CLICK, click=0, action="show")
    path = write(tmp_path / "c.csv", shown, *at, undo, replace(at[1], y=9.0))
    assert clicks_of(path) == [(1, 20), (9, 20)]
    with Writer(path) as writer:
        writer.add(shown, replace(at[0], y=7.0))  # begins again
    assert clicks_of(path) == [(7, 20)]
    assert len(read_rows(path).clicks) == 8
    with Writer(path) as writer:
        writer.add(replace(CLICK, click=1, action="undo"))
    assert read(path).episodes == {}


def test_columns_of_the_issue_suffice(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(
        "image,object,click,y,x,positive,user,device,time\n1e5,,1,3,4,1,NA,,\n1e5,,2,5,6,False,NA,mobile,12.5"
    )
    first, second = read(path).episodes["1e5"]["NA"]
    assert (first.y, first.x, first.positive, math.isnan(first.time)) == (3, 4, True, True)
    assert (second.positive, second.device, second.time) == (False, "mobile", 12.5)


def test_rclicks_own_columns(tmp_path):
    """spec/rclicks.md, "Recorded clicks": shown at w x h, clicks of type fp and fn belong to given wrong masks, stems
    may look like numbers or like "NA", and nobody is named."""
    path = tmp_path / "rclicks.csv"
    path.write_text(
        "dataset,full_stem,image_stem,object_stem,click_type,model_type,device,x,y,w,h\n"
        "DAVIS,00012,00012,,first,,pc,20,10,200,100\n"
        "DAVIS,00012,00012,,first,,mobile,30.5,12,200,100\n"
        "DAVIS,00012,00012,,fp,sam,pc,30,12,200,100\n"
        "TETRIS,NA_66051,NA,66051,first,,pc,5,5,50,50\n"
    )
    recording = read(path)
    assert recording.left_out == 1 and recording.datasets == ("DAVIS", "TETRIS")
    assert list(recording.episodes) == ["00012", "NA#66051"] and list(recording.episodes["00012"]) == ["1", "2"]
    first, second = (recording.episodes["00012"][user][0] for user in ("1", "2"))
    assert first.on((400, 400, 3)) == Click(40, 40, True)  # 10 / 100 and 20 / 200 of 400
    assert second.device == "mobile" and second.on((100, 200)) == Click(12, 30, True)
    assert list(read(path, "TETRIS").episodes) == ["NA#66051"]
    with pytest.raises(UserError, match="no row is of data set 'SBD'; it holds 'DAVIS', 'TETRIS'"):
        read(path, "SBD")


def test_a_click_outside_the_image_is_named():
    assert CLICK.on((48, 64)) == Click(10, 20, True)
    assert replace(CLICK, y=47.9, x=63.9).on((12, 16)) == Click(11, 15, True)
    for wrong in (replace(CLICK, y=48.0), replace(CLICK, x=-1.0)):
        with pytest.raises(UserError, match=r"click 1 of user 'ann' on 'beach#2': .* outside the image of 48 x 64"):
            wrong.on((48, 64))
    with pytest.raises(UserError, match="outside the image of 8 x 9"):
        replace(CLICK, height=0, width=0).on((8, 9))


BAD = {
    "click=0": ("x,,0,1,1,1,u,,", "line 2: click='0' is not a whole number from 1"),
    "fraction": ("x,,1.5,1,1,1,u,,", "line 2: click='1.5' is not a whole number"),
    "text": ("x,,1,one,1,1,u,,", "line 2: y='one' is not a number"),
    "nan": ("x,,1,nan,1,1,u,,", "line 2: y='nan' is not a finite number"),
    "sign": ("x,,1,1,1,maybe,u,,", "line 2: positive='maybe' is not true or false"),
    "no image": (",,1,1,1,1,u,,", "line 2: image='' is not a name"),
    "short": ("x,,1,1,1", "line 2: fewer values than columns"),
    "long": ("x,,1,1,1,1,u,,,,,", "line 2: more values than columns"),
    "gap": ("x,,2,1,1,1,u,,", "click 2 on 'x' after click 0"),
    "quote": ('x,,1,1,1,1,"u,,', "no whole CSV"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_row_is_named_with_file_and_line(tmp_path, name):
    row, message = BAD[name]
    path = tmp_path / "c.csv"
    path.write_text(f"image,object,click,y,x,positive,user,device,time\n{row}\n")
    with pytest.raises(UserError) as error:
        read(path)
    assert message in str(error.value) and "c.csv" in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("variant,dataset\na,b\n")
    with pytest.raises(UserError, match="no column 'image'"):
        read(tmp_path / "other.csv")
    with pytest.raises(UserError, match="its first line is not that of recorded clicks"):
        Writer(tmp_path / "other.csv")
    (tmp_path / "latin.csv").write_bytes(b"image\ncaf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8 at byte 9"):
        read(tmp_path / "latin.csv")
    newer = write(tmp_path / "newer.csv", replace(CLICK, version=2))
    with pytest.raises(UserError, match="version 2, and this program reads version 1"):
        read(newer)


def test_a_kill_at_any_byte_loses_no_finished_row_and_the_file_goes_on(tmp_path):
    path = write(tmp_path / "c.csv", CLICK, replace(CLICK, click=2, user='a "b", c'))
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        complete = sum(cut >= end - 1 for end in ends[1:])  # a row that lacks its newline only is whole
        if cut >= len(",".join(COLUMNS)):
            assert len(read_rows(path).clicks) == complete
        with Writer(path) as writer:
            writer.add(replace(CLICK, user="next"))
        assert [c.user for c in read_rows(path).clicks] == ["ann", 'a "b", c'][:complete] + ["next"]


def _many(path: Path, user: str) -> None:
    with Writer(path) as writer:
        for n in range(1, 101):
            writer.add(replace(CLICK, user=user, click=n))


def test_two_writers_of_one_file_lose_no_click(tmp_path):
    path = tmp_path / "study" / "c.csv"
    several = [multiprocessing.Process(target=_many, args=(path, user)) for user in "ab"]
    for process in several:
        process.start()
    for process in several:
        process.join()
    recording = read(path)
    assert {user: len(clicks) for user, clicks in recording.episodes["beach#2"].items()} == {"a": 100, "b": 100}


def test_digest_is_of_what_is_replayed(tmp_path):
    """Times and devices do not change a replay; places do."""
    digest = read(write(tmp_path / "a.csv", CLICK)).digest
    assert read(write(tmp_path / "b.csv", replace(CLICK, time=1.0, device="mobile"))).digest == digest
    assert read(write(tmp_path / "c.csv", replace(CLICK, click=1, y=1.0), CLICK)).digest == digest
    for number, other in enumerate((replace(CLICK, y=11), replace(CLICK, user="bob"), replace(CLICK, positive=False))):
        assert read(write(tmp_path / f"{number}.csv", other)).digest != digest


def test_names_of_a_sample():
    image, mask = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    assert names_of(Sample("a#1", image, mask, "a")) == ("a", "1")
    assert names_of(Sample("b#1", image, mask)) == ("b#1", "")
    for sample in (Sample("a#1", image, mask, "a"), Sample("b#1", image, mask, "photo")):
        assert RecordedClick(*names_of(sample), 1, 0, 0, True, "u").sample == sample.name
