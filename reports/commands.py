"""The commands over a repository of results: what each takes, and where its work is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli import EXIT_FAILURES, EXIT_USER_ERROR, note, setting
from harness.errors import UserError, near_miss

OWN = "reports/results"
"""The project's own repository, in a checkout."""


@dataclass(frozen=True)
class Command:
    """A command's settings with their defaults ("": must be given), and its function."""

    settings: Mapping[str, str]
    run: Callable[[dict[str, str]], int]

    def __call__(self, arguments: Sequence[str]) -> int:
        """Read `key=value` arguments and run.

        Raises:
            UserError: a setting is unknown, missing or wrong.
        """
        options = dict(self.settings)
        for argument in arguments:
            key, value = setting(argument, f"; here: {self._named()}")
            if key not in options:
                raise UserError(f"unknown setting {key!r}. {near_miss(key, options)}")
            options[key] = value
        missing = [key for key, value in options.items() if value == ""]
        if missing:
            raise UserError(f"{missing[0]}=… is missing; settings: {self._named()}.")
        return self.run(options)

    def _named(self) -> str:
        return ", ".join(f"{key}={value or '…'}" for key, value in self.settings.items())


def _submit(options: dict[str, str]) -> int:
    from reports.repository import submit

    if options["run"] == "none":
        return _check(options["to"])
    print("\n".join(submit.lines(submit.submit(options["run"], options["to"]), options["to"])))
    return 0


def _check(path: str) -> int:
    """`submit to=REPO` without a run: every entry that is there, as a repository's own CI wants it."""
    from reports.repository import store

    repository = store.read(path)
    for line in repository.refused:
        print(f"refused: {line}", file=sys.stderr)
    print(f"{len(repository.stored)} entries hold, {len(repository.refused)} are refused.")
    return EXIT_USER_ERROR if repository.refused else 0


def _verify(options: dict[str, str]) -> int:
    from reports.repository.verify import verify

    results = verify(options["run"], options["in"])
    for stored, record, text in results:
        print(f"{'verified' if record else 'not verified'}: {stored.entry.path}: {text}")
    return 0 if all(record for _, record, _ in results) else EXIT_FAILURES


def _board(options: dict[str, str]) -> int:
    from reports.board.site import build

    page, refused = build(options["results"], options["out"])
    for line in refused:
        note(f"left out: {line}")
    print(page)
    return EXIT_FAILURES if refused else 0


def _docs(options: dict[str, str]) -> int:
    from reports.documents.write import update

    check = _yes("check", options["check"])
    changed = update(Path(options["root"]), options["results"], check)
    for line in changed:
        print(line, file=sys.stderr if check else sys.stdout)
    if check and changed:
        raise UserError("documents differ from the stored rows; python -m reports docs writes them anew.")
    print("documents are as the stored rows say" if not changed else f"{len(changed)} parts written")
    return 0


def _gate(options: dict[str, str]) -> int:
    from reports.trend.gate import gate

    verdict = gate(options["base"], options["head"])
    for word, lines in (("worse", verdict.worse), ("cannot tell", verdict.undecided)):
        for line in lines:
            print(f"{word}: {line}")
    print(f"{verdict.judged} comparisons of the primary metric were judged; exit code {verdict.exit_code}")
    return verdict.exit_code


def _export(options: dict[str, str]) -> int:
    from reports.export.write import export

    for path in export(options["results"], options["form"], options["out"], options["system"], options["dataset"]):
        print(path)
    return 0


def repository_history(options: dict[str, str]) -> int:
    """`reports history results=REPO`: change points over every commit of the repository."""
    from reports.repository import store
    from reports.repository.as_runs import as_run, current
    from reports.tables.table import to_markdown
    from reports.trend import series

    repository = store.read(options["results"])
    for line in repository.refused:
        note(f"left out: {line}")
    ordered = sorted(current(repository.stored), key=lambda s: s.entry.at)
    kept = [s for s in ordered if options["machine"] in ("all", s.entry.machine.kind)]
    if not kept:
        kinds = sorted({s.entry.machine.kind for s in ordered})
        raise UserError(f"machine={options['machine']}: no entry. {near_miss(options['machine'], kinds)}")
    several = series.of_runs([as_run([one], one.entry.id) for one in kept])
    table = series.table(several)
    text = to_markdown(table) if several else "No system has two results under equal conditions yet.\n"
    if options["out"] != "none":
        out = Path(options["out"]).expanduser()
        out.mkdir(parents=True, exist_ok=True)
        (out / "history.md").write_text(text, encoding="utf-8")
        print(out / "history.md")
    else:
        sys.stdout.write(text)
    return series.exit_code(several)


def _yes(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise UserError(f"{key}={value!r}: true or false.")
    return value.lower() == "true"


COMMANDS: Mapping[str, Command] = {
    "submit": Command({"run": "none", "to": ""}, _submit),
    "verify": Command({"run": "", "in": ""}, _verify),
    "board": Command({"results": OWN, "out": ""}, _board),
    "docs": Command({"check": "false", "root": ".", "results": OWN}, _docs),
    "gate": Command({"base": "", "head": ""}, _gate),
    "export": Command({"results": OWN, "form": "all", "out": "", "system": "all", "dataset": "all"}, _export),
    "history": Command({"results": OWN, "machine": "all", "out": "none"}, repository_history),
}
"""`history` is here for `results=…`; with folders of runs it is in `__main__`."""
