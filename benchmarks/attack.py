"""Runs hostile inputs through the real commands and counts what happens.

    python benchmarks/attack.py                       every input of every kind (hours: each is a process)
    python benchmarks/attack.py kind=checkpoints      one kind of benchmarks/attacks/
    python benchmarks/attack.py every=40              one input of forty

Columns: tried; clear (exit code 2 and one line, or harmless); traceback (or another exit code, or no end);
executed (the payload's canary is there); lost (stored rows are gone). Exit code 1 unless the last three are 0.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import attacks as registry  # noqa: E402
from benchmarks.attacks import Attack  # noqa: E402

LIMIT_S = 300
COLUMNS = ("tried", "clear", "traceback", "executed", "lost")


def kinds() -> list[str]:
    """Names of the kinds: the modules of benchmarks/attacks."""
    return sorted(module.name for module in pkgutil.iter_modules(registry.__path__))


def run(attack: Attack) -> tuple[str, str]:
    """Run one; (column, what was printed last)."""
    before = {path: path.read_bytes() for path in attack.kept}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        ended = subprocess.run(
            [sys.executable, "-m", *attack.arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
        code, text = ended.returncode, ended.stderr
    except subprocess.TimeoutExpired:
        code, text = -1, f"no end after {LIMIT_S} s"
    last = (text.strip().splitlines() or [""])[-1][:300]
    if attack.canary.exists():
        shutil.rmtree(attack.canary, ignore_errors=True)
        attack.canary.unlink(missing_ok=True)
        return "executed", last
    if any(not path.exists() or not path.read_bytes().startswith(content) for path, content in before.items()):
        return "lost", last
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    clear = code == 2 and len(errors) == 1 and "Traceback" not in text
    return ("clear" if clear or (attack.harmless and code == 0) else "traceback"), f"exit code {code}: {last}"


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments choose, print the table; the exit code."""
    settings = dict(text.split("=", 1) for text in arguments)
    chosen = [settings["kind"]] if "kind" in settings else kinds()
    every = int(settings.get("every", 1))
    bad = 0
    print(f"{'kind':16s}" + "".join(f"{column:>11s}" for column in COLUMNS))
    for kind in chosen:
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(prefix="attack-") as folder:
            generated = importlib.import_module(f"benchmarks.attacks.{kind}").attacks(Path(folder))
            for index, attack in enumerate(generated):
                if index % every:
                    continue
                column, last = run(attack)
                counts.update(("tried", column))
                if column != "clear":
                    print(f"  {column}: {attack.name}: {last}", file=sys.stderr, flush=True)
        print(f"{kind:16s}" + "".join(f"{counts[column]:11d}" for column in COLUMNS), flush=True)
        bad += counts["tried"] - counts["clear"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
