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


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real sweep: geodesic distances, two settings, on six composed scenes of 96 px."""
    out = tmp_path_factory.mktemp("small") / "run"
    from harness.sweep import run as sweep

    code = sweep(
        ["variant=geodesic", "dataset.count=6", "dataset.longest=96", "protocol.clicks=6", "measure=none",
         "report=false", "tracking.enabled=false", f"out={out}"]
    )  # fmt: skip
    assert code == 0
    return out


@pytest.fixture(scope="session")
def repository(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds it."""
    from reports.repository.submit import submit

    to = tmp_path_factory.mktemp("repository")
    submit(small_run, to)
    return to
