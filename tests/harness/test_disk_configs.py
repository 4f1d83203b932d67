"""What a run's configuration may have built: this project's systems and data sets, and the user's named folder's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.planning.disk import NotBuilt, Trust

CODE = """
from pathlib import Path
Path({canary!r}).touch()
from subprocess import Popen

class System:
    def __init__(self, radius=1, inner=None): self.radius, self.inner = radius, inner
    def encode(self, image): ...
    def start(self, embedding): ...

class Part:
    def __init__(self, size=1): self.size = size

def system(**settings): Path({canary!r}).touch()
alias = Path.touch
"""


def written(folder: Path, canary: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(CODE.format(canary=str(canary)))
    return folder


STRANGERS = [
    "os.system", "os.path.os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "pathlib.Path.touch",
    "importlib.import_module", "hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_method",
    "harness.planning.config.importlib.import_module", "harness.planning.config.os.system",
    "harness.planning.config.instantiate", "harness.planning.config.build", "harness.planning.config.Config",
    "harness.cli.sys.exit", "harness.cli.main_guard", "harness.results.store.Store", "harness.results.files.Lock",
    "harness.latency.process.ChildProcess", "harness.latency.process.subprocess.Popen", "harness.sweep.Sweep",
    "harness.sweep.subprocess.run", "harness.datasets.folder.Folder.load", "harness.datasets.folder.np.load",
    "harnessed.x.Y", "harness", "harness.", ".harness.x", "harness..x", "baselines.__main__.X", "", "a b.c", 3, None,
    ["os.system"], {"_target_": "os.system"}, "harness.datasets.folder.Folder.__init__.__globals__",
    "inter2former.segmenter.torch.load", "baselines.sam.torch.hub.load", "numpy.load", "torch.load",
]  # fmt: skip


@pytest.mark.parametrize("target", STRANGERS, ids=str)
def test_nothing_else_is_looked_up_or_called(target: Any) -> None:
    with pytest.raises(NotBuilt, match="not built: class .*; give --config-dir DIR"):
        Trust().build({"_target_": target})


@pytest.mark.parametrize(
    "extra",
    [
        {"x": {"_target_": "os.system", "command": "true"}},
        {"x": [{"_target_": "os.system"}]},
        {"x": {"y": [[{"_target_": "harness.cli.sys.exit"}]]}},
        {"_partial_": True}, {"_args_": ["true"]}, {"_convert_": "all"}, {"_recursive_": False}, {"_mode_": 1},
        {"x": {"_partial_": True}},
        {"x": "${oc.env:HOME}"}, {"x": "a${oc.env:HOME}b"}, {"x": "${oc.decode:${oc.env:HOME}}"},
        {"x": "${now:}"}, {"x": "${hydra:run.dir}"}, {"x": "${x}"}, {"x": "${"}, {"x": "${oc.create:{a:1}}"},
    ],
    ids=str,
)  # fmt: skip
def test_nothing_inside_of_it_either(extra: dict[str, Any]) -> None:
    with pytest.raises(NotBuilt, match="not built: "):
        Trust().build({"_target_": "harness.datasets.folder.Folder", **extra})


def test_this_projects_own_are_built() -> None:
    made = Trust().build({"_target_": "harness.datasets.scenes.Scenes", "count": 2})
    assert len(made.names) == 2
    assert Trust().build({"_target_": "baselines.grabcut.OpenCVGrabCut"}).weights_status == "no weights"


def test_the_users_folder_counts_in_this_command_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary, name = tmp_path / "ran", "modules_of_a_user"
    folder = written(tmp_path / "mine", canary, name)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])  # importable is not trusted
    config = {"_target_": f"{name}.System", "radius": 3, "inner": {"_target_": f"{name}.Part", "size": 5}}
    with pytest.raises(NotBuilt):
        Trust().build(config)
    with pytest.raises(NotBuilt):
        Trust(tmp_path / "absent").build(config)
    assert not canary.exists() and name not in sys.modules
    made = Trust(folder).build(config)
    assert (made.radius, made.inner.size) == (3, 5)
    canary.unlink()
    for other in ("system", "alias", "Popen", "Part", "Path", "System.encode"):
        with pytest.raises(NotBuilt):
            Trust(folder).build({"_target_": f"{name}.{other}"})
    assert not canary.exists()


def test_modules_of_the_run_are_not_the_users(tmp_path: Path) -> None:
    """A folder of runs given as --config-dir: the modules of the run inside are never imported."""
    canary = tmp_path / "ran"
    run = written(tmp_path / "runs" / "downloaded", canary, "payload")
    (run / "__init__.py").write_text(CODE.format(canary=str(canary)))
    for target in ("downloaded.payload.System", "downloaded.System"):
        with pytest.raises(NotBuilt):
            Trust(tmp_path / "runs", run=run).build({"_target_": target})
    assert not canary.exists()


def test_variables_are_read_where_the_user_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNT_OF_SCENES", "3")
    config = {"_target_": "harness.datasets.scenes.Scenes", "count": "${oc.decode:${oc.env:COUNT_OF_SCENES}}"}
    with pytest.raises(NotBuilt, match="give environment=COUNT_OF_SCENES"):
        Trust(environment=frozenset({"HOME"})).build(config)
    assert len(Trust(environment=frozenset({"COUNT_OF_SCENES"})).build(config).names) == 3
