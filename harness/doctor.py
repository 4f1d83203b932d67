"""`python -m harness.doctor dataset=… dataset.root=…`: examines a data set before hours are spent on it."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
import json
from collections.abc import Sequence

from rich.table import Table

from harness import cli
from harness.console import Console, markup
from harness.datasets.checkup import Checkup, examine
from harness.errors import UserError
from harness.planning.config import Config, build, plain
from harness.progress import Bar

HELP = """\
Examines a data set: counts, sizes, mask values, objects by size, missing pairs, masks that do not fit their image,
duplicates, empty masks, and the content digest that goes into every result.

  python -m harness.doctor dataset=grabcut dataset.root=DIR
  python -m harness.doctor dataset=folder dataset.root=DIR dataset.above=128
  python -m harness.doctor dataset=hqseg44k dataset.root=DIR --json
"""
_SHOWN = 10


def run(arguments: Sequence[str]) -> int:
    """The command; 0: every sample can be used, 1: some cannot, 2 (UserError): wrong settings or folder."""
    parser = cli.parser(
        "python -m harness.doctor", HELP, "exit codes: 0 healthy, 1 unusable samples, 2 a setting is wrong"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--all", action="store_true", help=f"list every problem, not only the first {_SHOWN} of a kind")
    options = parser.parse_args(arguments)
    root = Config(options.config_dir)
    dataset = build(plain(root.compose(options.overrides).dataset), "dataset")
    if not hasattr(dataset, "names") or not hasattr(dataset, "load"):
        raise UserError(
            f"dataset: {type(dataset).__name__} is no data set; give its file a line _target_: module.Class."
        )
    with Bar(f"reading {dataset.name}", len(dataset), Console(stderr=True)) as bar:
        checkup = examine(dataset, bar.advance)
    if options.json:
        print(json.dumps(checkup.record(), indent=2))
    else:
        show(checkup, Console(), None if options.all else _SHOWN)
    return 0 if checkup.healthy else cli.EXIT_FAILURES


def show(checkup: Checkup, console: Console, limit: int | None = _SHOWN) -> None:
    """Print the findings for a person; `limit`: problems shown of each kind, None for all."""
    note = f" ({checkup.note})" if checkup.note else ""
    table = Table(
        title=markup(f"{checkup.name}{note}"), title_justify="left", show_header=False, box=None, padding=(0, 2)
    )
    table.add_row("samples", f"{checkup.usable} usable of {checkup.selected}")
    table.add_row("height", _range(checkup.heights))
    table.add_row("width", _range(checkup.widths))
    bins = checkup.size_bins.items()
    table.add_row("objects by share of the image", markup("   ".join(f"{k}: {v}" for k, v in bins)))
    table.add_row("with ignored pixels", str(checkup.ignoring))
    if checkup.mask_values:
        values = ", ".join(f"{value} ({files})" for value, files in checkup.mask_values.items())
        table.add_row("mask values (files)", markup(values))
    table.add_row("digest", markup(checkup.digest))
    console.print(table)
    if checkup.published:
        console.print(f"  content: {markup(checkup.published)}", highlight=False, soft_wrap=True)
    for kind in dict.fromkeys(kind for kind, _ in checkup.problems):
        messages = [message for k, message in checkup.problems if k == kind]
        console.print(f"[bold red]{len(messages)} x {markup(kind)}[/]")
        for message in messages[:limit]:
            console.print(f"  {markup(message)}", highlight=False, soft_wrap=True)
        if limit is not None and len(messages) > limit:
            console.print(f"  … {len(messages) - limit} more (--all)", highlight=False)
    for warning in checkup.warnings:
        console.print(f"[yellow]look at:[/] {markup(warning)}", highlight=False, soft_wrap=True)
    if checkup.healthy:
        console.print("[green]healthy:[/] every sample can be used.")
    elif checkup.expected_layout:
        console.print(f"Expected layout: {markup(checkup.expected_layout)}.", highlight=False, soft_wrap=True)


def _range(spread: tuple[int, int, int]) -> str:
    return f"{spread[0]} – {spread[2]} px, median {spread[1]}"


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
