"""Every family clicks through 10 GrabCut images with random weights; `benchmarks/every_system.py` does it in full."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import cards
from harness.clicking.loop import Truth, encode, run_episode
from harness.datasets.loader import load
from harness.planning.config import Config, build, plain
from harness.sample import Sample

ROOT = Path(__file__).resolve().parents[2]
GRABCUT = Path(os.environ.get("IS_BENCH_SHARED") or ROOT.parent / "shared") / "data" / "grabcut"
CLICKS = 2
# A small form of each family; sizes at which patches and windows still divide.
TINY = {
    "ritm_hrnet18s": {"target_size": 64, "min_crop": 40},
    "simpleclick_vit_xtiny": {"size": 224},
    "focalclick_segformer_b0_s1": {"size": 64},
    "focalclick_hrnet18s_s2": {"size": 64},
    "mobilesam": {"size": 128},
    "efficientsam_ti": {"size": 64},
    "slimsam_77": {"size": 128},
    "sam2_1_hiera_tiny": {"size": 128},
    "segnext_sax1": {"size": 224},
    "hrsam": {"size": 64},
    "inter2former_lite": {"weights": None, "target_size": 128},
    "dense_lite": {"weights": None, "target_size": 128},
    "sam_lite": {"weights": None, "target_size": 128},
    "opencv_grabcut": {"size": 96},
    "geodesic": {"size": 96},
}


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    if not GRABCUT.is_dir():
        pytest.skip(f"no GrabCut at {GRABCUT} (set IS_BENCH_SHARED)")
    data = build(plain(Config().load("dataset", "grabcut", {"root": str(GRABCUT), "limit": 10})), "grabcut")
    samples = [load(data, name) for name in data.names]
    assert len(samples) == 10
    return [Truth(sample) for sample in samples if isinstance(sample, Sample)]


LONG = ("ritm_hrnet18s", "segnext_sax1", "hrsam")
"""RITM takes the first click at the image's own size; the other two have no small form."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in TINY])
def test_ten_photographs_without_a_failed_click(name: str, truths: list[Truth]) -> None:
    """Every click gets scores of the image's size that are numbers, and answers a place within the image."""
    protocol = build({**plain(Config().load("protocol", "ritm")), "clicks": CLICKS}, "protocol")
    segmenter = build({**cards.load()[name].settings, **TINY[name]}, name)
    assert len(truths) == 10
    for truth in truths:
        embedding, encode_ms = encode(segmenter, truth.sample.image)
        clicks = run_episode(
            segmenter, embedding, encode_ms, truth, protocol.annotator.start(truth.sample), protocol
        ).clicks
        assert len(clicks) == CLICKS and all(np.isfinite(click.iou) and 0 <= click.iou <= 1 for click in clicks)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["focalclick_segformer_b0_s1", "mobilesam", "sam2_1_hiera_tiny", "geodesic"])
def test_the_whole_command_with_processes_a_latency_child_and_the_count(name: str, tmp_path: Path) -> None:
    if not GRABCUT.is_dir():
        pytest.skip(f"no GrabCut at {GRABCUT} (set IS_BENCH_SHARED)")
    sys.path.insert(0, str(ROOT))
    from benchmarks import every_system

    assert every_system.main([f"root={GRABCUT}", f"out={tmp_path}", f"names={name}"]) == 0
    (outcome,) = pd.read_json(tmp_path / "every_system.jsonl", lines=True).to_dict("records")
    assert outcome["variant"] == name and not outcome["fault"] and outcome["peak_mb"] > 100
    log = next(tmp_path.glob("*/console.log"))
    log.unlink()
    assert every_system.main([f"root={GRABCUT}", f"out={tmp_path}", f"names={name}"]) == 0
    assert not log.exists()  # nothing was done again
