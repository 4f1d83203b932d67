"""`python -m harness.train`: train a variant under simulated clicks, or several with the same budget."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.console import Console, markup
from harness.errors import UserError, near_miss
from harness.planning import user_yaml
from harness.planning.addresses import without_secrets
from harness.planning.config import Config, overlay, plain
from harness.planning.dotted import dotted
from harness.planning.environment import recorded

HELP = """\
Trains a variant under simulated clicks. The same command again goes on from the last checkpoint, to the same numbers.

  python -m harness.train dataset.root=DIR                          Inter2Former lite on DUTS-TR
  python -m harness.train dataset.root=DIR variant.dha=vq out=DIR   another state of a switch
  python -m harness.train dataset.root=DIR validation.root=DIR      with NoC on held-out images as it goes
  python -m harness.train plan=lite_ablation dataset.root=DIR       all variants of a plan, the same budget each
  python -m harness.train plan=lite_ablation seeds=[0,1,2] only=[lite] dataset.root=DIR   three seeds of one of them
  python -m harness.train dataset=folder dataset.root=DIR           images and masks of your own
  torchrun --nproc-per-node 4 -m harness.train dataset.root=DIR     several processes or GPUs
"""

EPILOG = """\
often used:
  training.steps=N training.batch=N training.sizes=[320]   the budget
  training.precision=bf16                                  faster where the processor or GPU has bfloat16
  init=FILE                                                start from other weights
  tracking.enabled=false                                   no MLflow
