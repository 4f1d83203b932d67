"""`python -m harness.sync run=DIR`: deliver sweeps to MLflow that could not be delivered when they ran."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
from collections.abc import Sequence
from pathlib import Path

from harness import cli
from harness.console import Console, markup
from harness.errors import UserError, near_miss
from harness.planning.addresses import without_secrets

_KEYS = ("run", "uri", "experiment", "timeout_s")
_HELP = """\
Delivers the folder of a sweep to MLflow. Delivering again changes nothing, and completes what was cut off.

  python -m harness.sync run=runs/dha
  python -m harness.sync run=runs/dha uri=http://localhost:5000 experiment=my-experiment
  python -m harness.sync run=runs/dha uri=http://slow.example:5000 timeout_s=3600
"""
_EPILOG = """\
settings:
  run=DIR           folder of the sweep (out= of its command)
  uri=URI           where to; default $MLFLOW_TRACKING_URI, else SQLite beside the folder
  experiment=NAME   default interactive-segmentation
  timeout_s=N       seconds for all of it (default 300); the next delivery goes on

exit codes: 0 delivered, 2 a setting is wrong or the server could not be reached, 130 stopped
"""


def run(arguments: Sequence[str]) -> int:
    """The command; returns the exit code."""
    options = cli.parser("python -m harness.sync", _HELP, _EPILOG, "run=runs/dha", own_folder=False).parse_args(
        arguments
    )
    settings = _settings(options.overrides)
    if "run" not in settings:
        raise UserError("which sweep? Give its folder: python -m harness.sync run=DIR")
    from harness.results import mlflow as tracking

    out = Path(settings["run"]).expanduser().absolute()
    try:
        uri = tracking.deliver(out, settings)
    except UserError:
        raise
    except Exception as error:
        where = tracking.tracking_uri(out, settings)
        raise UserError(
            f"cannot deliver to {without_secrets(where)}: {without_secrets(' '.join(str(error).split()))[:300]}. "
            "Nothing is lost; try again."
        ) from error
    Console().print(f"delivered {markup(out)} to {markup(uri)}", highlight=False)
    return 0


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    settings = {}
    for item in overrides:
        key, _, value = item.partition("=")
        if key not in _KEYS:
            raise UserError(f"unknown setting {key!r}. {near_miss(key, _KEYS)}")
        settings[key] = value
    return settings


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
