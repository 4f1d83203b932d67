"""From a training configuration to finished runs: data, model, loop, weights."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

from harness import cli
from harness.console import Console, markup
from harness.errors import UserError
from harness.machine import describe
from harness.planning.config import Config, build, plain
from harness.planning.environment import hide
from harness.progress import Bar
from harness.training.batches import Batches
from harness.training.checkpoints import WEIGHTS, save_atomically, save_weights
from harness.training.distributed import World, join
from harness.training.features import FOLDER, Features
from harness.training.loop import StepResult, Trainer
from harness.training.material import Material
from harness.training.packed import Packed, pack
from harness.training.settings import Settings, make_settings
from harness.training.trainee import trainee_of
from harness.training.validation import Validation

SCENE_LONGEST = 480


@dataclass(frozen=True)
class Run:
    """One model to train.

    Attributes:
        name: of its folder and its weights.
        variant: configuration with `_target_`.
        settings: everything that decides the result.
        init: weights to start from.
        folder: where its files go.
    """

    name: str
    variant: dict[str, Any]
    settings: Settings
    init: str | None
    folder: Path


class Data:
    """The training data, packed once for all runs of a command."""

    def __init__(self, root: Config, config: DictConfig, limit: int | None, console: Console, talk: bool = True):
        self.cache = Path(config.cache).expanduser().absolute()
        self.console, self._talk = console, talk
        values = plain(config.dataset)
        if limit is not None:
            values["limit"] = limit
        self.photographs = self._packed(build(values, "dataset"))
        self.scenes = self._scenes(root, int(config.scenes)) if config.scenes else None

    def digests(self) -> dict[str, str]:
        """What was trained on, by content."""
        return {
            "photographs": self.photographs.digest,
            "scenes": "" if self.scenes is None else self.scenes.digest,
        }

    def _packed(self, source: Any, longest: int | None = None) -> Packed:
        with Bar(f"packing {source.name}", len(source.names), self.console) as bar:
            packed = pack(source, self.cache, longest, bar)
        if packed.skipped and self._talk:
            name, why = next(iter(packed.skipped.items()))
            self.console.print(
                f"[yellow]{len(packed.skipped)} samples of {markup(source.name)} are left out[/], "
                f"for example {markup(name)}: {markup(why)}",
                highlight=False,
            )
        return packed

    def _scenes(self, root: Config, count: int) -> Packed:
        values = plain(root.load("dataset", "scenes"))
        values |= {"split": "train", "count": count, "longest": SCENE_LONGEST}
        return self._packed(build(values, "dataset scenes"))


def train(run: Run, data: Data, root: Config, config: DictConfig, world: World, console: Console) -> dict[str, float]:
    """Train one model, or finish training it; returns its last validation.

    Files under the run's folder: `checkpoint.pt`, `history.jsonl`, `weights.safetensors`, `run.json`.

    Raises:
        UserError: not trainable, the folder holds another run, no space, or the loss stays NaN.
    """
    settings = run.settings
    run = dataclasses.replace(run, variant=untrained(run.variant))
    torch.manual_seed(settings.seed)
    segmenter = build(run.variant, f"variant {run.name!r}")
    trainee = trainee_of(segmenter, settings.precision, run.name)
    if config.keep_features:
        trainee.keep = Features(data.cache / FOLDER)
    if run.init:
        load_init(trainee, run.init, console)
    material = Material(data.photographs, data.scenes, settings.mixture)
    batches = Batches(
        material, settings.augmentation, settings.seed, settings.batch, settings.sizes, world.rank, world.size
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    identity = {"variant": run.variant, "data": data.digests(), "init": run.init, "processes": world.size}
    trainer = Trainer(trainee, batches, settings, run.folder, world, identity)
    resumed = trainer.resume()
    if resumed and world.first:
        console.print(f"{markup(run.name)}: going on from step {trainer.step} of {settings.steps}", highlight=False)
    validate = _validation(root, config, segmenter, settings) if world.first else None
    if world.first:
        write_record(run, data, trainer, "running")
    quiet = Console(stderr=True, quiet=not world.first)
    with Bar(f"training {run.name}", settings.steps, quiet) as bar, cli.terminate_like_interrupt():
        bar.advance(items=trainer.step)
        smooth = Smooth()
        trainer.run(lambda result: bar.advance(smooth.note(result)), validate)
    if world.first:
        finish(run, data, trainer)
    return last_validation(trainer)


def untrained(variant: dict[str, Any]) -> dict[str, Any]:
    """A variant to train: it begins with random weights unless a file is named, never with the package's."""
    return {**variant, "weights": None} if variant.get("weights") == "default" else variant


