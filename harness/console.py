"""Text on a terminal: the one place that knows rich's markup."""

from __future__ import annotations

import os
import re
from typing import Any

import rich.console

from harness.planning.environment import hide
from harness.text import visible

_NOTHING = "[none][/none]"
"""Marks around no text."""


class Console(rich.console.Console):
    """rich's console, for which `:warning:` in a name is no picture."""

    def __init__(self, **options: Any):
        super().__init__(**{"emoji": False, **options})


def markup(text: str | os.PathLike[str]) -> str:
    r"""Any text on one line so that it means itself wherever it stands in rich's markup; secrets are left out.

    `rich.markup.escape` looks at its text alone: `[b` of one name and `x]` of the next become a tag, and a backslash at
    the end is doubled or escapes what follows. Here no bracket can begin a tag, and no backslash stands before one.

    >>> from rich.text import Text
    >>> str(Text.from_markup(markup("[/b]") + "[bold]" + markup("[x") + "[/]" + markup("y]")))
    '[/b][xy]'
    """
    shown = visible(hide(os.fspath(text)))
    return re.sub(r"(?P<bars>\\*)(?P<end>\[|$)", _apart, shown)


def _apart(match: re.Match[str]) -> str:
    bars = match["bars"] * 2 + _NOTHING if match["bars"] else ""
    return bars + (f"[{_NOTHING}" if match["end"] else "")


def standard_output() -> Console:
    """Standard output; wide enough for the summary where it goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=150)
