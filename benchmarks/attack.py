"""Runs hostile inputs through the real commands and counts what happens.

    python benchmarks/attack.py                       every input of every kind, once each (minutes for each kind)
    python benchmarks/attack.py kind=checkpoints      one kind of benchmarks/attacks/
    python benchmarks/attack.py full=true             every input in every place: each file to each system (hours)
    python benchmarks/attack.py record=FILE           outcomes go to FILE as lines of JSON; again, it goes on from there
    python benchmarks/attack.py every=40              one input of forty
    python benchmarks/attack.py warm=false            every command in a process that imports everything anew

Columns: tried; clear (exit code 2 and one line, or what the attack calls clear: a failure that failures.csv names, no
harm at all); traceback (or another exit code, no end, a failure that nothing names); executed (the payload's canary is
there); lost (stored rows are gone, or rows of good variants and samples are missing). Exit code 1 unless the last
three are 0.
"""

from __future__ import annotations

import glob
import importlib
import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import _warm  # noqa: E402
from benchmarks import attacks as registry  # noqa: E402
from benchmarks.attacks import Attack  # noqa: E402

LIMIT_S = 300
COLUMNS = ("tried", "clear", "traceback", "executed", "lost")


def kinds() -> list[str]:
    """Names of the kinds: the modules of benchmarks/attacks."""
    return sorted(m.name for m in pkgutil.iter_modules(registry.__path__) if not m.name.startswith("_"))


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (None: it had to be ended) and what it wrote to standard error."""

    code: int | None
    text: str


def start(attack: Attack) -> Ended:
    """Give the command to a fork where the attack is on what a command reads, else to a process of its own."""
    if not attack.warm:
        return spawn(attack)
    return Ended(*_warm.run(attack.arguments, ROOT, LIMIT_S))


def spawn(attack: Attack) -> Ended:
    """Give the command to a process of its own, again where it died and may be repeated."""
    texts = []
    for _ in range(attack.repeats + 1):
        ended = _spawn_once(attack)
        texts.append(ended.text)
        if ended.code is None or (ended.code >= 0 and ended.code not in attack.dies):
            break
    return Ended(ended.code, "\n".join(texts))


def _spawn_once(attack: Attack) -> Ended:
    environment: dict[str, str | None] = {**os.environ, **attack.environment}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", *attack.arguments],
        cwd=ROOT,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        if attack.interrupt_after_s is not None:
            time.sleep(attack.interrupt_after_s)
            process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=LIMIT_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return Ended(None, process.communicate()[1] + f"\nno end after {LIMIT_S} s")
    return Ended(process.returncode, text)


def verdict(attack: Attack, ended: Ended, before: Mapping[Path, list[bytes]]) -> tuple[str, str]:
    """(column, why).

    Args:
        before: lines of the kept files before the command ran, see `lines`.
    """
    last = (ended.text.strip().splitlines() or [""])[-1][:300]
    if attack.canary.exists():
        shutil.rmtree(attack.canary, ignore_errors=True)
        attack.canary.unlink(missing_ok=True)
        return "executed", last
    for path, contents in before.items():
        gone = [line for line in contents if line not in lines(path)]
        if gone:
            return "lost", f"{path.name}: {len(gone)} lines, first {gone[0][:80]!r}; {last}"
    errors = [line for line in ended.text.splitlines() if line.startswith("error:")]
    clear = (
        (ended.code == 2 and len(errors) == 1)
        or (ended.code == 0 and attack.harmless)
        or (ended.code == 1 and attack.failed_rows)
        or (ended.code == 130 and attack.interrupt_after_s is not None)
    )
    if not clear or "Traceback" in ended.text:
        return "traceback", f"exit code {ended.code}: {last}"
    for column, ask in (("lost", attack.missing), ("traceback", attack.unsaid)):
        if ask is not None and (why := ask()):
            return column, why
    return "clear", f"exit code {ended.code}: {last}"


def lines(path: Path) -> list[bytes]:
    """Whole lines of a file and of those beside it whose names are longer (`NAME.damaged`); the torn last ones not."""
    files = [path, *path.parent.glob(f"{glob.escape(path.name)}.*")]
    return [line for file in files if file.is_file() for line in file.read_bytes().split(b"\n")[:-1]]


def run(attack: Attack, how: Callable[[Attack], Ended] = spawn) -> tuple[str, str]:
    """Run one; (column, what was printed last or is wrong)."""
    before = {path: lines(path) for path in attack.kept}
    return verdict(attack, how(attack), before)


class Record:
    """Outcomes of attacks on disk, so that a run that was ended goes on where it was.

    Args:
        path: lines of JSON, [kind, name, column, why]; None: nothing is kept.
        how: what runs an attack's command.
    """

    def __init__(self, path: Path | None, how: Callable[[Attack], Ended]):
        self._path, self._how = path, how
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        if path is not None and path.exists():
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            path.write_text("".join(whole))  # a torn last line would join the next one
            for kind, name, column, why in map(json.loads, whole):
                self._known[kind, name] = column, why

    def outcome(self, kind: str, attack: Attack) -> tuple[str, str]:
        """(column, why) of an attack, which is run where it is not known."""
        known = self._known.get((kind, attack.name))
        if known is not None:
            return known
        column, why = run(attack, self._how)
        if self._path is not None:
            with open(self._path, "a") as file:
                file.write(json.dumps([kind, attack.name, column, why]) + "\n")
        return column, why


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments choose, print the table; the exit code."""
    settings = dict(text.split("=", 1) for text in arguments)
    chosen = [settings["kind"]] if "kind" in settings else kinds()
    every, full = int(settings.get("every", 1)), settings.get("full") == "true"
    how = spawn if settings.get("warm") == "false" else start
    record = Record(Path(settings["record"]) if "record" in settings else None, how)
    bad = 0
    print(f"{'kind':16s}" + "".join(f"{column:>11s}" for column in COLUMNS))
    for kind in chosen:
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(prefix="attack-") as folder:
            generated = importlib.import_module(f"benchmarks.attacks.{kind}").attacks(Path(folder))
            for index, attack in enumerate(item for item in generated if full or not item.again):
                if index % every:
                    continue
                column, last = record.outcome(kind, attack)
                counts["tried"] += attack.inputs
                counts[column] += attack.inputs
                if column != "clear":
                    print(f"  {column}: {attack.name}: {last}", file=sys.stderr, flush=True)
        print(f"{kind:16s}" + "".join(f"{counts[column]:11d}" for column in COLUMNS), flush=True)
        bad += counts["tried"] - counts["clear"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