def finish(run: Run, data: Data, trainer: Trainer) -> None:
    """Write the averaged weights and the record of the run."""
    module = trainer.trainee.module
    trainer.average.swap(module)
    pretrained = trainer.trainee.pretrained() if hasattr(trainer.trainee, "pretrained") else {}
    save_weights(run.folder / WEIGHTS, module, metadata(run, trainer), pretrained)
    trainer.average.swap(module)
    write_record(run, data, trainer, "done")


def metadata(run: Run, trainer: Trainer) -> dict[str, str]:
    """What the weight file says of itself; `config` is what the model's own loader asks for."""
    values = {"variant": json.dumps(run.variant), "steps": str(trainer.step), "weights_status": "trained here"}
    if hasattr(trainer.trainee, "metadata"):
        values |= trainer.trainee.metadata()
    return values


def write_record(run: Run, data: Data, trainer: Trainer, status: str) -> None:
    """Write `run.json`: what was trained how, for how long, where, and how it went."""
    record = {
        "name": run.name,
        "status": status,
        "variant": hide(run.variant),
        "settings": run.settings.record(),
        "init": run.init,
        "data": {**data.digests(), "count": len(data.photographs), "skipped": data.photographs.skipped},
        "step": trainer.step,
        "training_seconds": round(trainer.seconds, 1),
        "threads": torch.get_num_threads(),
        "processes": trainer.world.size,
        "device": str(trainer.world.device),
        "machine": describe.describe(peaks=False),
        "validation": last_validation(trainer),
    }
    text = json.dumps(record, indent=1, default=str)
    save_atomically(run.folder / "run.json", lambda path: path.write_text(text))


def last_validation(trainer: Trainer) -> dict[str, float]:
    """The last validated values of a run."""
    entries = [e for e in trainer.history.read() if any(name.startswith("val_") for name in e)]
    return {k: v for k, v in entries[-1].items() if k.startswith("val_")} if entries else {}


def load_init(trainee: Any, name: str, console: Console) -> None:
    """Start from weights of another run, or from packaged ones; entries that do not fit stay as they are.

    Raises:
        UserError: there are no such weights.
    """
    module = trainee.module
    try:
        entries = trainee.initial(name) if hasattr(trainee, "initial") else load_file(Path(name).expanduser())
    except (ValueError, OSError, SafetensorError) as error:
        raise UserError(f"init={name}: {error}, or leave init out.") from error
    own = module.state_dict()
    fitting = {k: v.to(own[k].dtype) for k, v in entries.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(fitting, strict=False)
    console.print(
        f"started from {markup(name)}: {len(fitting)} entries taken, {len(entries) - len(fitting)} do not fit",
        highlight=False,
    )


def _validation(root: Config, config: DictConfig, segmenter: Any, settings: Settings) -> Validation | None:
    chosen = plain(config.validation)
    if chosen.get("root") is None:
        return None
    values = plain(root.load("dataset", chosen["dataset"]))
    values = {**values, "root": chosen["root"], "limit": settings.validate_samples}
    return Validation(segmenter, build(values, "validation dataset"), settings.validate_clicks)


class Smooth:
    """A running mean of what a step did, as the note behind the progress bar."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def note(self, result: StepResult) -> str:
        """Take in a step; returns the note."""
        if not result.finite:
            return "step skipped: loss or gradient is not finite"
        new = {"loss": sum(result.terms.values()), "IoU@1": result.first_iou, "last": result.last_iou}
        for name, value in new.items():
            self._values[name] = self._values.get(name, value) * 0.98 + value * 0.02
        return "  ".join(f"{name} {value:.3f}" for name, value in self._values.items())


def settings_of(config: Mapping[str, Any], seed: int | None = None) -> Settings:
    """Settings from the configuration, with another seed if one is given."""
    settings = make_settings(plain(config))
    return settings if seed is None else dataclasses.replace(settings, seed=seed)


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


__all__ = ["Data", "Run", "join", "settings_of", "train"]
