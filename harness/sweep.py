"""`python -m harness.sweep`: configuration -> plan -> clicks, FLOPs, latency -> store -> tables, MLflow, report."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
import shlex
import sys
from collections.abc import Sequence

from harness import cards, cli
from harness.errors import UserError
from harness.planning.config import Config

HELP = """\
Clicks through a data set with every variant of an ablation, measures NoC, FLOPs and CPU latency, and leaves rows,
tables, MLflow runs and a report under out=DIR. The same command again does only what is missing.

  python -m harness.sweep +ablation=dha                           the four attention states, on composed scenes
  python -m harness.sweep +ablation=dha dry_run=true              what would run, and for about how long
  python -m harness.sweep +ablation=dha dry_run=probe             the same, after a measurement of the speed
  python -m harness.sweep +ablation=dha dataset=grabcut dataset.root=DIR
  python -m harness.sweep +ablation=dha variants=[opencv_grabcut] dataset=folder dataset.root=DIR
  python -m harness.sweep +ablation=grid variant=inter2former_vit_b variant.weights=FILE protocol=inter2former
  python -m harness.sweep +ablation=mine --config-dir DIR         an ablation, model or data set of your own
"""


def epilog(root: Config) -> str:
    """The part of --help that lists what there is."""
    lines = [
        f"{group + 's:':12s}{', '.join(root.options(group))}"
        for group in ("ablation", "variant", "dataset", "protocol", "measure")
    ]
    return "\n".join(
        [
            "choices:",
            *("  " + line for line in lines),
            "",
            "systems (variant=NAME --show says more of one):",
            *("  " + line for line in _systems()),
            "",
            "often used:",
            "  out=DIR                 where everything goes (default runs/<ablation>, or runs/<variant> without one)",
            "  dataset.limit=N         a stable subset of N samples;  dataset.shard=i/n  a share of them",
            "  variant.KEY=VALUE       a setting of the system whose switches the ablation sets",
            "  code=redo               click again where the cells' code has changed since (keep: say so and go on)",
            "  measure=none            clicks only;  measure=full  careful latency;  measure=latency  no clicks",
            "  tracking.enabled=false  no MLflow;  tracking.uri=URI or $MLFLOW_TRACKING_URI  another server",
            "  report=false            no report at the end",
            "  --show                  print every setting with its value, and stop",
            "",
            "exit codes: 0 done, 1 something failed (see failures.csv), 2 a setting is wrong, 130 stopped",
        ]
    )


def _systems() -> list[str]:
    """The variants of each method with its paper and the licence of its weights, from the cards."""
    methods: dict[tuple[str, str, str], list[str]] = {}
    for card in cards.load().values():
        paper = card.paper.short if card.paper is not None else "of this project"
        key = (card.method or "others", paper, card.licence.weights or "not stated")
        methods.setdefault(key, []).append(card.variant)
    return [f"{m} ({paper}; weights: {licence}): {', '.join(v)}" for (m, paper, licence), v in methods.items()]


def run(arguments: Sequence[str]) -> int:
    """The command; returns the exit code.

    What the model and the tables need is imported after the settings were found right: help and a misspelt name answer
    at once.
    """
    root = Config(config_dir(arguments))
    parser = cli.parser("python -m harness.sweep", HELP, epilog(root))
    parser.add_argument("--show", action="store_true", help="print the composed configuration and stop")
    options = parser.parse_args(arguments)
    if not options.overrides and not options.show:
        raise UserError(
            f"nothing to run: give +ablation=NAME ({', '.join(root.options('ablation'))}) or variant=NAME "
            f"({', '.join(root.options('variant'))}); --help says more."
        )
    config = root.compose(options.overrides)
    if options.show:
        from omegaconf import OmegaConf

        from harness.planning.addresses import without_secrets
        from harness.planning.environment import recorded

        print(OmegaConf.to_yaml(OmegaConf.create(without_secrets(recorded(config)))), end="")
        card = cards.of(config.variant)
        print("".join(f"# {line}\n" for line in card.lines()) if card is not None else "", end="")
        return 0
    from harness.planning.plan import make_plan

    plan = make_plan(root, config, root.picked(options.overrides, "variant"))
    from harness.clicking.quality import set_threads
    from harness.console import Console, standard_output
    from harness.results import dry_run

    if dry_run.asked(config) != "false":
        from harness.planning.place import require_place

        require_place(config.out)
        if dry_run.asked(config) == "probe":
            set_threads(config.threads)
        dry_run.show(plan, config, standard_output())
        return 0
    from harness.executors.sweeping import Sweep

    set_threads(config.threads)
    restart = list(arguments) == sys.argv[1:]  # the process is this command and nothing else
    command = shlex.join(["python", "-m", "harness.sweep", *arguments])
    sweep = Sweep(plan, config, Console(stderr=True), command, restart)
    if root.config_dir is not None:
        sweep.trusted.append(f"--config-dir={root.config_dir}")
    return sweep.run()


def config_dir(arguments: Sequence[str]) -> str | None:
    """The folder that `--config-dir` names, before the parser that lists its choices can be made."""
    for number, here in enumerate(arguments):
        if here == "--config-dir":
            return arguments[number + 1] if number + 1 < len(arguments) else None
        if here.startswith("--config-dir="):
            return here.split("=", 1)[1]
    return None


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
