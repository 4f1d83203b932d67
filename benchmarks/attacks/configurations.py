"""YAML files of the user that are broken or hostile, settings that name nothing, and odd surroundings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks.attacks import Attack
from benchmarks.attacks._sweeps import USER_FOLDER, rows, seed, sweep, whole


def files(canary: Path) -> dict[str, bytes]:
    """Name -> content; a payload would make the folder `canary`."""
    aliases = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    call = f"['mkdir {canary}']".encode()
    return {
        "broken": b"_target_: [a\nb: {",
        "tabs": b"_target_:\n\t- toy_systems.DiscSegmenter\n",
        "binary": bytes(range(256)),
        "utf-16": "_target_: toy_systems.DiscSegmenter".encode("utf-16"),
        "zeros": bytes(4096),
        "system": b"_target_: !!python/object/apply:os.system " + call,
        "new": b"_target_: !!python/object/new:os.system " + call,
        "name": b"_target_: !!python/name:os.system ''\n",
        "module": b"_target_: !!python/module:antigravity ''\n",
        "own-tag": b"_target_: !mine x",
        "merge": b"<<: [1, 2]\n_target_: toy_systems.DiscSegmenter\n",
        "empty": b"",
        "comment": b"# nothing\n",
        "null": b"null\n",
        "list": b"- _target_: toy_systems.DiscSegmenter\n",
        "text": b"hello",
        "alias-bomb": "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *aliases]).encode(),
        "alias-of-itself": b"a: &a [*a]",
        "two-documents": b"_target_: toy_systems.DiscSegmenter\n---\nradius: 2\n",
        "nested": b"a: " + b"[" * 5000 + b"]" * 5000,
        "huge": b"a: 1\n" * 300_000,
        "no-class": b"radius: 3\n",
        "no-segmenter": b"_target_: collections.OrderedDict\n",
        "function": b"_target_: os.getcwd\n",
        "number": b"_target_: 5\n",
        "absent-module": b"_target_: nowhere.Disc\n",
        "absent-class": b"_target_: toy_systems.Nothing\n",
        "argument": b"_target_: toy_systems.DiscSegmenter\nradius: {}\n",
        "unknown-argument": b"_target_: toy_systems.DiscSegmenter\nsize: 3\n",
        "interpolation": b"_target_: toy_systems.DiscSegmenter\nradius: ${nowhere.x}\n",
        "ring": b"_target_: toy_systems.DiscSegmenter\nradius: ${variant.radius}\n",
        "nan-key": b".nan: 1\n_target_: toy_systems.DiscSegmenter\n",
        "keys": b"_target_: toy_systems.DiscSegmenter\n? [a, b]\n: 1\n",
    }


SETTINGS = {
    "variants=[nan]": ("variants=[nan]",),
    "variants=[null]": ("variants=[null]",),
    "variants=[[]]": ("variants=[[]]",),
    "variants={}": ("variants={}",),
    "variants=nan": ("variants=nan",),
    "protocol.clicks=nan": ("variant=disc", "protocol.clicks=nan"),
    "dataset.limit=inf": ("variant=disc", "dataset.limit=inf"),
    "threads=nan": ("variant=disc", "threads=nan"),
}


def write_all(folder: Path, canary: Path) -> dict[str, tuple[str, ...]]:
    """Copy the user folder to `folder` and write every hostile file into it; input -> settings that lead to it."""
    shutil.copytree(USER_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    chosen = {}
    for name, content in files(canary).items():
        (folder / "variant" / f"{name}.yaml").write_bytes(content)
        chosen[f"variant {name}"] = ("dataset=squares", f"variant={name}")
    for group in ("ablation", "dataset", "protocol"):
        (folder / group).mkdir(exist_ok=True)
        for name in ("broken", "binary", "system", "list", "alias-bomb"):
            (folder / group / f"{name}.yaml").write_bytes(files(canary)[name])
            plus = "+" if group == "ablation" else ""
            chosen[f"{group} {name}"] = ("variant=disc", f"{plus}{group}={name}")
    return {**chosen, **{n: ("dataset=squares", *given) for n, given in SETTINGS.items()}}


def attacks(folder: Path) -> Iterator[Attack]:
    """Every file and setting into a folder that holds rows; then the same good sweep in odd surroundings."""
    canary, out, mine = folder / "executed", folder / "out", folder / "mine"
    inputs = write_all(mine, canary)
    good = ("variant=disc", "dataset=squares", "dataset.limit=1")
    seed(sweep(mine, out, *good))
    reference = rows(out)
    stored = tuple((out / "cells").iterdir())
    for name, settings in inputs.items():
        # A variant whose class does not take its settings is a failed variant, not a wrong command.
        yield Attack(name, sweep(mine, out, *settings), canary, stored, failed_rows=True)
    yield from surroundings(folder, mine, good, reference)


def surroundings(folder: Path, mine: Path, good: tuple[str, ...], reference: pd.DataFrame) -> Iterator[Attack]:
    """The same good sweep, where the settings stand in another order, nobody has a home, or Ctrl-C comes early."""
    canary = folder / "executed"
    odd = {
        "between settings": ("harness.sweep", good[0], "--config-dir", str(mine), *good[1:]),
        "after settings": ("harness.sweep", *good, f"--config-dir={mine}"),
    }
    for name, arguments in odd.items():
        out = folder / name
        quiet = [a for a in sweep(mine, out) if "=" in a]
        yield Attack(name, (*arguments, *quiet), canary, missing=whole(out, reference), harmless=True)
    homeless: dict[str, str | None] = {"HOME": None, "USER": None, "LOGNAME": None, "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir()
    out = folder / "no HOME"
    yield Attack(
        "no HOME", sweep(mine, out, *good), canary, missing=whole(out, reference), harmless=True, environment=homeless
    )  # fmt: skip
    for seconds in (0.3, 1.0, 2.0):
        arguments = sweep(mine, folder / f"interrupted {seconds}", *good)
        yield Attack(f"Ctrl-C after {seconds} s", arguments, canary, harmless=True, interrupt_after_s=seconds)
