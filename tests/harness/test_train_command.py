"""`python -m harness.train` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from harness import cli, train
from harness.errors import UserError
from harness.planning.config import Config, plain
from harness.training import command
from inter2former import weights
from inter2former.segmenter import Inter2FormerSegmenter
from tests.harness.shapes import Shapes

QUICK = [
    "dataset=folder",
    "scenes=0",
    "training.steps=4",
    "training.batch=2",
    "training.sizes=[64]",
    "training.rounds=1",
    "training.save_every=1",
    "threads=1",
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    source = Shapes(5, 64)
    for name in source.names:
        sample = source.load(name)
        cv2.imwrite(str(root / "images" / f"{name}.png"), sample.image[..., ::-1])
        cv2.imwrite(str(root / "masks" / f"{name}.png"), 255 * sample.mask)
    (root / "images" / "corrupt.png").write_bytes(b"no image")
    cv2.imwrite(str(root / "masks" / "corrupt.png"), np.full((64, 64), 255, np.uint8))
    return root


def arguments(photographs: Path, tmp_path: Path, *more: str) -> list[str]:
    return [
        *QUICK,
        f"dataset.root={photographs}",
        f"cache={tmp_path / 'cache'}",
        f"out={tmp_path / 'run'}",
        f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}",
        *more,
    ]


def test_a_run_leaves_weights_that_the_segmenter_takes(photographs: Path, tmp_path: Path) -> None:
    assert train.run(arguments(photographs, tmp_path)) == 0
    folder = tmp_path / "run"
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "done" and record["step"] == 4
    assert list(record["data"]["skipped"]) == ["corrupt"]
    assert not any("trunk." in name for name in load_file(str(folder / "weights.safetensors")))
    segmenter = Inter2FormerSegmenter(weights=str(folder / "weights.safetensors"))
    assert segmenter.weights_status == "trained here"

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("interactive-segmentation-training")
    (run,) = client.search_runs([experiment.experiment_id])
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    curve = sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss"))
    assert curve == [(entry["step"], entry["loss"]) for entry in history]
    assert run.data.params["settings.steps"] == "4"


def test_training_does_not_begin_with_the_packaged_weights_unless_asked() -> None:
    assert command.untrained({"weights": "default", "dha": "on"}) == {"weights": None, "dha": "on"}
    assert command.untrained({"weights": "a.safetensors"}) == {"weights": "a.safetensors"}
    fresh = Inter2FormerSegmenter(weights=None)
    packaged = Inter2FormerSegmenter(weights="lite")
    command.load_init(fresh.trainee(), "lite", Console(stderr=True))
    assert fresh.weights_digest == packaged.weights_digest
    with pytest.raises(UserError, match=r"init=nothing: no such file.*lite"):
        command.load_init(fresh.trainee(), "nothing", Console(stderr=True))


def test_a_decoder_can_begin_at_random_on_the_packaged_encoder() -> None:
    fresh, packaged = Inter2FormerSegmenter(weights=None, seed=1), Inter2FormerSegmenter(weights="lite")
    before = {name: value.clone() for name, value in fresh.module.state_dict().items()}
    command.load_init(fresh.trainee(), "lite-encoder", Console(stderr=True))
    for name, value in packaged.module.state_dict().items():
        source = value if name.startswith(("backbone.", "edge_detector.")) else before[name]
        assert torch.equal(fresh.module.state_dict()[name], source), name


def test_a_run_killed_at_any_moment_ends_with_the_same_weights(photographs: Path, tmp_path: Path) -> None:
    given = arguments(photographs, tmp_path, "tracking.enabled=false", "training.steps=8")
    command = [sys.executable, "-m", "harness.train", *given]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoint.pt").exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert train.run(given) == 0
    mended = load_file(str(tmp_path / "run" / "weights.safetensors"))
    whole = [*given, f"out={tmp_path / 'whole'}"]
    assert train.run(whole) == 0
    expected = load_file(str(tmp_path / "whole" / "weights.safetensors"))
    assert [name for name, value in expected.items() if not value.equal(mended[name])] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.stesp=4", "training.steps"),
        ("plan=lite_ablatoin", "lite_ablation"),
        ("variant=inter2former_lit", "inter2former_lite"),
        ("init=/nowhere.safetensors", "no such file"),
        ("variant=opencv_grabcut", "cannot be trained"),
    ],
)
def test_a_mistake_is_one_line_with_the_near_miss(
    photographs: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train.run(arguments(photographs, tmp_path, override))


def test_a_plan_gives_every_run_the_same_budget(tmp_path: Path) -> None:
    plan = train.load_plan(Config(), "lite_ablation")
    kept = []
    for name in plan["runs"]:
        given = train.plan_overrides(plan, name, tmp_path)
        config = train.compose(Config(), [*given, "training.seed=5"])
        kept.append(config.training)
        assert config.out == str(tmp_path / name)
    assert all(budget == kept[0] for budget in kept)
    assert kept[0].steps == plan["training"]["steps"] and kept[0].seed == 5


def test_decoders_of_a_plan_start_from_its_encoder(tmp_path: Path) -> None:
    plan = train.load_plan(Config(), "lite_decoders")
    for name in plan["runs"]:
        config = train.compose(Config(), train.plan_overrides(plan, name, tmp_path))
        if name == "encoder":
            assert config.init is None and "backbone." not in config.training.freeze
        else:
            assert config.init == str(tmp_path / "encoder" / "weights.safetensors")
            assert config.training.freeze == ["backbone.", "edge_detector."]


def test_additions_add_one_kind_of_task_at_a_time(tmp_path: Path) -> None:
    """Each run draws one kind more than the run before; everything else is equal."""
    plan = train.load_plan(Config(), "additions")
    before: set[str] = set()
    others = []
    for name in plan["runs"]:
        config = train.compose(Config(), train.plan_overrides(plan, name, tmp_path))
        training = plain(config.training)
        mixture = training.pop("mixture")
        drawn = {kind for kind, share in mixture.items() if share}
        assert before < drawn and len(drawn - before) == 1
        assert name in ("object", f"plus_{min(drawn - before)}")
        last = plan["runs"]["plus_scene"]["training"]["mixture"]
        assert all(mixture[kind] == last[kind] for kind in drawn)
        before = drawn
        others.append((training, config.init))
    assert before == {"object", "background", "pasted", "region", "scene"}
    assert all(other == others[0] for other in others)
    assert weights.FOLDER.joinpath(f"{others[0][1]}.safetensors").is_file()


@pytest.mark.parametrize("plus", ["", "+"])
def test_seeds_of_a_plan_are_runs_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plus: str) -> None:
    """The encoder, from which others start, is trained once; `+plan=` must not reach the runs (it called itself)."""
    called: list[list[str]] = []

    def note(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        called.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(train.subprocess, "run", note)
    given = [f"{plus}plan=lite_decoders", "only=[encoder,lite]", "seeds=[0,2]", "training.seed=9", "training.steps=7"]
    assert train.run([*given, f"out={tmp_path}"]) == 0
    kept = [{o.split("=", 1)[0]: o.split("=", 1)[1] for o in command if "=" in o} for command in called]
    assert [Path(o["out"]).name for o in kept] == ["encoder", "lite", "lite-seed2"]
    assert [o["training.seed"] for o in kept] == ["0", "0", "2"]
    assert not any("plan" in name for o in kept for name in o)
    for options in kept[1:]:
        assert options["init"] == str(tmp_path / "encoder" / "weights.safetensors")
        assert options["training.steps"] == "7"


def test_what_others_start_from_keeps_its_folder_whatever_the_seeds(tmp_path: Path) -> None:
    """With seeds=[1,2] the encoder went to encoder-seed1, where no decoder looked for it."""
    plan = train.load_plan(Config(), "lite_decoders")
    given = {name: train.plan_overrides(plan, name, tmp_path, seed=1) for name in ("encoder", "lite")}
    assert f"out={tmp_path / 'encoder'}" in given["encoder"]
    assert f"init={tmp_path / 'encoder' / 'weights.safetensors'}" in given["lite"]
    assert f"out={tmp_path / 'lite-seed1'}" in given["lite"]


def test_a_plan_trains_its_runs_and_resumes(photographs: Path, tmp_path: Path) -> None:
    given = arguments(photographs, tmp_path, "plan=lite_ablation", "only=[lite]", "tracking.enabled=false")
    assert train.run(given) == 0
    assert json.loads((tmp_path / "run" / "lite" / "run.json").read_text())["status"] == "done"
    weights = tmp_path / "run" / "lite" / "weights.safetensors"
    before = load_file(str(weights))
    weights.unlink()
    assert train.run(given) == 0
    after = load_file(str(weights))
    assert [name for name, value in before.items() if not value.equal(after[name])] == []


def test_two_processes_average_their_gradients(photographs: Path, tmp_path: Path) -> None:
    given = arguments(photographs, tmp_path, "tracking.enabled=false", "training.steps=2")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launch, "-m", "harness.train", *given], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-8000:]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["processes"] == 2 and record["step"] == 2
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 2


def test_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.run(["--help"])
    assert ended.value.code == 0
    assert "python -m harness.train" in capsys.readouterr().out
    assert cli.EXIT_USER_ERROR == 2
