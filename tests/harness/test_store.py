"""The store: nothing lost, nothing doubled, whatever happens to the process or to the files."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clicking.records import ClickRow, Episode
from harness.errors import UserError
from harness.results.cells import CellFile
from harness.results.schema import CellHeader, Origin
from harness.results.store import Store

HEADER = CellHeader("abc", "v", "d", "ritm")
ORIGIN = Origin(code="c0de", machine="m", weights_status="no weights", parameters=3)


def _episode(name: str, iou: float = 0.5) -> Episode:
    row = ClickRow(1, 2, 3, True, iou, iou, 1.5, 0.5)
    return Episode(name, 4, 5, 0.25, ">20%", 2.5, clicks=(row,))


def _cell(path, said: list[str] | None = None, header: CellHeader = HEADER) -> CellFile:
    return CellFile(path, header, (said if said is not None else []).append)


def _filled(path, count: int = 4) -> bytes:
    cell = _cell(path)
    for i in range(count):
        cell.append(_episode(f"s{i}", i / 10), ORIGIN)
    cell.close()
    return path.read_bytes()


@given(cut=st.integers(min_value=0, max_value=1200))
def test_a_file_cut_at_any_byte_keeps_every_whole_line(cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "cell.jsonl"
    whole = _filled(path)
    cut = min(cut, len(whole))
    path.write_bytes(whole[:cut])

    said: list[str] = []
    again = _cell(path, said)
    # Expected from the bytes themselves: lines that end inside the cut, less header and origin.
    kept = max(0, whole[:cut].count(b"\n") - 2)
    assert again.done == {f"s{i}" for i in range(kept)} and said == []
    for i in range(kept, 4):
        again.append(_episode(f"s{i}", i / 10), ORIGIN)
    again.close()
    third = _cell(path)
    assert list(third.episodes()) == [(_episode(f"s{i}", i / 10), ORIGIN) for i in range(4)]


def test_a_failed_episode_is_not_done_and_a_later_success_replaces_it(tmp_path):
    cell = _cell(tmp_path / "c.jsonl")
    cell.append(Episode("a", error="boom"), ORIGIN)
    assert cell.done == set()
    cell.append(_episode("a", 0.75), ORIGIN)
    cell.close()
    again = _cell(tmp_path / "c.jsonl")
    assert again.done == {"a"}
    assert [e.clicks[0].iou for e, _ in again.episodes()] == [0.75]


def test_a_failure_after_a_finished_episode_destroys_nothing(tmp_path):
    """Before, the last line won: a variant that could not be built on resume undid what it had done."""
    path = tmp_path / "c.jsonl"
    cell = _cell(path)
    cell.append(_episode("a", 0.75), ORIGIN)
    cell.append(Episode("a", error="cannot be built"), ORIGIN)
    cell.close()
    assert _cell(path).done == {"a"}


def test_header_of_the_first_run_is_kept(tmp_path):
    _cell(tmp_path / "c.jsonl", header=replace(HEADER, commit="one")).close()
    assert _cell(tmp_path / "c.jsonl", header=replace(HEADER, commit="two")).header.commit == "one"


def test_every_episode_names_what_it_was_made_under(tmp_path):
    """Two runs with other code and machine in one cell: each row knows its own."""
    path = tmp_path / "c.jsonl"
    cell = _cell(path)
    cell.append(_episode("a"), ORIGIN)
    cell.close()
    other = replace(ORIGIN, code="0ther", machine="n", dirty=True)
    cell = _cell(path)
    cell.append(_episode("b"), other)
    cell.close()
    again = _cell(path)
    assert [(e.sample, origin) for e, origin in again.episodes()] == [("a", ORIGIN), ("b", other)]
    assert again.codes == {"c0de", "0ther"}


def test_full_disk_keeps_whole_lines_and_says_what_to_do(tmp_path, monkeypatch):
    cell = _cell(tmp_path / "c.jsonl")
    cell.append(_episode("a"), ORIGIN)
    before = (tmp_path / "c.jsonl").read_bytes()
    real = os.write
    # The kernel writes what still fits: half a line.
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(UserError, match="1 episodes of this cell are safe; free some space"):
        cell.append(_episode("b"), ORIGIN)
    monkeypatch.undo()
    assert (tmp_path / "c.jsonl").read_bytes() == before
    cell.append(_episode("b"), ORIGIN)
    assert cell.done == {"a", "b"}


GOOD = json.dumps(_episode("s2", 0.2).record(), separators=(",", ":")).encode()
DAMAGE = {
    "garbage": b"\xff\xfe\x00garbage\x93",
    "zeros": b"\0" * 64,
    "empty": b"",
    "torn": GOOD[: len(GOOD) // 2],
    "merged": GOOD[:40] + GOOD,
    "zeros before": b"\0" * 16 + GOOD,
    "a list": b"[1,2]",
    "another schema": b'{"name":"s2","curve":[0.2]}',
    "a later field": GOOD[:-1] + b',"colour":"red"}',
    "a missing field": GOOD.replace(b'"height":4,', b""),
    "text for a number": GOOD.replace(b'"iou":0.2', b'"iou":"0.2"'),
    "out of range": GOOD.replace(b'"iou":0.2', b'"iou":1.2'),
    "clicks not in order": GOOD.replace(b'"click":1', b'"click":2'),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_line_is_set_aside_named_and_done_again(kind, tmp_path):
    """Line 5 of the file is that of sample s2: header, origin, s0, s1, s2, s3."""
    path = tmp_path / "cells" / "c.jsonl"
    path.parent.mkdir()
    lines = _filled(path).split(b"\n")
    assert lines[4] == GOOD
    lines[4] = DAMAGE[kind]
    path.write_bytes(b"\n".join(lines))

    said: list[str] = []
    cell = _cell(path, said)
    assert cell.done == {"s0", "s1", "s3"}
    assert len(said) == 1 and "cells/c.jsonl, line 5" in said[0] and "c.jsonl.damaged" in said[0]
    assert (path.parent / "c.jsonl.damaged").read_bytes() == DAMAGE[kind] + b"\n"
    cell.append(_episode("s2", 0.2), ORIGIN)
    cell.close()
    said.clear()
    again = _cell(path, said)
    assert {e.sample: e.clicks[0].iou for e, _ in again.episodes()} == {f"s{i}": i / 10 for i in range(4)}
    assert said == []


@pytest.mark.parametrize("header", [b"\0\0\0\0", b"garbage", b'{"cell":"abc"}', b""])
def test_a_damaged_header_costs_no_episode(header, tmp_path):
    """The file's name is the key of the cell, and every episode knows what it was made under."""
    path = tmp_path / "c.jsonl"
    lines = _filled(path).split(b"\n")
    path.write_bytes(b"\n".join([header, *lines[1:]]))
    said: list[str] = []
    cell = _cell(path, said)
    assert cell.done == {"s0", "s1", "s2", "s3"} and cell.header == HEADER
    assert len(said) == 1 and "c.jsonl, line 1" in said[0]
    cell.close()
    assert path.read_bytes().split(b"\n") == lines


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "w"}, "its variant is 'w'"),
        ({"dataset_digest": "other"}, "its dataset_digest is 'other'"),
        ({"schema": 99}, "record format 99 is not known here (1 and 2 are)"),
    ],
)
def test_a_file_of_another_cell_or_version_is_set_aside_whole(change, words, tmp_path):
    path = tmp_path / "c.jsonl"
    lines = _filled(path).split(b"\n")
    data = b"\n".join([json.dumps({**HEADER.record(), **change}).encode(), *lines[1:]])
    path.write_bytes(data)
    said: list[str] = []
    cell = _cell(path, said)
    assert cell.done == set() and len(said) == 1 and words in said[0] and "c.jsonl.damaged" in said[0]
    assert (tmp_path / "c.jsonl.damaged").read_bytes() == data
    cell.append(_episode("a"), ORIGIN)
    cell.close()
    assert _cell(path).done == {"a"}


