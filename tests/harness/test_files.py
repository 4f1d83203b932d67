"""Locks and atomic writes on file systems of every kind, and tables whose names look like something else."""

from __future__ import annotations

import errno
import fcntl
import math
import os
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import UserError
from harness.results.csv_tables import read_csv
from harness.results.files import Held, Lock, replace
from harness.results.store import Store


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL])
def test_a_file_system_that_cannot_lock_is_no_other_sweep(number, tmp_path, monkeypatch, capsys):
    """Numbers of flock(2): what Lustre without -o flock, NFS without lockd and FUSE answer."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    Store(tmp_path / "out").close()
    assert f"cannot lock files ({os.strerror(number)})" in capsys.readouterr().err
    with Lock(tmp_path / "lock", wait=True) as lock:
        assert not lock.locked


def test_a_lock_that_somebody_holds_is_waited_for_or_refused(tmp_path, capsys):
    with Lock(tmp_path / "lock") as first:
        assert first.locked
        with pytest.raises(Held):
            Lock(tmp_path / "lock")
    Lock(tmp_path / "lock", wait=True).close()
    with Store(tmp_path / "out")._lock, pytest.raises(UserError, match="another sweep is writing"):
        Store(tmp_path / "out")
    assert capsys.readouterr().err == ""


def test_what_could_not_be_written_whole_leaves_the_old_file(tmp_path):
    path = replace(tmp_path / "a", lambda beside: beside.write_text("one"))

    def interrupted(beside: Path) -> None:
        beside.write_text("hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(path, interrupted)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "one")]


NAMES = [
    "007", "1e5", "NA", "null", "None", "True", "nan", "inf", "-inf", "2024-01-01", "N/A", "", "1_000", "0x1F", "é",
    'a "b", c', "two\nlines", " blank ", "#1",
]  # fmt: skip


@pytest.mark.parametrize("column", ["variant", "dataset", "sample", "base", "size_bin", "error", "image"])
def test_names_come_back_as_the_text_that_they_were(column, tmp_path):
    for names in (NAMES, *([name] * 3 for name in NAMES if name)):
        pd.DataFrame({column: names, "value": 1.5}).to_csv(tmp_path / "t.csv", index=False)
        assert read_csv(tmp_path / "t.csv")[column].tolist() == names


def test_numbers_and_booleans_come_back_as_such(tmp_path):
    frame = pd.DataFrame(
        {
            "variant": ["1", "2"],
            "a": [1, 2],
            "b": [0.1 + 0.2, math.nan],
            "c": [True, False],
            "d": math.nan,
            "e": [math.inf, 1e-300],
            "f": ["x", ""],
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    back = read_csv(tmp_path / "t.csv")
    kinds = {name: dtype.kind for name, dtype in back.dtypes.items()}
    assert kinds == {"variant": "O", "a": "i", "b": "f", "c": "b", "d": "f", "e": "f", "f": "O"}
    assert back["b"][0] == 0.1 + 0.2 and math.isnan(back["b"][1]) and back["d"].isna().all()
    assert back["e"].tolist() == [math.inf, 1e-300] and back["f"].tolist() == ["x", ""]
    assert read_csv(tmp_path / "missing.csv").empty
    (tmp_path / "empty.csv").write_text("\n")
    assert read_csv(tmp_path / "empty.csv").empty
    (tmp_path / "header.csv").write_text("variant,value\n")
    assert list(read_csv(tmp_path / "header.csv")) == ["variant", "value"]
