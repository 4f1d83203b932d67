"""The training loop: resuming, interruptions, NaN, averaged weights, and that it learns."""

from __future__ import annotations

import dataclasses
import errno
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.dense_lite import DenseLite
from baselines.sam_lite import SamLite
from harness.errors import UserError
from harness.training import checkpoints
from harness.training.augmentation import Augmentation
from harness.training.batches import Batches
from harness.training.distributed import World
from harness.training.loop import MOST_BAD_STEPS, StepResult, Trainer
from harness.training.material import Material, Mixture
from harness.training.packed import pack
from harness.training.schedule import Average, learning_rate, parameter_groups
from harness.training.settings import Settings, make_settings
from harness.training.trainee import trainee_of
from harness.training.validation import Validation
from inter2former.segmenter import Inter2FormerSegmenter
from tests.harness.shapes import Shapes

OBJECTS = Mixture(object=1, background=0, pasted=0, region=0, scene=0)
TINY = Settings(
    steps=6,
    batch=2,
    sizes=(64,),
    rounds=2,
    warmup=2,
    validate_every=3,
    validate_samples=2,
    validate_clicks=2,
    save_every=2,
    mixture=OBJECTS,
)
ALONE = World(0, 1, torch.device("cpu"))


def trainer(folder: Path, settings: Settings = TINY, trainee: Any = None, **variant: Any) -> Trainer:
    torch.manual_seed(settings.seed)
    packed = pack(Shapes(6, 64), folder.parent / "cache")
    batches = Batches(
        Material(packed, None, settings.mixture), settings.augmentation, settings.seed, settings.batch, settings.sizes
    )
    if trainee is None:
        trainee = trainee_of(Inter2FormerSegmenter(**variant), settings.precision)
    return Trainer(trainee, batches, settings, folder, ALONE)


def state(of: Trainer) -> dict[str, Tensor]:
    values = {f"module.{k}": v.clone() for k, v in of.trainee.module.state_dict().items()}
    return {**values, **{f"average.{k}": v.clone() for k, v in of.average.values.items()}}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


class Stop:
    """Interrupts after some steps, as Ctrl-C or SIGTERM would."""

    def __init__(self, after: int):
        self.left = after

    def __call__(self, _: StepResult) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("variant", [{}, {"dha": "vq"}, {"hmoe": "dense"}], ids=["on", "vq", "dense"])
def test_a_resumed_run_equals_an_undisturbed_one_bit_by_bit(tmp_path: Path, variant: dict[str, str]) -> None:
    whole = trainer(tmp_path / "whole", **variant)
    assert whole.resume() is False
    whole.run(lambda _: None)
    whole_state, whole_curve = state(whole), whole.history.read()
    del whole

    first = trainer(tmp_path / "cut", **variant)
    first.resume()
    with pytest.raises(KeyboardInterrupt):
        first.run(Stop(after=3))
    del first
    second = trainer(tmp_path / "cut", **variant)
    assert second.resume() is True
    assert second.step == 3
    second.run(lambda _: None)
    assert_equal(state(second), whole_state)
    assert second.history.read() == whole_curve


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run(lambda _: None)
    whole_state = state(whole)
    del whole

    class Killed(BaseException):
        """Nothing in the harness handles it: like SIGKILL, no code of the run is executed after it."""

    dying = trainer(tmp_path / "cut")

    def kill(_: StepResult, run: Trainer = dying) -> None:
        if run.step == 5:
            raise Killed

    with pytest.raises(Killed):
        dying.run(kill)
    dying.history._file.write('{"step": 6, "lo')  # a line cut short
    dying.history._file.flush()
    second = trainer(tmp_path / "cut")
    assert second.resume() is True
    assert second.step == 4  # save_every=2
    assert [entry["step"] for entry in second.history.read()] == [1, 2, 3, 4]
    second.run(lambda _: None)
    assert_equal(state(second), whole_state)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    trainer(tmp_path / "run").save()
    other = trainer(tmp_path / "run", dataclasses.replace(TINY, learning_rate=0.5))
    with pytest.raises(UserError, match=r"other settings \(settings.learning_rate: 0.001 -> 0.5\).*out=DIR"):
        other.resume()


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / checkpoints.CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read.*Remove it"):
        trainer(tmp_path / "run").resume()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    run = trainer(tmp_path / "run")
    run.save()
    before = (tmp_path / "run" / checkpoints.CHECKPOINT).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(UserError, match="no space to write.*checkpoint before this one is still"):
        run.save()
    assert (tmp_path / "run" / checkpoints.CHECKPOINT).read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [checkpoints.CHECKPOINT]