def test_a_file_of_zeros_is_damage_and_no_half_line(tmp_path):
    """What a power cut leaves of a file whose length was written before its content."""
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"\0" * 500)
    said: list[str] = []
    cell = _cell(path, said)
    assert cell.done == set() and "line 1" in said[0]
    assert (tmp_path / "c.jsonl.damaged").read_bytes() == b"\0" * 500 + b"\n"


def test_a_cell_of_schema_1_is_read(tmp_path):
    """Its lines as the code of commit e148468 wrote them: weights in every line, no origin."""
    header = {**HEADER.record(), "schema": 1, "commit": "e148468"}
    del header["protocol_version"]
    weights = {"weights_status": "released", "weights_digest": "d1", "parameters": 7}
    lines = [
        header,
        {**_episode("a", 0.75).record(), **weights},
        {"sample": "b", "error": "boom", "traceback": "t", **weights},
    ]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said: list[str] = []
    cell = _cell(path, said)
    assert said == [] and cell.done == {"a"} and cell.codes == {""}
    assert list(cell.episodes(["a"])) == [(_episode("a", 0.75), Origin(commit="e148468", **weights))]


def test_two_sweeps_cannot_share_a_folder(tmp_path):
    first = Store(tmp_path / "out")
    with pytest.raises(UserError, match="another sweep is writing"):
        Store(tmp_path / "out")
    first.close()
    Store(tmp_path / "out").close()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to out="):
        Store(tmp_path / "file" / "out")


def test_a_folder_whose_name_is_not_utf_8_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match=r"out=.*o\\xe9: the folder's name has bytes that are not UTF-8"):
        Store(tmp_path / os.fsdecode(b"o\xe9"))
    assert not list(tmp_path.iterdir())


def test_tables_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write_table("summary.csv", pd.DataFrame({"a": [1]}))

    def fail(self, path, index):
        path.write_text("half a ta")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(UserError, match="No space left"):
        store.write_table("summary.csv", pd.DataFrame({"a": [2]}))
    assert (tmp_path / "summary.csv").read_text() == "a\n1\n"
    assert not list(tmp_path.glob(".summary*"))
    store.close()


def test_floats_survive_exactly(tmp_path):
    value = 0.1 + 0.2
    cell = _cell(tmp_path / "c.jsonl")
    cell.append(_episode("a", value), ORIGIN)
    cell.close()
    line = (tmp_path / "c.jsonl").read_text().splitlines()[2]
    assert json.loads(line)["clicks"][0]["iou"] == value
