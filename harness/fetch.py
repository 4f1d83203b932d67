"""`python -m harness.fetch`: data sets and official weights, with digests, into one place that the sweep knows."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from harness import cli
from harness.console import Console, markup
from harness.errors import UserError, near_miss
from harness.fetching import install, listing, lockfile, places, room, transfer, verify
from harness.fetching import weights as checkpoints
from harness.fetching.manifests import Catalogue, Entry
from harness.planning.config import Config
from harness.progress import ByteBar

HELP = """\
Fetches public data sets and official weights, checks their digests, and puts them where `dataset=NAME` and
`variant.weights=official` find them: IS_BENCH_DATA, else the user's data folder.

  python -m harness.fetch list=true                          what there is, how large, which licence, what is here
  python -m harness.fetch data=grabcut,berkeley weights=sam_vit_b
  python -m harness.fetch all=reproduction:ritm              what a table needs (python -m harness.reproduce)
  python -m harness.fetch weights=hrsam from=FILE            a file that you downloaded by hand
  python -m harness.fetch verify=true                        is everything still as it was fetched?
"""
_LIST_COLUMNS = 118
EPILOG = """\
settings:
  data=NAME,…  weights=NAME,…  all=reproduction:NAME
  list=true            show everything, or the named   verify=true      compare what is here with its digests
  from=FILE[,FILE]     in the place of the network     again=true       fetch anew what is here
  lock=FILE            digests of first use; to commit (default is-bench.lock.yaml here, else in the data folder)
  timeout_s=30         give up an address that brings (next to) nothing for so long
  retries=3            further tries of an address that broke off     keep=true  keep archives after unpacking

exit codes: 0 done, 1 something could not be fetched or is not as it was, 2 a setting is wrong, 130 stopped
"""


@dataclass(frozen=True)
class Settings:
    """The command's settings, under their names on the command line."""

    data: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    all: str | None = None
    list: bool = False
    verify: bool = False
    sources: tuple[Path, ...] = ()
    lock: Path | None = None
    timeout_s: float = 30.0
    retries: int = 3
    keep: bool = False
    again: bool = False


def run(arguments: Sequence[str]) -> int:
    """The command; returns the exit code."""
    options = cli.parser("python -m harness.fetch", HELP, EPILOG, "data=grabcut").parse_args(arguments)
    settings = parse(options.overrides)
    root = Config(options.config_dir)
    catalogue = Catalogue(root.config_dir)
    lock = lockfile.LockFile(settings.lock or lockfile.default())
    entries = chosen(settings, catalogue, root)
    if settings.list:
        show(catalogue, Console(), entries or None)
        return 0
    console = Console(stderr=True)
    if settings.verify:
        return _verify(entries or _here(catalogue), lock, console)
    if not entries:
        raise UserError(
            "nothing to fetch: give data=NAME, weights=NAME or all=reproduction:NAME; list=true shows what there is."
        )
    return _fetch(entries, settings, lock, console, root, catalogue)


def parse(overrides: Sequence[str]) -> Settings:
    """Settings from `key=value`.

    Raises:
        UserError: an unknown key, or a value of another kind.
    """
    values: dict[str, Any] = {}
    allowed = ["from" if f.name == "sources" else f.name for f in fields(Settings)]
    for override in overrides:
        key, text = cli.setting(override, ", for example data=grabcut")
        if key not in allowed:
            raise UserError(f"unknown setting {key!r}. {near_miss(key, allowed)}")
        if key in ("data", "weights"):
            values[key] = (*values.get(key, ()), *(name for name in re.split(r"[,\s]+", text.strip("[]() ")) if name))
        elif key == "from":
            values["sources"] = _sources(text)
        elif key == "lock":
            values[key] = Path(text).expanduser().absolute()
        elif key == "all":
            values[key] = text
        elif key in ("timeout_s", "retries"):
            values[key] = _number(key, text)
        else:
            values[key] = _truth(key, text)
    settings = Settings(**values)
    if settings.sources and len(settings.data) + len(settings.weights) != 1:
        raise UserError("from=FILE: of which entry? Give exactly one data=NAME or weights=NAME.")
    return settings


def chosen(settings: Settings, catalogue: Catalogue, root: Config) -> list[Entry]:
    """The entries that a command names, each once.

    Raises:
        UserError: an unknown name, with the near miss.
    """
    names = [("data", name) for name in settings.data] + [("weights", name) for name in settings.weights]
    entries = [catalogue.get(kind, name) for kind, name in names]
    if settings.all is not None:
        kind, _, name = settings.all.partition(":")
        if kind != "reproduction" or not name:
            raise UserError(
                f"all={settings.all}: write all=reproduction:NAME ({', '.join(root.options('reproduction'))})."
            )
        from harness.reproducing import rows

        entries += rows.entries(rows.load(root, name), catalogue)
    return list({entry.key: entry for entry in entries}.values())