class Sick:
    """A linear model whose loss is NaN at chosen steps."""

    def __init__(self, sick: set[int]):
        self.module = nn.Conv2d(3, 1, 1)
        self.module.register_buffer("seen", torch.zeros(()))
        self.sick, self.step = sick, -1

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        self.step += 1
        return (self.module(images.float() / 255),)

    def prompts(self, *_: int) -> Any:
        class Nothing:
            def add_clicks(self, _: Any) -> None: ...
            def add_predictions(self, _: Any) -> None: ...

        return Nothing()

    def decode(self, encoded: tuple[Tensor, ...], _: Any, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.module.seen += 1
        loss = (encoded[0] - target).square().mean()
        return encoded[0], {"mask": loss * (math.nan if self.step in self.sick else 1)}


def test_a_step_with_a_nan_loss_changes_nothing_and_training_goes_on(tmp_path: Path) -> None:
    sick = Sick({1})
    run = trainer(tmp_path / "run", trainee=sick)
    seen: list[dict[str, Tensor]] = []
    run.run(lambda _: seen.append(state(run)))
    assert_equal(seen[0], seen[1])
    assert not torch.equal(seen[1]["module.weight"], seen[2]["module.weight"])
    assert all(torch.isfinite(v).all() for v in seen[-1].values())
    assert [e for e in run.history.read() if "skipped" in e] == [{"step": 2, "skipped": 1.0}]


def test_a_loss_that_stays_nan_ends_the_run_with_advice(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, steps=100)
    run = trainer(tmp_path / "run", settings, trainee=Sick(set(range(3, 100))))
    with pytest.raises(UserError, match=rf"not finite for {MOST_BAD_STEPS} steps in a row.*learning_rate=0.0003"):
        run.run(lambda _: None)
    assert torch.isfinite(run.trainee.module.weight).all()


def test_rate_warms_up_and_follows_a_cosine() -> None:
    assert [learning_rate(s, 110, 10, 0.1) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    # Half-way the cosine is 0: the mean of 1 and 0.1; at the end, 0.1.
    assert learning_rate(10, 110, 10, 0.1) == 1.0
    assert learning_rate(60, 110, 10, 0.1) == pytest.approx(0.55)
    assert learning_rate(110, 110, 10, 0.1) == pytest.approx(0.1)


def test_the_pretrained_trunk_is_frozen_and_vectors_do_not_decay() -> None:
    module = Inter2FormerSegmenter(seed=11).module
    groups = parameter_groups(module, decay=0.1, trunk=0.0)
    trained = {id(p) for group in groups for p in group["params"]}  # type: ignore[attr-defined]
    for name, parameter in module.named_parameters():
        fixed = "trunk." in name or ".canny." in name
        assert (id(parameter) in trained) != fixed, name
    for group in groups:
        for parameter in group["params"]:  # type: ignore[attr-defined]
            assert parameter.dim() > 1 or group["weight_decay"] == 0.0


def test_the_average_forgets_its_start_quickly_then_decays() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = Average(module, 0.9)
    expected = value = float(module.weight)
    for update in range(60):
        value = float(update)
        nn.init.constant_(module.weight, value)
        average.update(module)
        decay = min(0.9, (1 + update) / (10 + update))  # the formula of Average's docstring, in Python floats
        expected = decay * expected + (1 - decay) * value
    assert float(average.values["weight"]) == pytest.approx(expected, rel=1e-5)
    average.swap(module)
    assert float(module.weight) == pytest.approx(expected, rel=1e-5)
    average.swap(module)
    assert float(module.weight) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stesp": 3}, "no setting 'stesp'. Did you mean 'steps'"),
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"steps": "many"}, "steps='many': must be a whole number"),
        ({"sizes": [100]}, "multiple of 32"),
        ({"precision": "bf61"}, "Did you mean 'bf16'"),
        ({"mixture": {"objct": 1}}, "Did you mean 'object'"),
        ({"augmentation": {"scale": 2}}, "must be a list"),
    ],
)
def test_wrong_settings_are_one_line_with_the_fix(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_settings(values)


def test_settings_survive_their_record() -> None:
    made = make_settings({"steps": 7, "sizes": [64, 96], "augmentation": {"scale": [1, 2]}, "limit": None})
    assert make_settings(made.record()) == made


@pytest.mark.parametrize(
    ("kind", "variant"),
    [
        (Inter2FormerSegmenter, {}),
        (Inter2FormerSegmenter, {"dha": "full"}),
        (Inter2FormerSegmenter, {"dha": "bsq"}),
        (Inter2FormerSegmenter, {"dha": "vq"}),
        (Inter2FormerSegmenter, {"hmoe": "dense"}),
        (Inter2FormerSegmenter, {"hmoe": "shared"}),
        (Inter2FormerSegmenter, {"dpe": "off"}),
        (Inter2FormerSegmenter, {"dlu": "off"}),
        (DenseLite, {}),
        (SamLite, {}),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else "-".join(v.values()) or "on",
)
@pytest.mark.slow
def test_one_epoch_of_fifty_images_is_learned_by_heart(tmp_path: Path, kind: Any, variant: dict[str, str]) -> None:
    """From random weights, each image once, alone, with up to six clicks: IoU from about 0.1 to above 0.95."""
    source = Shapes(50)
    settings = Settings(
        steps=len(source),
        batch=1,
        sizes=(96,),
        rounds=6,
        more=0.9,
        learning_rate=3e-3,
        warmup=5,
        ema=0.8,
        mixture=OBJECTS,
        augmentation=Augmentation(scale=(1.0, 1.0), rotation=0, flip=0.5, colour=0, grey=0, blur=0),
        validate_every=1000,
        save_every=1000,
    )
    torch.manual_seed(0)
    segmenter = kind(**{"weights": None, **variant})
    material = Material(pack(source, tmp_path / "cache"), None, OBJECTS)
    batches = Batches(material, settings.augmentation, 0, settings.batch, settings.sizes)
    assert sorted(batches._index(step) for step in range(settings.steps)) == list(range(50))
    assert Validation(segmenter, source, clicks=3)()["val_miou3"] < 0.5
    run = Trainer(trainee_of(segmenter, "fp32"), batches, settings, tmp_path / "run", ALONE)
    run.run(lambda _: None)
    run.average.swap(segmenter.module)
    segmenter.module.eval()
    assert Validation(segmenter, source, clicks=3)()["val_miou3"] > 0.95


def test_a_trunk_with_a_rate_is_trained_and_kept(tmp_path: Path) -> None:
    """A factor above 0 trains what came frozen; blocks named in `freeze` stay as they came, and out of the file."""
    frozen = ("backbone.trunk.stem.", "backbone.trunk.blocks.0.")
    run = trainer(tmp_path / "run", dataclasses.replace(TINY, steps=2, trunk=0.1, freeze=frozen))
    trunk = run.trainee.module.backbone.trunk
    factors = {id(p): group["factor"] for group in run.optimizer.param_groups for p in group["params"]}
    trained = {name for name, p in trunk.named_parameters() if factors.get(id(p)) == 0.1}
    assert trained == {name for name, _ in trunk.named_parameters() if not name.startswith(("stem.", "blocks.0."))}
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    run.run(lambda _: None)
    assert {name for name, value in before.items() if not value.equal(trunk.state_dict()[name])} == trained
    kept = checkpoints.weights_to_keep(run.trainee.module, run.trainee.pretrained())
    assert {name.removeprefix("backbone.trunk.") for name in kept if "trunk." in name} == trained


def test_frozen_parts_keep_their_values(tmp_path: Path) -> None:
    frozen = ("backbone.", "edge_detector.", "decode_head.")
    run = trainer(tmp_path / "run", dataclasses.replace(TINY, steps=2, freeze=frozen))
    before = {name: value.clone() for name, value in run.trainee.module.state_dict().items()}
    run.run(lambda _: None)
    after = run.trainee.module.state_dict()
    changed = {name for name, value in before.items() if not value.equal(after[name])}
    assert changed and all(name.startswith("neck.") for name in changed)