A run leaves checkpoint.pt, history.jsonl, run.json and weights.safetensors; use the weights with variant.weights=FILE.
exit codes: 0 done, 1 a run of a plan failed, 2 a setting is wrong, 130 stopped
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns the exit code."""
    parser = cli.parser("python -m harness.train", HELP, EPILOG)
    parser.add_argument("--show", action="store_true", help="print the composed configuration and stop")
    options = parser.parse_args(arguments)
    root = Config(options.config_dir)
    config = compose(root, options.overrides)
    if options.show:
        print(OmegaConf.to_yaml(OmegaConf.create(without_secrets(recorded(config)))), end="")
        return 0
    if config.plan:
        return run_plan(config, [*arguments])
    return run_one(root, config)


def compose(root: Config, overrides: Sequence[str]) -> DictConfig:
    """The training configuration: defaults, then the plan's settings, then the command line.

    Raises:
        UserError: an unknown name or setting.
    """
    config = root.compose(list(overrides), primary="train")
    if not config.plan:
        return config
    plan = load_plan(root, str(config.plan))
    base = root.compose([o for o in overrides if not o.startswith("training.")], primary="train")
    base.training = overlay(base.training, plan.get("training", {}), f"plan {config.plan!r}: training")
    mine = OmegaConf.from_dotlist([o.lstrip("+") for o in overrides if o.startswith("training.")])
    merged = OmegaConf.merge(base, mine)
    assert isinstance(merged, DictConfig)
    return merged


def load_plan(root: Config, name: str) -> dict[str, Any]:
    """A plan by name: `runs` (name -> settings of the variant, `variant`, `training`, `init`), `training` and `init`.

    Raises:
        UserError: there is no such plan, or a variant of it does not exist.
    """
    from importlib import resources

    names = root.options("train")
    if name not in names:
        raise UserError(f"unknown plan {name!r}. {near_miss(name, names)}")
    folders: list[Any] = [resources.files("sweeps") / "train"]
    if root.config_dir is not None:
        folders.insert(0, root.config_dir / "train")
    file = next(f / f"{name}.yaml" for f in folders if (f / f"{name}.yaml").is_file())
    return user_yaml.load(file)


def run_one(root: Config, config: DictConfig) -> int:
    """Train the configured variant."""
    from harness.clicking.quality import set_threads
    from harness.training import command
    from harness.training.distributed import join

    set_threads(config.threads)
    console = Console(stderr=True)
    settings = command.settings_of(config.training)
    world = join(config.device)
    try:
        data = command.Data(root, config, settings.limit, console, talk=world.first)
        variant = plain(config.variant)
        name = Path(config.out).name if config.out else _name(variant)
        folder = Path(config.out or f"runs/train/{name}").expanduser().absolute()
        job = command.Run(name, variant, settings, config.init, folder)
        scores = command.train(job, data, root, config, world, console)
        if world.first:
            _deliver(folder, config, console)
            text = ", ".join(f"{k.removeprefix('val_')} {v:.3f}" for k, v in scores.items())
            console.print(
                f"{markup(name)}: {settings.steps} steps done{': ' + text if text else ''}; {markup(folder)}",
                highlight=False,
            )
    finally:
        world.close()
    return 0


def run_plan(config: DictConfig, arguments: list[str]) -> int:
    """Train the runs of a plan, each in a process of its own; one that fails does not stop the rest."""
    options = cli.parser("", "").parse_args([a for a in arguments if a != "--show"])
    root = Config(options.config_dir)
    plan = load_plan(root, str(config.plan))
    names = list(config.only or plan["runs"])
    for name in names:
        if name not in plan["runs"]:
            raise UserError(f"only={names}: plan {config.plan!r} has no run {name!r}. {near_miss(name, plan['runs'])}")
    base = Path(config.out or f"runs/train/{config.plan}").expanduser().absolute()
    own = {"plan", "only", "seeds", "out", "variant"} | ({"training.seed"} if config.seeds else set())
    kept = [o for o in options.overrides if o.split("=", 1)[0].lstrip("+") not in own]
    failed = []
    for name, seed in _repeats(plan, names, config.seeds):
        command = [sys.executable, "-m", "harness.train", *plan_overrides(plan, name, base, seed), *kept]
        command += ["--config-dir", str(options.config_dir)] if options.config_dir else []
        code = subprocess.run(command, check=False).returncode
        if code == cli.EXIT_INTERRUPTED or code < 0:
            raise KeyboardInterrupt
        if code:
            failed.append(_folder(plan, name, seed))
    _mention_features(Path(config.cache).expanduser().absolute())
    if failed:
        cli.errors.print(f"[bold red]failed:[/] {', '.join(failed)}; repeat the command to go on", highlight=False)
    return cli.EXIT_FAILURES if failed else 0


def _mention_features(cache: Path) -> None:
    """Kept features are of use to further runs of the plan, and to nobody else."""
    from harness.training import features

    kept = features.size(cache / features.FOLDER)
    if kept:
        where = cache / features.FOLDER
        cli.errors.print(f"kept features: {kept / 1e9:.1f} GB in {where}; delete them when done", highlight=False)


def _repeats(plan: dict[str, Any], names: Sequence[str], seeds: Sequence[int] | None) -> list[tuple[str, int | None]]:
    """(run, seed) in order, seed by seed; a run that others start from is trained with the first seed only."""
    if not seeds:
        return [(name, None) for name in names]
    starts = _starts(plan)
    return [(name, int(s)) for s in seeds for name in names if s == seeds[0] or name not in starts]


def _starts(plan: dict[str, Any]) -> set[str | None]:
    """What runs of the plan start from."""
    return {plan.get("init"), *((values or {}).get("init") for values in plan["runs"].values())}


def _folder(plan: dict[str, Any], name: str, seed: int | None) -> str:
    """Seed 0 has the plain name, so that adding seeds later keeps what is there, and so has what others start from."""
    return f"{name}-seed{seed}" if seed and name not in _starts(plan) else name


def plan_overrides(plan: dict[str, Any], name: str, base: Path, seed: int | None = None) -> list[str]:
    """Arguments that train one run of a plan: its variant, its switches, the plan's budget, what it starts from.

    Args:
        plan: of `load_plan`. `init`, of the plan or of a run, is another run of the plan, or a file, or null;
            `keep_features` is for plans whose runs share a frozen encoder.
        name: of the run.
        base: folder of the plan's runs.
        seed: in place of the configured one; has a folder of its own.
    """
    values = dict(plan["runs"][name] or {})
    training = {**plan.get("training", {}), **values.pop("training", {})}
    init = values.pop("init", plan.get("init"))
    arguments = [f"variant={values.pop('variant')}"] if "variant" in values else []
    arguments += [f"variant.{key}={_literal(value)}" for key, value in values.items()]
    arguments += [f"training.{key}={_literal(value)}" for key, value in dotted(training).items()]
    if init in plan["runs"]:
        init = base / init / "weights.safetensors"
    if init is not None:
        arguments.append(f"init={init}")
    if plan.get("keep_features"):
        arguments.append("keep_features=true")
    if seed is not None:
        arguments.append(f"training.seed={seed}")
    return [*arguments, f"out={base / _folder(plan, name, seed)}"]


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "null"
    return "[" + ",".join(_literal(v) for v in value) + "]" if isinstance(value, (list, tuple)) else str(value)


def _name(variant: dict[str, Any]) -> str:
    """A folder name from a variant: its class, preset and the switches that differ from on."""
    kind = str(variant["_target_"]).rsplit(".", 2)[-2]
    words = [str(variant.get("preset", kind))]
    for switch in ("dpe", "dha", "hmoe", "dlu"):
        if variant.get(switch, "on") not in ("on", True):
            words.append(f"{switch}_{variant[switch]}")
    return "-".join(words)


def _deliver(folder: Path, config: DictConfig, console: Console) -> None:
    from harness.results import mlflow as tracking

    settings = plain(config.tracking)
    deliver = getattr(tracking, "try_deliver_training", None)
    if settings["enabled"] and deliver is not None:
        console.print(markup(deliver(folder, settings)), highlight=False, soft_wrap=True)


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
