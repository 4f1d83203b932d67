"""Tables, plots and pages from a finished sweep; computes nothing new about models."""

from __future__ import annotations

import harness  # noqa: F401  (first: Ctrl-C may come while the rest is imported)

# isort: split
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.planning.disk import Trust

from harness import surroundings

surroundings.usable_backend()  # before anything here imports matplotlib


def build(run: str | Path, out: str | Path | None = None, trust: Trust | None = None) -> Path:
    """Write the report of a sweep's folder under `out` (default `run/report`) and return the path of its page.

    Args:
        trust: whose classes may be built to replay episodes; None: this project's only.

    Raises:
        UserError: no sweep there, or the report's folder cannot be written.
    """
    from reports.pages.assemble import build as assemble

    return assemble(run, out, trust=trust)
