"""The sweep on real photographs against a loop of a few lines that shares only the segmenter with it."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import distance_transform_edt
from test_sweep import sweep

SHARED = Path(os.environ.get("IS_BENCH_SHARED", Path(__file__).resolve().parents[3] / "shared"))
ROOT = SHARED / "data" / "grabcut"
FEW, MANY = (30, 1), (1 if os.environ.get("IS_BENCH_FULL") else 6, 2)
"""(every so many-th of fifty photographs, GrabCut's iterations at a click). All fifty take four minutes twice."""

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no GrabCut photographs at {ROOT} (set IS_BENCH_SHARED)")


def reference_clicks(segmenter, image: np.ndarray, truth: np.ndarray) -> list[float]:
    """IoU after each of up to 20 clicks by RITM's rule, float64 and plain; truth: 0, 128 = ignore, 255."""
    obj, background = truth > 128, truth < 128
    session, prediction, free, ious = (
        segmenter.start(segmenter.encode(image)),
        np.zeros_like(obj),
        np.ones_like(obj),
        [],
    )
    for _ in range(20):
        depths = []
        for error in (obj & ~prediction, background & prediction):
            # SciPy's float64 transform: OpenCV's precise one is an ulp off in places, which decides ties at random.
            depths.append(distance_transform_edt(np.pad(error, 1))[1:-1, 1:-1] * free)
        if max(d.max() for d in depths) == 0:
            break
        positive = depths[0].max() > depths[1].max()
        y, x = np.unravel_index(np.argmax(depths[0 if positive else 1]), obj.shape)
        free[y, x] = False
        prediction = session.click(Click(int(y), int(x), bool(positive))) > segmenter.threshold
        valid = obj | background
        ious.append((prediction & obj & valid).sum() / ((prediction | obj) & valid).sum())
    return ious


def Click(y, x, positive):  # any object with these three fields will do
    return type("AnyClick", (), {"y": y, "x": x, "positive": positive})()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("step", "iterations"), [FEW, pytest.param(*MANY, marks=pytest.mark.slow)])
def test_noc90_of_grabcut_is_that_of_an_independent_loop(step, iterations, tmp_path):
    from baselines.grabcut import OpenCVGrabCut

    names = sorted(p.stem for p in (ROOT / "data_GT").iterdir())[::step]
    for folder in ("data_GT", "boundary_GT"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for path in (ROOT / folder).iterdir():
            if path.stem in names:
                (tmp_path / "data" / folder / path.name).symlink_to(path)

    segmenter, expected = OpenCVGrabCut(iterations=iterations), {}
    for name in names:
        image = cv2.imread(str(next((ROOT / "data_GT").glob(f"{name}.*"))))[:, :, ::-1].copy()
        truth = cv2.imread(str(next((ROOT / "boundary_GT").glob(f"{name}.*"))), cv2.IMREAD_GRAYSCALE)
        expected[name] = reference_clicks(segmenter, image, truth)

    arguments = ["variant=opencv_grabcut", f"variant.iterations={iterations}"]
    arguments += ["dataset=grabcut", f"dataset.root={tmp_path / 'data'}"]
    sweep(*arguments, "measure=none", "report=false", "tracking.enabled=false", "out=out", cwd=tmp_path)

    rows = pd.read_parquet(tmp_path / "out" / "clicks.parquet")
    assert sorted(rows["sample"].unique()) == names
    for name, mine in rows.sort_values("click").groupby("sample"):
        np.testing.assert_array_equal(mine["iou"].to_numpy(), expected[name])
    noc90 = np.mean([next((i + 1 for i, v in enumerate(v) if v >= 0.9), 20) for v in expected.values()])
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").query("metric == 'noc90'")
    assert summary["value"].iloc[0] == noc90
    assert (summary["samples"] == len(names)).iloc[0]
