"""Every packaged system clicks through 10 GrabCut images with random weights: sweep, FLOPs, a latency child, processes.

    python benchmarks/every_system.py root=DIR out=DIR            small network inputs where a system has a size
    python benchmarks/every_system.py root=DIR out=DIR full=true  as configured; hours, and up to 8 GB at once
    python benchmarks/every_system.py root=DIR out=DIR names=mobilesam,sam_vit_h

Each system is one `harness.sweep` with `executor.name=processes` and two clicks an image. What has passed is remembered
in out/every_system.jsonl and not done again; exit code 1 if a sample, a count or a timing failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from harness import cards

SIZES = {1024: 256, 448: 224}
"""Side of the network's input as configured -> a small one that still divides into patches and windows."""
IMAGES, CLICKS = 10, 2
SETTINGS = (
    f"dataset=grabcut dataset.limit={IMAGES} protocol.clicks={CLICKS} executor.name=processes executor.chunks=2 "
    "measure=quick measure.samples=1 measure.later_clicks=1 measure.encodes=1 measure.budget_s=1 measure.min_repeats=1 "
    "measure.max_repeats=1 measure.warmup_s=0.1 measure.threads=[1] measure.resolutions=[256] measure.machine=none "
    "measure.timeout_s=1800 tracking.enabled=false report=false code=redo"
).split()


@dataclass(frozen=True)
class Outcome:
    """What became of one system.

    Attributes:
        variant: its name.
        size: side of its input; None: as configured.
        fault: what failed, or "".
        seconds: of the whole command.
        peak_mb: largest resident memory of one of its processes, in 1e6 bytes.
    """

    variant: str
    size: int | None
    fault: str
    seconds: float
    peak_mb: float


def click_through(variant: str, root: Path, out: Path, size: int | None) -> Outcome:
    """Run one system in a command of its own and read what it left on disk."""
    folder = out / f"{variant}-{size or 'full'}"
    sized = [f"variant.size={size}"] if size else []
    command = [sys.executable, "-m", "harness.sweep", f"variant={variant}", *sized, f"dataset.root={root}", *SETTINGS]
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with (folder / "console.log").open("w") as log:
        process = subprocess.Popen([*command, f"out={folder}"], stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)  # of it and of all that it has waited for
    fault = failed(folder, os.waitstatus_to_exitcode(status))
    return Outcome(variant, size, fault, round(time.monotonic() - begin, 1), round(usage.ru_maxrss * 1024 / 1e6))


def failed(folder: Path, code: int) -> str:
    """What is missing or failed in a sweep's folder, or ""."""
    if code:
        lines = (folder / "console.log").read_text().strip().splitlines()
        return f"exit code {code}: {lines[-1] if lines else ''}"
    clicks = pd.read_parquet(folder / "clicks.parquet")
    per_sample = clicks[clicks["error"].fillna("") == ""].groupby("sample")["click"].max()
    if len(per_sample) != IMAGES or int(per_sample.min()) != CLICKS:
        return f"{len(per_sample)} of {IMAGES} images with {CLICKS} clicks"
    for name in ("flops", "latency"):
        errors = pd.read_csv(folder / f"{name}.csv", dtype={"error": str})["error"].fillna("")
        wrong = errors[~errors.str.contains("^$|do not apply")]
        if len(wrong):
            return f"{name}: {wrong.iloc[0]}"
    return ""


def main(arguments: list[str]) -> int:
    """Go through the systems that are not yet done; the exit code."""
    options = dict(argument.split("=", 1) for argument in arguments)
    root, out = Path(options["root"]).resolve(), Path(options["out"]).resolve()
    names = options["names"].split(",") if "names" in options else sorted(cards.load())
    out.mkdir(parents=True, exist_ok=True)
    record = out / "every_system.jsonl"
    lines = record.read_text().splitlines() if record.exists() else []
    done = {(entry["variant"], entry["size"]): entry["fault"] for entry in map(json.loads, lines)}
    faults = 0
    for name in names:
        configured = cards.load()[name].settings.get("size")
        size = None if options.get("full") == "true" else SIZES.get(configured)
        if done.get((name, size)) == "":
            continue
        outcome = click_through(name, root, out, size)
        faults += bool(outcome.fault)
        with record.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        state = outcome.fault or "passed"
        print(
            f"{name:28s} {size or 'full':>5}  {outcome.seconds:7.1f} s  {outcome.peak_mb:6.0f} MB  {state}", flush=True
        )
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
