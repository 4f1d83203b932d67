"""Ctrl-C before a command has begun: one line and exit code 130, also while Python still imports.

The first thing that this package does. So it imports only what Python itself has imported by then.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

_PACKAGES = ("harness", "reports")


def is_command() -> bool:
    """Whether this process runs one of the project's commands, not a notebook or a program that imports it."""
    if os.path.basename(sys.argv[0] if sys.argv else "").startswith("is-"):
        return True
    module: str = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "") or ""
    if sys.argv[:1] == ["-m"]:  # Python still looks for the module
        module = _module(sys.orig_argv)
    return module.partition(".")[0] in _PACKAGES


def _module(arguments: list[str]) -> str:
    """What follows Python's `-m`."""
    for number, argument in enumerate(arguments[1:], 1):
        if argument.startswith("-m"):
            return argument[2:] or "".join(arguments[number + 1 : number + 2])
    return ""


def end_quietly() -> None:
    """Let an interrupt that nobody handles end the process with one line; again, it changes nothing."""
    before = sys.excepthook
    if getattr(before, "ends_quietly", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("stopped.", file=sys.stderr, flush=True)
            os._exit(130)
        before(kind, error, trace)

    hook.ends_quietly = True  # type: ignore[attr-defined]
    sys.excepthook = hook


if is_command():
    end_quietly()
