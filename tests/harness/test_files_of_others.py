"""Files of a results folder that came from anybody: bounded before they are read, and nothing outside is sent away."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import UserError
from harness.planning import user_yaml
from harness.results import csv_tables, parquet
from harness.results.mlflow.contents import SweepFolder

FRAME = pd.DataFrame(
    {"name": ["a", "é", ""], "value": [0.5, float("nan"), -1.0], "count": [1, 2, 3], "is": [True, False, True]}
)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(parquet.read_parquet(tmp_path / "a.parquet"), FRAME)
    pd.testing.assert_frame_equal(
        parquet.read_parquet(tmp_path / "a.parquet", ["count", "name"]), FRAME[["count", "name"]]
    )


def test_tables_larger_than_a_sweep_writes_are_refused_by_their_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of equal values is one run: 40 million rows in some kilobytes."""
    path = tmp_path / "many.parquet"
    part = pa.table({"a": pa.nulls(4_000_000, pa.float64())})
    with pq.ParquetWriter(path, part.schema) as writer:
        for _ in range(10):
            writer.write_table(part)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="40,000,000 rows; at most 10,000,000 are read"):
        parquet.read_parquet(path)
    monkeypatch.setattr(parquet, "MOST_COLUMNS", 3)
    FRAME.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="4 columns; at most 3"):
        parquet.read_parquet(tmp_path / "a.parquet")


def test_a_long_text_in_every_row_is_in_memory_once(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), [long])
    pq.write_table(pa.table({"variant": texts.cast(pa.dictionary(pa.int32(), pa.string()))}), tmp_path / "a.parquet")
    values = parquet.read_parquet(tmp_path / "a.parquet")["variant"]  # written out: 100 GB
    assert len(values) == 100_000 and values[0] == long and values[0] is values[99_999]


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "zero", "folder"):
        for read in (parquet.read_parquet, csv_tables.read_csv):
            with pytest.raises(OSError, match="not a file"):
                read(tmp_path / name)


def test_a_table_of_many_columns_is_refused_by_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text("," * 100_000 + "\n")
    with pytest.raises(ValueError, match="100,001 columns; at most 500"):
        csv_tables.read_csv(tmp_path / "wide.csv")
    (tmp_path / "usual.csv").write_text("variant,value\na,0.5\n")
    assert csv_tables.read_csv(tmp_path / "usual.csv").to_dict("list") == {"variant": ["a"], "value": [0.5]}


def sweep(folder: Path, file: str) -> SweepFolder:
    """A sweep of one cell whose rows are said to lie in `file`."""
    (folder / "config.yaml").write_text("ablation: {name: x}\n")
    entry = {"cell": "1", "variant": "v", "dataset": "d", "dataset_digest": "", "variant_config": {}, "file": file}
    (folder / "cells.json").write_text(
        json.dumps([{**entry, "dataset_config": {}, "protocol_record": {}, "episodes": 0}])
    )
    return SweepFolder(folder)


def test_a_delivery_sends_files_of_the_folder_only(tmp_path: Path) -> None:
    """A downloaded run that names, or links to, files of its user."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n")
    run = tmp_path / "run"
    (run / "cells").mkdir(parents=True)
    (run / "report").mkdir()
    (run / "cells" / "own.jsonl").write_text("{}\n")
    (run / "cells" / "link.jsonl").symlink_to(secret)
    (run / "link.csv").symlink_to(secret)
    (run / "report" / "link.html").symlink_to(secret)
    os.mkfifo(run / "fifo.csv")
    (run / "own.csv").write_text("a,b\n")
    assert [cell.rows for cell in sweep(run, "cells/own.jsonl").cells()] == [run / "cells" / "own.jsonl"]
    assert [file.name for file, _ in sweep(run, "cells/own.jsonl").files()] == ["own.csv", "cells.json", "config.yaml"]
    for name in (str(secret), "../secret.csv", "cells/link.jsonl", "cells", "absent"):
        with pytest.raises(UserError, match="which is no file of this folder"):
            list(sweep(run, name).cells())


@pytest.mark.parametrize(
    "text",
    [
        "ablation: !!python/object/apply:os.getcwd []",
        "a0: &a0 [x, x, x, x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)),
        "a: &a [*a]",
        "a: " + "[" * 5000,
    ],
)
def test_a_configuration_that_is_delivered_holds_plain_values(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        SweepFolder(tmp_path)


def test_plans_of_training_are_read_like_every_configuration(tmp_path: Path) -> None:
    from harness import train
    from harness.planning.config import Config

    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.yaml").write_text("runs: !!python/object/apply:os.getcwd []")
    with pytest.raises(UserError, match=r"tag !!python/object/apply:os\.getcwd in line 1 is not allowed"):
        train.load_plan(Config(tmp_path), "mine")
    (tmp_path / "train" / "mine.yaml").write_text("runs: {a: {}}\n")
    assert train.load_plan(Config(tmp_path), "mine") == user_yaml.load(tmp_path / "train" / "mine.yaml")
