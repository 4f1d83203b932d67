"""Folders of sweeps with damaged files in them, which are then resumed.

Every whole line must be there afterwards, in its file or set aside beside it, and the rows must be those of the
undamaged folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.attacks import Attack
from benchmarks.attacks._sweeps import USER_FOLDER, rows, seed, sweep, whole

SAMPLES = 4
DATA = ("+ablation=many", "dataset=squares", f"dataset.count={SAMPLES}")

Damage = Callable[[list[bytes]], list[bytes]]


def header_with(**changes: object) -> Damage:
    """A damage: other values in the first line."""

    def damage(lines: list[bytes]) -> list[bytes]:
        return [json.dumps({**json.loads(lines[0]), **changes}).encode() + b"\n", *lines[1:]]

    return damage


def inserted(line: bytes, place: int = 2) -> Damage:
    """A damage: a line more."""
    return lambda lines: [*lines[:place], line, *lines[place:]]


def episode_with(**changes: object) -> Damage:
    """A damage: other values in the last line, which is an episode."""

    def damage(lines: list[bytes]) -> list[bytes]:
        return [*lines[:-1], json.dumps({**json.loads(lines[-1]), **changes}).encode() + b"\n"]

    return damage


CELLS: dict[str, Damage] = {
    "empty_file": lambda lines: [],
    "zeros_only": lambda lines: [bytes(4096)],
    "garbage_only": lambda lines: [bytes(range(256))],
    "cut_header": lambda lines: [lines[0][:30]],
    "no_header": lambda lines: lines[1:],
    "text_header": lambda lines: [b"hello\n", *lines[1:]],
    "list_header": lambda lines: [b"[1, 2]\n", *lines[1:]],
    "two_headers": lambda lines: [lines[0], *lines],
    "other_variant": header_with(variant="another"),
    "other_cell": header_with(cell="0" * 16),
    "schema_99": header_with(schema=99),
    "schema_text": header_with(schema="x"),
    "empty_line": inserted(b"\n"),
    "space_line": inserted(b" \t\n"),
    "garbage_line": inserted(b"\xff\xfe\x00garbage\n"),
    "zero_line": inserted(bytes(64) + b"\n"),
    "number_line": inserted(b"3\n"),
    "null_line": inserted(b"null\n"),
    "object_line": inserted(b"{}\n"),
    "nan_line": inserted(b'{"sample": NaN}\n'),
    "nested_line": inserted(b"[" * 100_000 + b"\n"),
    "long_number": inserted(b'{"sample": ' + b"9" * 10_000 + b"}\n"),
    "torn_middle": lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2] + b"\n", lines[-1]],
    "joined": lambda lines: [*lines[:-2], lines[-2][:-1] + lines[-1]],
    "torn_end": lambda lines: [*lines[:-1], lines[-1][:40]],
    "no_newline": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "zero_end": lambda lines: [*lines, bytes(512)],
    "windows": lambda lines: [line[:-1] + b"\r\n" for line in lines],
    "byte_order_mark": lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]],
    "twice": lambda lines: [*lines, lines[-1]],
    "no_clicks": episode_with(clicks=None),
    "text_clicks": episode_with(clicks="x"),
    "click_lacks_iou": episode_with(clicks=[{"click": 1}]),
    "nan_iou": episode_with(clicks=[{"click": 1, "y": 1, "x": 1, "positive": True, "iou": None, "biou": "x"}]),
    "number_sample": episode_with(sample=5),
    "other_sample": episode_with(sample="../../etc/passwd"),
    "list_error": episode_with(error=[1]),
}

SMALL: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(300),
    "garbage": bytes(range(256)),
    "cut": b'{"a": [1, ',
    "list": b"[1]\n",
    "null": b"null\n",
    "nested": b"[" * 100_000,
    "other": b'{"schema": 99, "flops": 3, "latency": [], "id": {}, "runs": 5, "earlier": {}}\n',
}
FILES = ("measured.json", "machine.json", "mlflow.json", "config.yaml")


def user_folder(folder: Path) -> Path:
    """The toy systems, with an ablation of one variant for each damage of a cell."""
    shutil.copytree(USER_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    variants = {name: {"variant": "disc", "radius": 5 + index % 9} for index, name in enumerate(["whole", *CELLS])}
    content = {"ablation": {"name": "many", "title": "many", "base": "whole", "variants": variants}}
    (folder / "ablation" / "many.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(content, sort_keys=False)}")
    return folder


def damage_cells(out: Path) -> list[Path]:
    """Damage every cell but the first as `CELLS` says; the files, damaged."""
    paths = []
    for path in sorted((out / "cells").glob("*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)
        damage = CELLS.get(json.loads(lines[0])["variant"])
        if damage is not None:
            path.write_bytes(b"".join(damage(lines)))
        paths.append(path)
    return paths


def damage_jobs(out: Path) -> None:
    """Put files of every content where jobs leave their episodes."""
    keys = [path.stem for path in sorted((out / "cells").glob("*.jsonl"))]
    folder = out / "jobs" / "episodes"
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, content) in enumerate(SMALL.items()):
        (folder / f"{keys[index]}.{name}.jsonl").write_bytes(content + b"\n")
        (folder / f"{name}.jsonl").write_bytes(content)
    for index, line in enumerate((b"{}", b'{"cell": 1, "variant": []}', b'{"schema": 1}', b'{"episode": 3}')):
        (folder / f"{keys[index]}.line{index}.jsonl").write_bytes(line + b"\n")


def attacks(folder: Path) -> Iterator[Attack]:
    """Damaged cells, files of jobs and small files, each in a copy of one finished folder."""
    canary, mine, finished = folder / "executed", user_folder(folder / "mine"), folder / "finished"
    seed(sweep(mine, finished, *DATA))
    good = rows(finished)
    out = _copy(finished, folder / "runs" / "cells")
    cells = damage_cells(out)
    yield Attack(
        "cells", sweep(mine, out, *DATA), canary, tuple(cells), missing=whole(out, good), harmless=True,
        inputs=len(CELLS),
    )  # fmt: skip
    out = _copy(finished, folder / "runs" / "jobs")
    for path in list((out / "cells").glob("*.jsonl"))[:2]:
        path.unlink()
    damage_jobs(out)
    arguments = sweep(mine, out, *DATA, "executor.name=processes", "executor.chunks=1")
    yield Attack("files of jobs", arguments, canary, missing=whole(out, good), harmless=True, inputs=2 * len(SMALL) + 4)
    yield from small_files(folder, mine, canary)


def small_files(folder: Path, mine: Path, canary: Path) -> Iterator[Attack]:
    """All small files of a folder damaged at once, one content after the other, with measuring and tracking on."""
    finished = folder / "measured"
    settings = [
        "variant=disc", "dataset=squares", "dataset.count=2", "measure=quick", "measure.samples=1",
        "measure.latency=false", "tracking.enabled=true", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
    ]  # fmt: skip
    arguments = [a for a in sweep(mine, finished, *settings) if a not in ("measure=none", "tracking.enabled=false")]
    seed(arguments)
    good: pd.DataFrame = rows(finished)
    for name, content in SMALL.items():
        out = _copy(finished, folder / "runs" / f"small {name}")
        present = [out / file for file in FILES if (out / file).exists()]
        for path in present:
            path.write_bytes(content)
        yield Attack(
            f"small files: {name}",
            tuple(f"out={out}" if a.startswith("out=") else a for a in arguments),
            canary,
            tuple(path for path in (out / "cells").iterdir()),
            missing=whole(out, good),
            harmless=True,
            inputs=len(present),
        )


def _copy(finished: Path, out: Path) -> Path:
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns(".lock"))
    return out
