"""`python -m harness.convert FILE`: a torch file's tensors as safetensors, read in a process that can do no harm."""

from __future__ import annotations

from harness import surroundings  # noqa: F401  (first: it puts right what this process inherited)

# isort: split
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import cli
from harness.console import Console, markup
from harness.errors import UserError

_CHILD = "inter2former.weightfiles.convert"
_LIMIT_S = 1800
_HELP = """\
Writes the tensors of a .pth, .pt or .bin file as .safetensors and says what it left out. The file is read in a
process of its own without network, other programs or files to write; nothing that it names is called.

  python -m harness.convert sam_vit_b.pth                         writes sam_vit_b.safetensors beside it
  python -m harness.convert downloads/last.pth out=weights.safetensors
"""
_EPILOG = """\
settings:
  out=FILE.safetensors   where to; it must not exist (default: FILE with .safetensors, beside it)

exit codes: 0 written, 2 a setting is wrong or the file cannot be read, 130 stopped
"""
_ARGUMENT = ("the file to read, and out=FILE.safetensors", "FILE")


def run(arguments: Sequence[str]) -> int:
    """The command; returns the exit code."""
    options = cli.parser("python -m harness.convert", _HELP, _EPILOG, *_ARGUMENT, own_folder=False).parse_args(
        arguments
    )
    targets = [text.removeprefix("out=") for text in options.overrides if text.startswith("out=")]
    sources = [text for text in options.overrides if not text.startswith("out=")]
    if len(sources) != 1 or len(targets) > 1:
        raise UserError("which file? Give one: python -m harness.convert FILE [out=FILE.safetensors]")
    source = Path(sources[0]).expanduser().absolute()
    target = Path(targets[0]).expanduser().absolute() if targets else source.with_suffix(".safetensors")
    if target.suffix != ".safetensors":
        raise UserError(f"out={targets[0]}: name it *.safetensors.")
    if os.path.lexists(target):
        raise UserError(f"{target} exists already; give another name: out=FILE.safetensors")
    if not target.parent.is_dir():
        raise UserError(f"out={target}: no folder {target.parent}.")
    report = _convert(source, target)
    console = Console(stderr=True, soft_wrap=True)
    console.print(markup(f"{target}: {report['tensors']} tensors, bit by bit as in {source}"), highlight=False)
    console.print(markup(f"left out: {', '.join(report['dropped']) or 'nothing'}"), highlight=False)
    if report["hostile"]:
        names = ", ".join(report["hostile"])
        console.print(
            f"warning: the file asks for {markup(names)} to be called, as attacks do; nothing was called. "
            "Trust its numbers no more than whoever made it.",
            highlight=False,
        )
    console.print(markup(f"the process that read it had: {'; '.join(report['confined'])}"), highlight=False)
    return 0


def _convert(source: Path, target: Path) -> dict[str, Any]:
    """Let the child write beside the target, and rename; its report."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    # Nothing of the user's environment that could hold a token.
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "TMPDIR")
    environment = {key: os.environ[key] for key in kept if key in os.environ} | {"OMP_NUM_THREADS": "1"}
    try:
        ended = subprocess.run(
            [sys.executable, "-m", _CHILD, str(source), str(partial)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
        report = _report(ended, source)
        os.replace(partial, target)
        return report
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{source}: not read within {_LIMIT_S // 60} minutes, which no weight file needs.") from error
    finally:
        partial.unlink(missing_ok=True)


def _report(ended: subprocess.CompletedProcess[str], source: Path) -> dict[str, Any]:
    try:
        report = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        report = {}
    if ended.returncode == 0 and "tensors" in report:
        return dict(report)
    cause = report.get("error")
    if cause is None and ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        cause = f"the process that read it was ended by {name}: it took more time or memory than a weight file may"
    if cause is None:
        lines = ended.stderr.strip().splitlines() or ["no message"]
        cause = f"the process that read it failed ({lines[-1][:200]})"
    raise UserError(f"{source}: {cause}")


main = cli.main_guard(run)

if __name__ == "__main__":
    main()
