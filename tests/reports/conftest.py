"""One simulated sweep for all tests of the reports."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# Child processes (the command line) build the simulated segmenters from config.yaml too.
os.environ["PYTHONPATH"] = os.pathsep.join(p for p in (str(HERE), os.environ.get("PYTHONPATH", "")) if p)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished simulated sweep: three variants, two data sets, six samples each."""
    from simulated import run_folder

    return run_folder(tmp_path_factory.mktemp("runs") / "simulated", count=6)


@pytest.fixture(scope="session")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole report of that sweep."""
    import reports
    from harness.planning.disk import Trust

    return reports.build(folder, tmp_path_factory.mktemp("report"), trust=Trust(HERE))
