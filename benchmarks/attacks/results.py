"""Results folders of strangers: configurations that ask for calls, files and values of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.attacks import Attack, _result_files
from benchmarks.attacks.samples import pairs

FOLDER = {"_target_": "harness.datasets.folder.Folder"}
TARGETS = (
    "os.mkdir", "os.makedirs", "os.path.os.mkdir", "pathlib.os.mkdir", "hydra.utils.get_method",
    "harness.planning.config.os.mkdir", "harness.results.store.os.mkdir", "harness.cli.sys.modules",
    "harness.cli.sys.exit",
    "harness.planning.config.importlib.import_module", "harness.planning.config.instantiate",
    "harness.planning.config.build", "inter2former.derived.os.mkdir", "subprocess.run", "builtins.exec",
    "harness.results.store.Store", "harness.datasets.folder.Folder.load", "payload.System", "run.payload.System",
)  # fmt: skip


PLAIN: dict[str, Any] = {
    "ablation": {"name": "n", "base": "a"},
    "variants": {"a": FOLDER},
    "datasets": {"d": FOLDER},
}
VALUES = (None, 3, "x", [1], [[]], {"a": [{}]}, {"config": 5})
KEYS = ("ablation", "variants", "datasets", "protocol", "command", "schema")


def calls(canary: str) -> Iterator[tuple[str, Any, bool]]:
    """Name and configuration of each target in each place; whether target and place are tried with others already."""
    for number, target in enumerate(TARGETS):
        call = {"_target_": target, "path": canary, "name": canary, "args": ["mkdir", canary], "out": canary}
        places = {
            "outer": call,
            "nested": {**FOLDER, "root": call},
            "list": {**FOLDER, "root": [[call]]},
            "partial": {**call, "_partial_": True},
            "positional": {"_target_": target, "_args_": [canary]},
            "deep": {**FOLDER, "root": {"a": [{"b": {"c": [call]}}]}},
            "not-recursive": {**FOLDER, "root": call, "_recursive_": False},
            "converted": {**call, "_convert_": "all"},
            "of-an-expression": {"_target_": "${t}", "t": target, "path": canary},
            "key": {**FOLDER, "root": {"_target_": target, canary: canary}},
            "list-of-names": {"_target_": [target], "path": canary},
            "mapping": {"_target_": {"_target_": target, "path": canary}},
        }
        for place_number, (place, inner) in enumerate(places.items()):
            again = number % len(places) != place_number and target != "os.mkdir"
            yield f"{target}-{place}", {**PLAIN, "variants": {"a": inner}, "datasets": {"d": {"config": inner}}}, again


def configurations(canary: str) -> Iterator[tuple[str, Any, bool]]:
    """Name and content of config.yaml (a value, or text as it stands in the file), and whether it is one of many."""
    yield from calls(canary)
    call = {"_target_": "os.mkdir", "path": canary}
    for text in (
        "${oc.env:HOME}", "${oc.create:{_target_:os.mkdir}}", "${hydra:runtime}", "${variants}", "${", "/dev/zero", "/",
        "${oc.env:${oc.env:HOME}}", "${oc.decode:${oc.env:HOME}}", "${oc.select:variants}", "${python:1}", "~root",
        "\0", "/proc/self", "x" * 100_000, "http://169.254.169.254/", "\ud800", "${oc.dict.values:variants}",
    ):  # fmt: skip
        name = text[:40].replace("/", "_")
        yield f"text-{name!a}", {**PLAIN, "datasets": {"d": {"config": {**FOLDER, "root": text}}}}, False
    for number, key in enumerate(KEYS):
        for place, value in enumerate(VALUES):
            yield f"odd-{key}-{value}", {**PLAIN, key: value}, place != number
    for key, value in {
        "defaults": [{"override variant": "os.mkdir"}, "_self_"], "_target_": "os.mkdir", "path": canary,
        "hydra": {"run": {"dir": canary}, "searchpath": [canary]}, "protocol": {"name": call, "clicks": call},
        "resolved": call, "primary": call,
        "command": ["rm", "-rf", canary], "ablation": {"name": call, "title": call, "base": call}, "schema": 1 << 70,
    }.items():  # fmt: skip
        yield f"key-{key}", {**PLAIN, key: value}, False
    yield "object", f"!!python/object/apply:os.mkdir [{canary!r}]", False
    yield "nested-object", f"a: !!python/object/apply:os.mkdir [{canary!r}]", False
    yield "object-key", f"? !!python/object/apply:os.mkdir [{canary!r}]\n: 1", False
    lines = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
    yield "bomb", f"a0: &a0 [x]\n{lines}", False
    merges = "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}], k{i}: 1}}" for i in range(1, 12))
    yield "merge-bomb", f"a0: &a0 {{x: 1}}\n{merges}", False
    yield "ring", "a: &a [*a]", False
    yield "deep", "a: " + "[" * 50_000, False
    yield "large", "a: b\n" * 3_000_000, False
    yield "number", f"ablation: {{name: {'9' * 100_000}}}", False
    yield "sexagesimal", f"a: {':'.join(['59'] * 50_000)}", False
    yield "time", "ablation: {name: 9999-99-99T99:99:99Z}", False
    yield "binary", "a: !!binary " + "A" * 1000, False


def replays(folder: Path) -> Iterator[tuple[str, Any]]:
    """Classes of this project with settings that take for ever or all memory, as variant and as data set."""
    images = {**FOLDER, "root": str(folder)}
    scenes = {"_target_": "harness.datasets.scenes.Scenes", "count": 1}
    lite = {"_target_": "inter2former.segmenter.Inter2FormerSegmenter", "preset": "lite"}
    for name, (variant, dataset) in {
        "iterations": ({"_target_": "baselines.grabcut.OpenCVGrabCut", "iterations": 2_000_000_000}, images),
        "count": (FOLDER, {**scenes, "count": 10**12}),
        "longest": (FOLDER, {**scenes, "longest": 200_000}),
        "size": ({"_target_": "baselines.sam.Sam", "model": "vit_b", "size": 1 << 20}, images),
        "target_size": ({**lite, "target_size": 1 << 20}, images),
        "bins": ({"_target_": "baselines.geodesic.Geodesic", "bins": 100_000}, images),
        "weights": ({"_target_": "baselines.ritm.Ritm", "backbone": "hrnet18", "weights": "/dev/zero"}, images),
    }.items():  # fmt: skip
        yield name, {**PLAIN, "variants": {"a": variant}, "datasets": {"d": {"config": dataset}}}


def attacks(folder: Path) -> Iterator[Attack]:
    """Each configuration in a run's folder, with a module of the run beside it; then such folders' other files."""
    canary = folder / "executed"
    for index, (name, content, again) in enumerate(configurations(str(canary))):
        run = write_run(folder / f"results-{index}" / "run", content)
        (run / "payload.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
        yield Attack(name, ("reports", f"run={run}"), canary, harmless=True, again=again, warm=True)
    data = folder / "data"
    pairs(data, ["s"])
    for name, content in replays(data):
        run = write_run(folder / f"replay-{name}", content)
        yield Attack(f"replay-{name}", ("reports", f"run={run}", "episodes=2"), canary, harmless=True, warm=True)
    for run in _result_files.write_all(folder / "files", canary):
        yield Attack(run.name, ("reports", f"run={run}", "episodes=0"), canary, harmless=True, warm=True)


def write_run(run: Path, content: Any) -> Path:
    """A folder with the rows of one episode and this config.yaml."""
    run.mkdir(parents=True)
    _result_files.clicks().to_parquet(run / "clicks.parquet")
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (run / "config.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    return run
