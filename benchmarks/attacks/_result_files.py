"""Tables, rows and states of a results folder that lie: parquet, CSV and JSON files."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def clicks() -> pd.DataFrame:
    """Two clicks of one episode."""
    shared = {"variant": "a", "dataset": "d", "sample": "s", "y": 1, "x": 1, "positive": True, "protocol": "ritm"}
    return pd.DataFrame([{**shared, "click": click, "iou": 0.5, "size_bin": "1-5%"} for click in (1, 2)])


class Command:
    """An object whose pickle runs a command."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


def parquets(canary: Path) -> dict[str, Callable[[Path], object]]:
    """Name -> what writes a clicks.parquet that lies."""
    payload = pickle.dumps(Command(f"mkdir {canary}"))
    frame = clicks()
    table = pa.Table.from_pandas(frame)

    def with_metadata(**texts: bytes) -> Callable[[Path], object]:
        return lambda path: pq.write_table(
            table.replace_schema_metadata({k.encode(): v for k, v in texts.items()}), path
        )

    def column(name: str, values: pa.Array) -> Callable[[Path], object]:
        def write(path: Path) -> None:
            kept = table.drop_columns([name]) if name in table.column_names else table
            pq.write_table(kept.append_column(name, values), path)

        return write

    marks = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": payload}
    extension = pa.field("iou", pa.binary(), metadata=marks)
    index = b'{"index_columns": ["__class__", {"kind": "range", "start": 0, "stop": 9e99, "step": 0}], "columns": [{}]}'
    kinds = b'{"columns": [{"name": "iou", "pandas_type": "object", "numpy_type": "O", "metadata": {"encoding": 1}}]}'
    whole = table.column("iou").to_numpy()
    bomb = pa.Table.from_arrays(
        [pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ["a" * 10_000_000])], ["variant"]
    )
    return {
        "pickled-objects": column("iou", pa.array([payload, payload], pa.binary())),
        "pickled-sample": column("sample", pa.array([payload, payload], pa.binary())),
        "extension-type": lambda path: pq.write_table(
            pa.Table.from_arrays([pa.array([payload, payload])], schema=pa.schema([extension])), path
        ),
        "pandas-index": with_metadata(pandas=index),
        "pandas-kinds": with_metadata(pandas=kinds),
        "pandas-list": with_metadata(pandas=b"[1]"),
        "pandas-deep": with_metadata(pandas=b"[" * 100_000),
        "pandas-binary": with_metadata(pandas=b"\xff\xfe"),
        "schema-metadata": with_metadata(**{"ARROW:schema": b"AAAA"}),
        "rows-many": lambda path: _many_rows(path, 40_000_000),
        "text-long": lambda path: pq.write_table(bomb, path),
        "lists": column("iou", pa.array([[0.5], [0.5]])),
        "structs": column("iou", pa.array([{"a": 1}, {"a": 2}])),
        "texts": column("iou", pa.array(["x", "y"])),
        "nothing": column("iou", pa.nulls(2)),
        "infinite": column("iou", pa.array([float("inf"), float("nan")])),
        "beyond": column("click", pa.array([1 << 62, -1])),
        "click-text": column("click", pa.array(["1", "x"])),
        "times": column("click", pa.array([0, 1], pa.timestamp("ns"))),
        "duration": column("iou", pa.array([0, 1], pa.duration("s"))),
        "decimal": column("iou", pa.array([1, 2], pa.decimal128(38, 30))),
        "numbers-as-names": column("variant", pa.array([1, 2])),
        "names-missing": column("variant", pa.array([None, None], pa.string())),
        "dictionary": column("variant", pa.DictionaryArray.from_arrays(pa.array([0, 1]), ["x", "x"])),
        "column-twice": lambda path: pq.write_table(pa.Table.from_arrays([whole, whole], ["iou", "iou"]), path),
        "columns-many": lambda path: pq.write_table(
            pa.Table.from_arrays([pa.array([1])] * 20_000, [f"c{i}" for i in range(20_000)]), path
        ),
        "columns-none": lambda path: pq.write_table(pa.table({}), path),
        "rows-none": lambda path: pq.write_table(table.slice(0, 0), path),
        "cut": lambda path: (pq.write_table(table, path), path.write_bytes(path.read_bytes()[:-20])),
        "foot": lambda path: path.write_bytes(b"PAR1" + b"\xff" * 64 + b"\xff\xff\xff\x7fPAR1"),
        "encrypted": lambda path: path.write_bytes(b"PARE" + bytes(64) + b"\x10\0\0\0PARE"),
        "csv": lambda path: frame.to_csv(path),
        "pickle": lambda path: path.write_bytes(payload),
        "feather": lambda path: frame.to_feather(path),
        "empty": lambda path: path.write_bytes(b""),
        "folder": lambda path: path.mkdir(),
        "fifo": lambda path: os.mkfifo(path),
        "zero": lambda path: path.symlink_to("/dev/zero"),
        "ring": lambda path: path.symlink_to(path.name),
        "parts": lambda path: (path.mkdir(), frame.to_parquet(path / "a.parquet"), os.mkfifo(path / "b.parquet")),
    }


