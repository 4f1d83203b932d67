"""One sweep over a data set whose name, folder and samples have odd names: every row, metric and table is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mask_kinds import object_mask, save_image, save_values

from harness.results.csv_tables import read_csv

USER_FOLDER = Path(__file__).parent / "user_folder"
STEMS = {
    os.fsdecode(b"caf\xe9"): "caf\\xe9",
    "two\nlines": "two\\nlines",
    "q\"uo'te,": "q\"uo'te,",
    "x" * 245: "x" * 245,
    "007": "007",
    "nan": "nan",
    "gone": "gone",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NA", "007"])
def test_nothing_is_lost_over_names(name: str, tmp_path: Path):
    root = tmp_path / os.fsdecode(b"d\xe9") / name
    for seed, stem in enumerate(STEMS):
        save_image(root / "images" / "new.png", seed, (48, 64))
        save_values(root / "masks" / "new.png", object_mask().repeat(4, 0).repeat(4, 1))
        os.rename(root / "images" / "new.png", root / "images" / f"{stem}.png")
        os.rename(root / "masks" / "new.png", root / "masks" / f"{stem}.png")
    (root / "masks" / "gone.png").unlink()
    out = tmp_path / "out" / "2024"
    done = subprocess.run(
        [sys.executable, "-m", "harness.sweep", "--config-dir", str(USER_FOLDER), "variant=disc", "measure=none",
         "dataset=folder", f"dataset.root={root}", f"out={out}"],
        env={**os.environ, "IS_BENCH_CACHE": str(tmp_path / "cache")},
        capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    told = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 1 and "Traceback" not in told and "no report" not in told, told
    samples = sorted(set(STEMS.values()) - {"gone"})
    rows = pd.read_parquet(out / "clicks.parquet")
    assert sorted(rows["sample"].unique()) == samples and set(rows["dataset"]) == {name}
    failures = read_csv(out / "failures.csv")
    assert failures["sample"].tolist() == ["gone"] and "no mask masks/gone.*" in failures["error"][0]
    summary = read_csv(out / "summary.csv")
    assert set(summary["dataset"]) == {name}
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (cell,) = [run for run in runs if run.data.tags.get("is.kind") == "cell"]
    expected = summary[(summary["metric"] == "noc90") & (summary["size_bin"] == "all")]["value"].item()
    assert cell.data.metrics[f"noc90/{name}"] == expected
    assert (out / "report" / "index.html").exists()
