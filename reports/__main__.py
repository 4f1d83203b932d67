"""`python -m reports`: pages, tables and plots from sweeps in folders or on a tracking server."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import EXIT_UNDECIDED, main_guard
from harness.errors import UserError, near_miss
from harness.planning.config import Config
from harness.planning.disk import Trust
from reports import usage
from reports.commands import COMMANDS

if TYPE_CHECKING:
    from reports.read.runs import Run

HELP = """\
Makes tables, plots and one self-contained page of a finished (or unfinished) sweep.

  python -m reports run=runs/dha                         everything, into runs/dha/report
  python -m reports run=runs/dha out=DIR episodes=0      into DIR, without replayed episodes
  python -m reports run=runs/dha --config-dir DIR        with episodes of your own classes, from your modules in DIR
  python -m reports run=runs/dha table=main              one table on the screen (format=md|csv|tex)
  python -m reports compare runs/a runs/b [out=DIR]      what changed between two runs, into runs/b/compare
  python -m reports history runs/a runs/b runs/c         several runs over time: did the last one get worse?
  python -m reports study=FILE                           the table of a study that people clicked (docs/clicking.md)
  python -m reports submit run=DIR to=REPO               check a run and put it into a repository of results
  python -m reports submit to=REPO                       check every entry of a repository
  python -m reports verify run=DIR in=REPO               a rerun: mark the entries that it bears out
  python -m reports board [results=REPO] out=SITE        a static site of a repository
  python -m reports docs [check=true]                    tables of the documents from the stored rows
  python -m reports history results=REPO [machine=KIND]  levels and change points over many commits
  python -m reports gate base=A head=B                   for CI; A and B are runs, or repositories
  python -m reports export [results=REPO] out=DIR [form=…] [system=NAME] [dataset=NAME]
                                                         form: model-index, pwc, bibtex, latex or all
  python -m reports mlflow.experiment=NAME [mlflow.runs=[ID,NAME]] [mlflow.uri=URI]
                                                         the same from a tracking server; several runs: compared too
tables: overview, failures, quality, compare, sizes, robustness, latency, scaling, flops, main, ablation, baselines,
        published
settings: run, study, out, table, format, episodes (seconds for replaying, default 15), mlflow.experiment, .runs, .uri,
          environment (names of variables that ${oc.env:NAME} in the run's configuration may read)
A run may come from anybody: only classes of this project and of --config-dir are built (docs/security.md).
exit codes: 0 done; history, gate: everything was judged and nothing got worse
            1 history, gate: something got worse; board: an entry was left out; verify: one was not borne out
            2 a setting is wrong; submit: refused; docs check=true: a document differs from the rows
            3 history, gate: nothing got worse, but for some variant the primary metric was not compared, or too few
              samples differ to tell; compare: this holds for every variant
python -m reports COMMAND --help says more of a command.
"""
KEYS = (
    "run",
    "study",
    "out",
    "table",
    "format",
    "episodes",
    "environment",
    "mlflow.experiment",
    "mlflow.runs",
    "mlflow.uri",
)


def run(arguments: Sequence[str]) -> int:
    """The command; returns the exit code.

    Raises:
        UserError: a setting is wrong, or the files of a run do not hold what a sweep writes.
    """
    try:
        return _run(arguments)
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        # A folder from elsewhere may hold any value in any place; where that was met is said, for who looks for a bug.
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"no report can be made: {type(error).__name__}: {' '.join(str(error).split())} "
            f"({Path(place.filename).name}, line {place.lineno}). The run holds something else than harness.sweep "
            "writes; repeat the sweep's command."
        ) from error


def _run(arguments: Sequence[str]) -> int:
    if not arguments or any(a in ("-h", "--help", "help") for a in arguments):
        print(usage.of(arguments[:1]) or usage.of(arguments[1:] if arguments[:1] == ["help"] else ()) or HELP, end="")
        return 0
    over_repository = arguments[0] == "history" and any(a.startswith("results=") for a in arguments[1:])
    if over_repository or arguments[0] in COMMANDS and arguments[0] != "history":
        return COMMANDS[arguments[0]](arguments[1:])
    if arguments[0] in ("compare", "history"):
        return _several(arguments[0], arguments[1:])
    options = parse(arguments)
    if "mlflow.experiment" in options:
        return _from_mlflow(options)
    if "study" in options:
        sys.stdout.write(study_table(options["study"], options.get("format", "md")))
        return 0
    if "run" not in options:
        raise UserError("which run? Give run=DIR, the out= folder of a sweep, for example run=runs/dha.")
    if "table" in options:
        sys.stdout.write(one_table(options["run"], options["table"], options.get("format", "md")))
        return 0
    from reports.pages.assemble import build

    print(build(options["run"], options.get("out"), _seconds(options), _trust(options)))
    return 0


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments.

    Raises:
        UserError: an argument without `=`, or an unknown key.
    """
    options = {}
    waiting = [*arguments]
    while waiting:
        argument = waiting.pop(0)
        if argument == "--config-dir":
            argument += f"={waiting.pop(0)}" if waiting else ""
        if argument.startswith("--config-dir="):
            options["config-dir"] = argument.partition("=")[2]
            continue
        key, equals, value = argument.partition("=")
        if not equals:
            raise UserError(f"cannot read {argument!r}: arguments look like key=value, for example run=runs/dha.")
        if key not in KEYS:
            raise UserError(f"unknown setting {key!r}. {near_miss(key, KEYS)}")
        options[key] = value
    return options


def _trust(options: dict[str, str]) -> Trust:
    """What the user vouches for in this command."""
    folder = options.get("config-dir")
    names = options.get("environment", "").strip("[]").split(",")
    return Trust(Config(folder).config_dir, frozenset(name.strip() for name in names if name.strip()))


def one_table(path: str, name: str, form: str) -> str:
    """One table as text."""
    from reports.pages.assemble import FORMATS
    from reports.read.frames import read
    from reports.tables import quality

    if name not in quality.ALL:
        raise UserError(f"unknown table {name!r}. {near_miss(name, quality.ALL)}")
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}. {near_miss(form, FORMATS)}")
    return FORMATS[form](quality.ALL[name](read(path)))


