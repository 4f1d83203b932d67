"""What the kinds share: toy sweeps that take seconds, and what their folders must show afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
USER_FOLDER = ROOT / "tests" / "harness" / "user_folder"
QUIET = ("measure=none", "report=false", "tracking.enabled=false", "protocol.clicks=2", "threads=1")
COLUMNS = ["variant", "sample", "click", "y", "x", "positive", "iou", "biou"]
"""Those columns of clicks.parquet that do not depend on the machine's speed."""


def sweep(folder: Path, out: Path, *settings: str) -> tuple[str, ...]:
    """Arguments of a quiet sweep with the configuration folder `folder` into `out`."""
    return ("harness.sweep", "--config-dir", str(folder), f"out={out}", *QUIET, *settings)


def seed(arguments: Iterable[str]) -> None:
    """Run a command that must succeed.

    Raises:
        RuntimeError: it did not; with what it wrote.
    """
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"a sweep without hostile input failed: {done.stderr}")


def rows(out: Path) -> pd.DataFrame:
    """Deterministic columns of a sweep's rows, sorted."""
    return pd.read_parquet(out / "clicks.parquet")[COLUMNS].sort_values(COLUMNS[:3]).reset_index(drop=True)


def whole(out: Path, good: pd.DataFrame) -> Callable[[], str]:
    """A question for `Attack.missing`: are the rows of the good variants and samples as they are without the attack?"""

    def ask() -> str:
        if not (out / "clicks.parquet").exists():
            return "no clicks.parquet"
        keys = good[["variant", "sample"]].drop_duplicates()
        present = rows(out).merge(keys)[COLUMNS].sort_values(COLUMNS[:3]).reset_index(drop=True)
        return "" if present.equals(good) else f"{len(present)} of {len(good)} good rows, or others"

    return ask


def failed(out: Path, expected: Iterable[tuple[str, str]]) -> Callable[[], str]:
    """A question for `Attack.unsaid`: does failures.csv name exactly these (variant, sample), each in one line?"""

    def ask() -> str:
        frame = pd.read_csv(out / "failures.csv", keep_default_na=False, dtype=str)
        named = set(zip(frame["variant"], frame["sample"], strict=True))
        unsaid, vain = set(expected) - named, named - set(expected)
        odd = [error for error in frame["error"] if not error.strip() or "\n" in error]
        return f"failures.csv: not named {sorted(unsaid)[:5]}, in vain {sorted(vain)[:5]}, odd {odd[:2]}" * bool(
            unsaid or vain or odd
        )

    return ask
