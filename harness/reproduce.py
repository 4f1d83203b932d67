"""`python -m harness.reproduce rows=NAME`: runs published rows, and says which of them reproduce."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import cli
from harness.console import Console, markup
from harness.errors import UserError, near_miss
from harness.planning.config import Config

HELP = """\
Runs published rows (variant, official weights, data set, protocol, number) through the sweep, and prints published,
measured, difference, tolerance and verdict. The same command again does only what is missing. Nothing is fetched: what
is not here is named with the command that fetches it.

  python -m harness.reproduce rows=ritm dry_run=true          what would be fetched, how large, how long
  python -m harness.fetch all=reproduction:ritm && python -m harness.reproduce rows=ritm
  python -m harness.reproduce rows=ritm only=grabcut          rows of these data sets or variants
  python -m harness.reproduce rows=mine.yaml root.grabcut=DIR weights.ritm_hrnet32=FILE
"""
_EPILOG = """\
settings:
  rows=NAME|FILE        {names}, or a YAML file of yours (docs/fetch.md)
  only=NAME,…           data sets, variants or metrics
  out=DIR               default runs/reproduce/NAME; reproduction.csv is the table
  root.DATASET=DIR  weights.VARIANT=FILE     in the place of what was fetched
  limit=N               so many samples of each data set: a trial, never a verdict
  dry_run=true          what is missing, and about how long; dry_run=probe measures speeds that are not known
  any other KEY=VALUE   a setting of the sweep (threads=4, executor.name=slurm, tracking.enabled=true)

exit codes: 0 every row is reproduced; 1 a row is off or failed; 3 none is off, but some could not be judged;
            2 a setting is wrong; 130 stopped
"""

_KINDS = ("variant", "dataset", "metric")


def run(arguments: Sequence[str]) -> int:
    """The command; returns the exit code."""
    from harness.sweep import config_dir

    root = Config(config_dir(arguments))
    names = ", ".join(root.options("reproduction"))
    parsed = cli.parser(
        "python -m harness.reproduce", HELP, _EPILOG.format(names=names), "rows=ritm limit=5"
    ).parse_args(arguments)
    from harness.fetching import lockfile
    from harness.fetching.manifests import Catalogue
    from harness.reproducing import forecast, rows, running, verdicts

    name, only, dry, options = _parse(parsed.overrides, names)
    chosen = _only(rows.load(root, name), only)
    catalogue = Catalogue(root.config_dir)
    for what, of, known in (
        ("root", options.roots, {r.dataset for r in chosen}),
        ("weights", options.weights, {r.variant for r in chosen}),
    ):
        for key in of:
            if key not in known:
                raise UserError(f"{what}.{key}: no row is of it. {near_miss(key, known)}")
    if dry != "false":
        forecast.show(root, chosen, options, catalogue, Console(), dry == "probe")
        return 0
    lock, errors = lockfile.LockFile(lockfile.default()), Console(stderr=True)
    verdict_of: dict[Any, verdicts.Verdict] = {}
    for group in running.groups(chosen):
        for outcome in running.run(root, group, options, catalogue, lock, errors):
            verdict_of[id(outcome.row)] = verdicts.judge(outcome)
    ordered = [verdict_of[id(row)] for row in chosen]
    console = Console()
    verdicts.show(ordered, console if console.is_terminal else Console(width=150))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        verdicts.write(ordered, options.out / "reproduction.csv")
    except OSError as error:
        raise UserError(f"out={options.out}: {error.strerror or error}; give a folder that you may write.") from error
    console.print(f"table: {markup(options.out / 'reproduction.csv')}", highlight=False, soft_wrap=True)
    return verdicts.exit_code(ordered)


def _parse(overrides: Sequence[str], names: str) -> tuple[str, tuple[str, ...], str, Any]:
    """The rows' name, what of them, whether only to look, and the options."""
    from harness.reproducing.running import Options

    name, dry, out = "", "false", ""
    only: tuple[str, ...] = ()
    limit: int | None = None
    roots: dict[str, str] = {}
    weights: dict[str, str] = {}
    others: list[str] = []
    for override in overrides:
        key, text = cli.setting(override, ", for example rows=ritm")
        if key == "rows":
            name = text
        elif key == "only":
            only = tuple(part for part in text.strip("[]").replace(" ", "").split(",") if part)
        elif key == "dry_run":
            dry = text.lower()
            if dry not in ("true", "false", "probe"):
                raise UserError(f"dry_run={text}: true, false or probe.")
        elif key == "out":
            out = text
        elif key == "limit":
            if not text.isdigit() or int(text) < 1:
                raise UserError(f"limit={text}: a number of samples from 1.")
            limit = int(text)
        elif key.startswith("root."):
            roots[key.removeprefix("root.")] = text
        elif key.startswith("weights."):
            weights[key.removeprefix("weights.")] = text
        elif key.lstrip("+") in ("variant", "variants", "dataset", "datasets", "protocol", "ablation", "measure"):
            raise UserError(
                f"{override}: the rows say it; choose rows with only=NAME, or write rows of your own (rows=FILE)."
            )
        else:
            others.append(override)
    if not name:
        raise UserError(f"nothing to reproduce: give rows=NAME ({names}) or rows=FILE.")
    folder = Path(out or Path("runs") / "reproduce" / Path(name).stem).expanduser()
    return name, only, dry, Options(folder, roots, weights, limit, tuple(others))


def _only(rows: Sequence[Any], terms: Sequence[str]) -> list[Any]:
    for word in terms:
        known = {w for row in rows for w in (row.variant, row.dataset, row.metric)}
        if word not in known:
            raise UserError(f"only={word}: no row is of it. {near_miss(word, known)}")
    # Words of one kind widen, words of different kinds narrow: only=grabcut,berkeley,noc90.
    kinds = [[w for w in terms if w in {getattr(row, kind) for row in rows}] for kind in _KINDS]
    return [
        row for row in rows
        if all(not words or getattr(row, kind) in words for kind, words in zip(_KINDS, kinds, strict=True))
    ]  # fmt: skip


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
