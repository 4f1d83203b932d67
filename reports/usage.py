"""What `python -m reports COMMAND --help` prints: how a command is called, its settings, its exit codes."""

from __future__ import annotations

from collections.abc import Sequence

_REPOSITORY = "results=REPO   a repository of results (default reports/results)"
_WRONG = "2 a setting is wrong, 130 stopped"

PARTS = {
    "compare": (
        "runs/a runs/b [out=DIR]",
        "What changed between two runs: one page, paired on the samples that both have.",
        ("out=DIR   where the page goes (default: the folder compare/ in the second run, here runs/b/compare)",),
        f"0 done, {_WRONG}, 3 nothing could be judged",
    ),
    "history": (
        "runs/a runs/b runs/c [out=DIR]\n       python -m reports history results=REPO [machine=KIND] [out=DIR]",
        "Several runs over time: did the last one get worse? With results=REPO: levels and change points over commits.",
        (
            "out=DIR        where it goes (default: history/ in the last run; of a repository: printed)",
            _REPOSITORY,
            "machine=KIND   entries of this kind of machine (default all)",
        ),
        f"0 everything was judged and nothing got worse, 1 something got worse, {_WRONG}, 3 some undecided",
    ),
    "submit": (
        "[run=DIR] to=REPO",
        "Checks a run and puts it into a repository of results; without run=: checks every entry of the repository.",
        ("run=DIR   folder of a finished sweep", "to=REPO   folder of the repository"),
        "0 taken (or all entries hold), 2 refused, or a setting is wrong, 130 stopped",
    ),
    "verify": (
        "run=DIR in=REPO",
        "A rerun of somebody else's entries: marks those that it bears out.",
        ("run=DIR   folder of your rerun", "in=REPO   folder of the repository"),
        f"0 all are borne out, 1 one is not, {_WRONG}",
    ),
    "board": (
        "[results=REPO] out=SITE",
        "A static site of a repository: every system, data set and machine, with the rows to download.",
        (_REPOSITORY, "out=SITE       folder of the site"),
        f"0 done, 1 an entry was left out, {_WRONG}",
    ),
    "docs": (
        "[check=true] [root=DIR] [results=REPO]",
        "Writes the tables between the marks of the documents from the stored rows.",
        (
            "check=true     change nothing; say which differ",
            "root=DIR       folder of the documents (default .)",
            _REPOSITORY,
        ),
        "0 done, 2 a document differs (check=true) or a setting is wrong, 130 stopped",
    ),
    "gate": (
        "base=A head=B",
        "For CI: did B get worse than A? Both are runs, or repositories.",
        ("base=A   before", "head=B   after"),
        f"0 everything was judged and nothing got worse, 1 something got worse, {_WRONG}, 3 some undecided",
    ),
    "export": (
        "[results=REPO] out=DIR [form=FORM] [system=NAME] [dataset=NAME]",
        "Writes a repository's results for others.",
        (
            _REPOSITORY,
            "out=DIR        where the files go",
            "form=FORM      model-index, pwc, bibtex, latex, or all (default)",
            "system=NAME    dataset=NAME   only these (default all)",
        ),
        f"0 done, {_WRONG}",
    ),
}
"""Command -> its arguments, what it does, its settings, its exit codes."""


def of(arguments: Sequence[str]) -> str | None:
    """The help of the command that stands first among the arguments; None: none does."""
    named = [argument for argument in arguments if argument in PARTS]
    if not named:
        return None
    call, what, settings, codes = PARTS[named[0]]
    listed = "".join(f"  {line}\n" for line in settings)
    return f"usage: python -m reports {named[0]} {call}\n\n{what}\n\nsettings:\n{listed}\nexit codes: {codes}\n"
