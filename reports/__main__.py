"""`python -m reports run=DIR [out=DIR]`: the report of a sweep's folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.cli import main_guard
from harness.errors import UserError, near_miss

HELP = """\
Makes tables, plots and one self-contained page of a finished (or unfinished) sweep.

  python -m reports run=runs/dha                       everything, into runs/dha/report
  python -m reports run=runs/dha out=DIR               everything, into DIR
  python -m reports run=runs/dha table=quality         one table on the screen (format=md|csv|tex)
"""
KEYS = ("run", "out", "table", "format")


def run(arguments: Sequence[str]) -> int:
    """The command; returns the exit code."""
    if not arguments or any(a in ("-h", "--help") for a in arguments):
        print(HELP, end="")
        return 0
    given = parse(arguments)
    if "run" not in given:
        raise UserError("which run? Give run=DIR, the out= folder of a sweep, for example run=runs/dha.")
    if "table" in given:
        sys.stdout.write(one_table(given["run"], given["table"], given.get("format", "md")))
        return 0
    from reports.assemble import build

    print(build(given["run"], given.get("out")))
    return 0


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments.

    Raises:
        UserError: an argument without `=`, or an unknown key.
    """
    given = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise UserError(
                f"cannot read {argument!r}: arguments look like key=value, for example run=runs/dha."
            )
        if key not in KEYS:
            raise UserError(f"unknown setting {key!r}. {near_miss(key, KEYS)}")
        given[key] = value
    return given


def one_table(path: str, name: str, form: str) -> str:
    """One table as text."""
    from reports import tables
    from reports.assemble import FORMATS
    from reports.frames import read

    if name not in tables.ALL:
        raise UserError(f"unknown table {name!r}. {near_miss(name, tables.ALL)}")
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}. {near_miss(form, FORMATS)}")
    return FORMATS[form](tables.ALL[name](read(path)))


main = main_guard(run)

if __name__ == "__main__":
    main()