def study_table(path: str, form: str) -> str:
    """The table of a study as text."""
    from reports.pages.assemble import FORMATS
    from reports.read import study
    from reports.tables.study import table

    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}. {near_miss(form, FORMATS)}")
    return FORMATS[form](table(study.read(path)))


def _several(kind: str, arguments: Sequence[str]) -> int:
    from reports.read.frames import read

    options = parse([a for a in arguments if a.startswith("out=")])
    folders = [a for a in arguments if not a.startswith("out=")]
    wrong = [a for a in folders if "=" in a and not Path(a).is_dir()]
    if wrong:
        raise UserError(f"cannot read {wrong[0]!r}: {kind} takes folders of sweeps and out=DIR.")
    if len(folders) < 2 or (kind == "compare" and len(folders) > 2):
        raise UserError(
            f"{kind} needs {'two' if kind == 'compare' else 'two or more'} folders, for example: {kind} runs/a runs/b."
        )
    runs = [read(folder) for folder in folders]
    out = Path(options.get("out") or runs[-1].path / kind).expanduser().absolute()
    return _concluded(runs, out, kind)


def _concluded(runs: Sequence[Run], out: Path, kind: str) -> int:
    """Write the page over several runs, say what it concludes, and return the exit code."""
    from reports.pages import history

    if kind == "compare":
        path, conclusion = history.write_compare(runs[0], runs[1], out)
        code = EXIT_UNDECIDED if conclusion.nothing_judged else 0
    else:
        path, conclusion = history.write_history(runs, out)
        code = conclusion.exit_code
    for word, lines in (("worse", conclusion.worse), ("cannot tell", conclusion.undecided)):
        for line in lines:
            print(f"{word}: {line}", file=sys.stderr)
    print(path)
    return code


def _from_mlflow(options: dict[str, str]) -> int:
    from dataclasses import replace

    from reports.pages.assemble import write
    from reports.read import mlflow_source
    from reports.read.frames import read

    experiment = options["mlflow.experiment"]
    run_names = [w.strip() for w in options.get("mlflow.runs", "").strip("[]").split(",") if w.strip()]
    out = Path(options.get("out") or "report").expanduser().absolute()
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        fetched = mlflow_source.fetch(experiment, run_names, options.get("mlflow.uri"), Path(folder))
        runs = [
            replace(read(path), source=f"mlflow.experiment={experiment} mlflow.runs={run_id}")
            for run_id, path in fetched
        ]
        for one in runs:
            print(write(one, out if len(runs) == 1 else out / one.path.name, _seconds(options), _trust(options)))
        if len(runs) > 1:
            kind = "compare" if len(runs) == 2 else "history"
            return _concluded(runs, out / kind, kind)
    return 0


def _seconds(options: dict[str, str]) -> float:
    try:
        return max(0.0, float(options.get("episodes", 15)))
    except ValueError as error:
        raise UserError(
            f"episodes={options['episodes']!r}: give seconds, for example episodes=15, or 0 for none."
        ) from error


main = main_guard(run)

if __name__ == "__main__":
    main()
