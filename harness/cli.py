"""What every command shares: argument splitting, and errors as one line with an exit code."""

from __future__ import annotations

import argparse
import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.console import Console, markup
from harness.errors import UserError

EXIT_FAILURES = 1
EXIT_USER_ERROR = 2
EXIT_UNDECIDED = 3
"""`reports compare` and `history`: nothing was compared, or too few samples differ to tell."""
EXIT_INTERRUPTED = 130

errors = Console(stderr=True, soft_wrap=True)


def main_guard(command: Callable[[Sequence[str]], int]) -> Callable[[], None]:
    """Turn a function of the arguments into a `main()` that exits as a user expects.

    0: done; 1: done, but something failed; 2: the user can fix it, one line says how; 130: stopped by the user.
    """

    @functools.wraps(command)
    def main() -> None:
        try:
            code = command(sys.argv[1:])
        except UserError as error:
            errors.print(f"[bold red]error:[/] {markup(str(error))}", highlight=False)
            code = EXIT_USER_ERROR
        except KeyboardInterrupt:
            errors.print("[yellow]stopped.[/] Everything finished so far is on disk; repeat the command to go on.")
            code = EXIT_INTERRUPTED
        except BrokenPipeError:
            code = 0
        sys.exit(code)

    return main


@contextlib.contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """SIGTERM (a batch system's time limit) ends a command as Ctrl-C does: what is finished is kept."""

    def stop(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Parser(argparse.ArgumentParser):
    """Options may stand before, between and after the settings."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual, with settings and options in any order."""
        return self.parse_intermixed_args(args, namespace)


def parser(
    prog: str,
    description: str,
    epilog: str = "",
    example: str = "dataset.limit=5",
    metavar: str = "key=value",
    own_folder: bool = True,
) -> argparse.ArgumentParser:
    """A parser for `--config-dir DIR key=value …`; the help text is kept as it is written.

    Args:
        example: a setting that the command takes, or a sentence about `metavar`.
        metavar: how the arguments are called in the line of usage.
        own_folder: whether the command reads a folder of the user's own (`--config-dir`).
    """
    argument_parser = _Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = f"settings, for example {example}" if metavar == "key=value" else example
    argument_parser.add_argument("overrides", nargs="*", metavar=metavar, help=text)
    if own_folder:
        argument_parser.add_argument(
            "--config-dir",
            metavar="DIR",
            help="folder of your own with variant/, dataset/, ablation/ YAML files and the modules that they name",
        )
    return argument_parser


def setting(text: str, hint: str) -> tuple[str, str]:
    """Key and value of a `key=value` argument; `hint` ends the message for anything else.

    Raises:
        UserError: no `=` in it.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"cannot read {text!r}: settings look like key=value{hint}.")
    return key, value


def note(text: str) -> None:
    """Say something on standard error that the user should know, and go on."""
    errors.print(f"[yellow]note:[/] {markup(text)}", highlight=False)
