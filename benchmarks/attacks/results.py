"""Results folders of strangers: configurations that ask for calls, files and values of any kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.attacks import Attack

FOLDER = {"_target_": "harness.datasets.folder.Folder"}
TARGETS = (
    "os.mkdir", "os.makedirs", "os.path.os.mkdir", "pathlib.os.mkdir", "hydra.utils.get_method",
    "harness.planning.config.os.mkdir", "harness.results.store.os.mkdir", "harness.cli.sys.modules",
    "harness.cli.sys.exit",
    "harness.planning.config.importlib.import_module", "harness.planning.config.instantiate",
    "harness.planning.config.build", "inter2former.derived.os.mkdir", "subprocess.run", "builtins.exec",
    "harness.results.store.Store", "harness.datasets.folder.Folder.load", "payload.System", "run.payload.System",
)  # fmt: skip


def rows() -> pd.DataFrame:
    """Two clicks of one episode."""
    shared = {"variant": "a", "dataset": "d", "sample": "s", "y": 1, "x": 1, "positive": True, "protocol": "ritm"}
    return pd.DataFrame([{**shared, "click": click, "iou": 0.5, "size_bin": "1-5%"} for click in (1, 2)])


def configurations(canary: str) -> Iterator[tuple[str, Any]]:
    """Names and contents of config.yaml: a value, or text as it stands in the file."""
    plain: dict[str, Any] = {
        "ablation": {"name": "n", "base": "a"},
        "variants": {"a": FOLDER},
        "datasets": {"d": FOLDER},
    }
    for target in TARGETS:
        call = {"_target_": target, "path": canary, "name": canary, "args": ["mkdir", canary], "out": canary}
        for place, inner in (
            ("outer", call),
            ("nested", {**FOLDER, "root": call}),
            ("list", {**FOLDER, "root": [[call]]}),
            ("partial", {**call, "_partial_": True}),
            ("positional", {"_target_": target, "_args_": [canary]}),
        ):
            yield f"{target}-{place}", {**plain, "variants": {"a": inner}, "datasets": {"d": {"config": inner}}}
    for text in (
        "${oc.env:HOME}",
        "${oc.create:{_target_:os.mkdir}}",
        "${hydra:runtime}",
        "${variants}",
        "${",
        "/dev/zero",
        "/",
    ):
        yield f"text-{text.replace('/', '_')}", {**plain, "datasets": {"d": {"config": {**FOLDER, "root": text}}}}
    for value in (None, 3, "x", [1], [[]], {"a": [{}]}, {"config": 5}):
        for key in ("ablation", "variants", "datasets", "protocol", "command", "schema"):
            yield f"odd-{key}-{value}", {**plain, key: value}
    yield "object", f"!!python/object/apply:os.mkdir [{canary!r}]"
    yield "nested-object", f"a: !!python/object/apply:os.mkdir [{canary!r}]"
    lines = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
    yield "bomb", f"a0: &a0 [x]\n{lines}"
    yield "ring", "a: &a [*a]"
    yield "deep", "a: " + "[" * 50_000
    yield "large", "a: b\n" * 3_000_000


def attacks(folder: Path) -> Iterator[Attack]:
    """Each configuration in a run's folder, with a module of the run beside it."""
    canary = folder / "executed"
    for index, (name, content) in enumerate(configurations(str(canary))):
        run = folder / f"results-{index}" / "run"
        run.mkdir(parents=True)
        rows().to_parquet(run / "clicks.parquet")
        (run / "config.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        (run / "payload.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
        yield Attack(name, ("reports", f"run={run}"), canary, harmless=True)
    for name, text in {
        "deep": "[" * 100_000,
        "list": "[1]",
        "binary": "\x00",
        "odd": json.dumps({"peaks": [1]}),
    }.items():
        run = folder / f"machine-{name}"
        run.mkdir()
        rows().to_parquet(run / "clicks.parquet")
        (run / "machine.json").write_text(text)
        yield Attack(f"machine-{name}", ("reports", f"run={run}", "episodes=0"), canary, harmless=True)