def _many_rows(path: Path, count: int) -> None:
    """A small file of so many rows: a page of equal values is one run, whatever its length."""
    part = 4_000_000
    names = {"variant": "a", "dataset": "d", "sample": "s", "protocol": "ritm", "size_bin": "1-5%"}
    zeros = pa.array(bytes(part), pa.int8())
    columns = {name: pa.DictionaryArray.from_arrays(zeros, [value]) for name, value in names.items()}
    columns |= {n: pa.nulls(part, pa.float64()) for n in ("iou", "biou", "y", "x", "click")}
    table = pa.table(columns)
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(count // part):
            writer.write_table(table)


def tables() -> dict[str, bytes]:
    """Name -> content of a CSV file or of machine.json that lies."""
    head = b"variant,dataset,metric,value,low,high,size_bin,samples\n"
    return {
        "summary.csv empty": b"",
        "summary.csv zeros": bytes(1000),
        "summary.csv binary": bytes(range(256)) * 4,
        "summary.csv head": head,
        "summary.csv texts": head + b"a,d,noc90,x,y,z,all,w\n",
        "summary.csv quote": head + b'"a,d,noc90\n' * 1000,
        "summary.csv wide": b"," * 100_000 + b"\n",
        "summary.csv ragged": head + b"a,d\na,d,noc90,1,2,3,all,1,2,3,4,5\n",
        "summary.csv digits": head + b"a,d,noc90," + b"9" * 100_000 + b",1,1,all,1\n",
        "summary.csv powers": head + b"a,d,noc90,1e999,-1e999,nan,all,1e300\n",
        "summary.csv long": head + b"a,d,noc90,1,1,1,all,1\n" * 600_000,
        "latency.csv texts": b"variant,kind,threads,resolution,size_bin,median_ms\na,click,x,y,all,z\n",
        "latency.csv negative": b"variant,kind,threads,resolution,size_bin,median_ms\na,click,-1,-1,all,-5\n",
        "latency.csv formula": b"variant,kind,threads,resolution,size_bin,median_ms\n=1+1,@x,1,512,all,2\n",
        "flops.csv texts": b"variant,kind,part,size_bin,gmacs\na,click,x,all,huge\n",
        "failures.csv lines": b'stage,variant,dataset,sample,error\n"a\nb",a,d,s,"\x1b[31m"\n',
        "failures.csv utf-16": "stage,variant\na,b\n".encode("utf-16"),
        "compare.csv texts": b"base,variant,dataset,metric,p\na,b,d,noc90,x\n",
        "machine.json deep": b"[" * 100_000,
        "machine.json list": b"[1]",
        "machine.json binary": b"\x00",
        "machine.json peaks": b'{"peaks": [1]}',
        "machine.json objects": b'{"cpu": {"a": [{}]}, "cores": "many", "peaks": {"1": {"gflops": "x"}}, "id": []}',
        "machine.json digits": b'{"cores": ' + b"9" * 10_000 + b"}",
        "machine.json huge": b'{"a": "' + b"x" * (9 << 20) + b'"}',
        "machine.json constants": b'{"cores": NaN, "memory": Infinity}',
    }


def write_all(folder: Path, canary: Path) -> list[Path]:
    """Folders of runs, each with one file that lies."""
    runs = []
    for name, write in parquets(canary).items():
        runs.append(folder / f"clicks.parquet {name}")
        runs[-1].mkdir(parents=True)
        write(runs[-1] / "clicks.parquet")
    for name, content in tables().items():
        runs.append(folder / name)
        runs[-1].mkdir(parents=True)
        clicks().to_parquet(runs[-1] / "clicks.parquet")
        (runs[-1] / name.split()[0]).write_bytes(content)
    return runs
