"""Help, near misses and wrong paths answer at once: nothing heavy is imported for them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "mlflow", "pandas", "transformers", "scipy", "matplotlib"}
"""Each costs half a second or more to import; a command that only prints a line needs none of them."""

PROGRAM = """
import json, runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
code = 0
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
print(json.dumps([code or 0, sorted(sys.modules)]))
"""

CASES = [
    pytest.param(["harness.sweep", "--help"], 0, "", id="sweep help"),
    pytest.param(["harness.train", "--help"], 0, "", id="train help"),
    pytest.param(["harness.doctor", "--help"], 0, "", id="doctor help"),
    pytest.param(["harness.sync", "--help"], 0, "", id="sync help"),
    pytest.param(["harness.convert", "--help"], 0, "", id="convert help"),
    pytest.param(["reports", "--help"], 0, "", id="reports help"),
    pytest.param(["harness.sweep"], 2, "nothing to run: give +ablation=NAME", id="no arguments"),
    pytest.param(["harness.sweep", "+ablation=dah"], 2, "Did you mean 'dha'?", id="near miss of a name"),
    pytest.param(["harness.sweep", "+ablation=dha", "dataset.limt=3"], 2, "dataset.limit", id="near miss of a key"),
    pytest.param(["harness.sweep", "+ablation=dha", "--show"], 0, "", id="show"),
    pytest.param(
        ["harness.sweep", "variant=geodesic", "dataset=folder", "dataset.root=/no/such"], 2, "no such folder", id="path"
    ),
]


@pytest.mark.parametrize(("arguments", "code", "text"), CASES)
def test_nothing_heavy_is_imported(arguments, code, text):
    run = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    ended, modules = json.loads(run.stdout.splitlines()[-1])
    assert ended == code, run.stderr
    assert text in run.stderr and "Traceback" not in run.stderr
    assert HEAVY.isdisjoint(modules), sorted(HEAVY.intersection(modules))


def test_a_dry_run_imports_no_model(tmp_path):
    """Its estimates come from stored speeds: torch alone would cost a second, building the variants forty."""
    arguments = ["harness.sweep", "+ablation=dha", "dry_run=true", f"out={tmp_path / 'out'}"]
    run = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    ended, modules = json.loads(run.stdout.splitlines()[-1])
    assert ended == 0, run.stderr
    assert {"torch", "mlflow", "transformers", "matplotlib"}.isdisjoint(modules)


def test_a_measuring_child_imports_what_it_measures_with_and_no_more():
    """Ten children of a sweep each pay for their imports; statistics and tables are made by the parent."""
    rooms = ("child", "contention", "devices", "replay", "stats", "workload")
    modules = ["sys", "inter2former.segmenter", *(f"harness.latency.{room}" for room in rooms)]
    program = f"import {', '.join(modules)}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (HEAVY - {"torch"}).isdisjoint(run.stdout.split())
