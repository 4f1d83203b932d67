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
    given = parser.parse_args(arguments)
    root = Config(given.config_dir)
    dataset = build(plain(root.compose(given.overrides).dataset), "dataset")
    if not hasattr(dataset, "names") or not hasattr(dataset, "load"):
        raise UserError(
            f"dataset: {type(dataset).__name__} is no data set; give its file a line _target_: module.Class."
        )
    with Bar(f"reading {dataset.name}", len(dataset), Console(stderr=True)) as bar:
        found = examine(dataset, bar.advance)
    if given.json:
        print(json.dumps(found.record(), indent=2))
    else:
        show(found, Console(), None if given.all else _SHOWN)
    return 0 if found.healthy else cli.EXIT_FAILURES


def show(found: Checkup, console: Console, limit: int | None = _SHOWN) -> None:
    """Print the findings for a person; `limit`: problems shown of each kind, None for all."""
    note = f" ({found.note})" if found.note else ""
    table = Table(
        title=markup(f"{found.name}{note}"), title_justify="left", show_header=False, box=None, padding=(0, 2)
    )
    table.add_row("samples", f"{found.usable} usable of {found.selected}")
    table.add_row("height", _range(found.heights))
    table.add_row("width", _range(found.widths))
    table.add_row("objects by share of the image", markup("   ".join(f"{k}: {v}" for k, v in found.size_bins.items())))
    table.add_row("with ignored pixels", str(found.ignoring))
    if found.mask_values:
        values = ", ".join(f"{value} ({files})" for value, files in found.mask_values.items())
        table.add_row("mask values (files)", markup(values))
    table.add_row("digest", markup(found.digest))
    console.print(table)
    for kind in dict.fromkeys(kind for kind, _ in found.problems):
        messages = [message for k, message in found.problems if k == kind]
        console.print(f"[bold red]{len(messages)} x {markup(kind)}[/]")
        for message in messages[:limit]:
            console.print(f"  {markup(message)}", highlight=False, soft_wrap=True)
        if limit is not None and len(messages) > limit:
            console.print(f"  … {len(messages) - limit} more (--all)", highlight=False)
    for warning in found.warnings:
        console.print(f"[yellow]look at:[/] {markup(warning)}", highlight=False, soft_wrap=True)
    if found.healthy:
        console.print("[green]healthy:[/] every sample can be used.")
    elif found.expected_layout:
        console.print(f"Expected layout: {markup(found.expected_layout)}.", highlight=False, soft_wrap=True)


def _range(spread: tuple[int, int, int]) -> str:
    return f"{spread[0]} – {spread[2]} px, median {spread[1]}"


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