def _fetch(
    entries: Sequence[Entry],
    settings: Settings,
    lock: lockfile.LockFile,
    console: Console,
    root: Config,
    catalogue: Catalogue,
) -> int:
    way = install.Way(
        lock,
        transfer.Rules(settings.timeout_s, settings.retries),
        settings.keep,
        settings.again,
        settings.sources,
        lambda text: console.print(markup(text), highlight=False, soft_wrap=True),
        lambda title, total: _meter(title, total, console),
    )
    failed = 0
    for entry in entries:
        try:
            record = install.install(entry, way)
            setting = _setting(entry, catalogue)
            console.print(
                f"[green]ready:[/] {markup(entry.key)} in {markup(record.path)}; use it as {markup(setting)}",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
            if entry.licence or entry.licence_from:
                console.print(f"  licence: {markup(entry.licence or 'none stated')}", highlight=False, soft_wrap=True)
            if entry.kind == "data":
                failed += not _compare(entry, root, console)
        except room.NoRoom:
            raise
        except UserError as error:
            failed += 1
            console.print(f"[bold red]error:[/] {markup(str(error))}", highlight=False, soft_wrap=True)
    return cli.EXIT_FAILURES if failed else 0


def _compare(entry: Entry, root: Config, console: Console) -> bool:
    """Build the data set of that name, where there is one: its layout, and its digest beside the published one."""
    if entry.name not in root.options("dataset"):
        return True
    from harness.datasets.published import said_by_digest
    from harness.planning.config import build, plain

    dataset = build(
        plain(root.load("dataset", entry.name, {"root": f"{places.FETCHED}{entry.name}"})), f"dataset {entry.name!r}"
    )
    console.print(
        f"  {len(dataset)} samples; python -m harness.doctor dataset={markup(entry.name)} examines them",
        highlight=False,
        soft_wrap=True,
    )
    if entry.published is not None:
        console.print(f"  {markup(said_by_digest(dataset, entry))}", highlight=False, soft_wrap=True)
    return len(dataset) > 0


def _setting(entry: Entry, catalogue: Catalogue) -> str:
    if entry.kind == "data":
        return f"dataset={entry.name}"
    variants = catalogue.variants(entry)
    return f"variant={variants[0]} variant.weights=official" if variants else f"variant.weights=official:{entry.name}"


def _here(catalogue: Catalogue) -> list[Entry]:
    return [e for e in catalogue.entries.values() if places.installed(e.kind, e.name) is not None]


def _verify(entries: Sequence[Entry], lock: lockfile.LockFile, console: Console) -> int:
    if not entries:
        console.print(f"nothing was fetched into {markup(places.home())} yet.", highlight=False)
    wrong = 0
    for entry in entries:
        if places.installed(entry.kind, entry.name) is None:
            wrong += 1
            console.print(
                f"[bold red]not here:[/] {markup(entry.key)}: {markup(checkpoints.hint(entry))}",
                highlight=False,
                soft_wrap=True,
            )
            continue
        with _meter(entry.key, verify.size_of(entry.kind, entry.name), console) as progress:
            done = 0

            def advance(count: int, progress: transfer.Progress = progress) -> None:
                nonlocal done
                done += count
                progress(done, None)

            findings = verify.verify(entry, lock, advance)
        wrong += bool(findings)
        if not findings:
            console.print(f"[green]as fetched:[/] {markup(entry.key)}", highlight=False)
        for finding in findings[:10]:
            console.print(
                f"[bold red]{markup(entry.key)}:[/] {markup(finding.path)} {markup(finding.wrong)}",
                highlight=False,
                soft_wrap=True,
            )
        if findings:
            more = f" ({len(findings) - 10} more)" if len(findings) > 10 else ""
            again = f"{places.command(entry.kind, entry.name)} again=true"
            console.print(f"  fetch it anew{more}: {markup(again)}", highlight=False, soft_wrap=True)
    return cli.EXIT_FAILURES if wrong else 0


def show(catalogue: Catalogue, console: Console, entries: Sequence[Entry] | None = None) -> None:
    """The table of list=true: these entries, or everything that there is."""
    console = console if console.is_terminal else Console(width=_LIST_COLUMNS)
    shown = list(catalogue.entries.values() if entries is None else entries)
    for kind, title in (("data", "data sets (data=NAME)"), ("weights", "weights (weights=NAME)")):
        of_kind = sorted((entry for entry in shown if entry.kind == kind), key=lambda entry: entry.name)
        if not of_kind:
            continue
        table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1))
        for column in ("name", "what", "size", "digest", "licence", "state"):
            # A name is for copying, so it stays whole; long titles and licences take lines of their own.
            whole = column in ("name", "size")
            table.add_column(column, justify="right" if column == "size" else "left", overflow="fold", no_wrap=whole)
        for entry in of_kind:
            about = markup(entry.title) + (f" [dim]({markup(entry.note)})[/]" if entry.note else "")
            table.add_row(
                markup(entry.name),
                about,
                listing.size(entry),
                listing.digest(entry),
                markup(entry.licence or "not stated"),
                markup(listing.state(entry)),
            )
        console.print(table)
    console.print(f"in {markup(places.home())} ({places.VARIABLE}: elsewhere)", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _meter(title: str, total: int | None, console: Console) -> Iterator[transfer.Progress]:
    with ByteBar(title, total, console) as bar:
        yield bar.update


def _sources(text: str) -> tuple[Path, ...]:
    """`from=FILE,FILE`; a path that exists as it is written may have commas."""
    whole = Path(text).expanduser()
    if not text:
        raise UserError("from=: give the file that you downloaded.")
    return (
        (whole,)
        if whole.exists() or "," not in text
        else tuple(Path(one).expanduser() for one in text.split(",") if one)
    )


def _number(key: str, text: str) -> float | int:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if key == "retries" and value >= 0 and value == int(value):
        return int(value)
    if key == "timeout_s" and 0 < value < 1e6:
        return value
    allowed = "seconds greater than 0" if key == "timeout_s" else "a whole number from 0"
    raise UserError(f"{key}={text}: give {allowed}.")


def _truth(key: str, text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise UserError(f"{key}={text}: true or false.")


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
