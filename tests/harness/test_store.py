"""The store: nothing lost, nothing doubled, whatever happens to the process."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.results.store import CellFile, Store

HEADER = {"cell": "abc", "variant": "v", "dataset": "d"}


def _episode(name: str, iou: float = 0.5) -> dict:
    return {"sample": name, "error": "", "clicks": [{"click": 1, "iou": iou}]}


@given(cut=st.integers(min_value=0, max_value=400))
def test_a_file_cut_at_any_byte_keeps_every_whole_line(cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "cell.jsonl"
    cell = CellFile(path, HEADER)
    for i in range(4):
        cell.append(_episode(f"s{i}", i / 10))
    cell.close()
    whole = path.read_bytes()
    cut = min(cut, len(whole))
    path.write_bytes(whole[:cut])

    again = CellFile(path, HEADER)
    # Expected from the bytes themselves: lines that end inside the cut, less the header.
    kept = max(0, whole[:cut].count(b"\n") - 1)
    assert again.done == {f"s{i}" for i in range(kept)}
    for i in range(kept, 4):
        again.append(_episode(f"s{i}", i / 10))
    again.close()
    assert path.read_bytes() == whole


def test_a_failed_episode_is_not_done_and_a_later_success_replaces_it(tmp_path):
    cell = CellFile(tmp_path / "c.jsonl", HEADER)
    cell.append({"sample": "a", "error": "boom"})
    assert cell.done == set()
    cell.append(_episode("a", 0.75))
    cell.close()
    again = CellFile(tmp_path / "c.jsonl", HEADER)
    assert again.done == {"a"}
    assert [e["clicks"][0]["iou"] for e in again.episodes()] == [0.75]


def test_header_of_the_first_run_is_kept(tmp_path):
    CellFile(tmp_path / "c.jsonl", {**HEADER, "commit": "one"}).close()
    assert CellFile(tmp_path / "c.jsonl", {**HEADER, "commit": "two"}).header["commit"] == "one"


def test_full_disk_keeps_whole_lines_and_says_what_to_do(tmp_path, monkeypatch):
    cell = CellFile(tmp_path / "c.jsonl", HEADER)
    cell.append(_episode("a"))
    before = (tmp_path / "c.jsonl").read_bytes()
    real = os.write
    # The kernel writes what still fits: half a line.
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(UserError, match="1 episodes of this cell are safe; free some space"):
        cell.append(_episode("b"))
    monkeypatch.undo()
    assert (tmp_path / "c.jsonl").read_bytes() == before
    cell.append(_episode("b"))
    assert cell.done == {"a", "b"}


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
    cell = CellFile(tmp_path / "c.jsonl", HEADER)
    cell.append(_episode("a", value))
    cell.close()
    line = (tmp_path / "c.jsonl").read_text().splitlines()[1]
    assert json.loads(line)["clicks"][0]["iou"] == value
