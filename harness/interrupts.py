"""Ctrl-C before a command has begun: one line and exit code 130, also while Python still imports.

The first thing that this package does. So it imports only what Python itself has imported by then.
"""

from __future__ import annotations

import os
import sys
from types import FrameType, TracebackType

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
    """Let an interrupt that nobody handles end the process with one line; again, it changes nothing.

    Modules written in C may turn the interrupt into an error of their own (`numpy` into an ImportError), so it is noted
    when it comes, and whatever then ends the process is its consequence.
    """
    before = sys.excepthook
    if getattr(before, "ends_quietly", False):
        return
    came: list[int] = []

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if came or issubclass(kind, KeyboardInterrupt):
            print("stopped.", file=sys.stderr, flush=True)
            os._exit(130)
        before(kind, error, trace)

    hook.ends_quietly = True  # type: ignore[attr-defined]
    sys.excepthook = hook
    import signal  # not before the hook is there

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.default_int_handler(number, frame)

    # Not where somebody ignores it (nohup) or handles it already.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        try:
            signal.signal(signal.SIGINT, note)
        except ValueError:  # only the first thread may set a handler
            return


if is_command():
    end_quietly()
