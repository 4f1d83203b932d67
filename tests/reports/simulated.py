"""A simulated sweep for the tests of the reports: real click loops of simple segmenters over generated images.

Nothing here is a model under test. Images are discs, rings and bars of one colour over another with noise; the
segmenter classifies pixels by their nearest click in (colour, position); so IoU curves rise, differ between
variants, sometimes fall, and some samples never reach 90 %.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml

from harness.sample import Sample
from harness.segmenter import Click

BINS = ("<1%", "1-5%", "5-20%", ">20%")
TARGETS = (80, 85, 90, 95)
CLICKS = 20


class Shapes:
    """Generated images with exact masks."""

    def __init__(
        self,
        name: str = "shapes",
        count: int = 8,
        seed: int = 0,
        note: str = "simulated",
        limit: int | None = None,
    ):
        self.name, self.note, self.seed = name, note, seed
        self.names = [f"shape_{i:02d}" for i in range(count)][:limit]

    def __len__(self) -> int:
        return len(self.names)

    def digest(self) -> str:
        """Of the generator's parameters."""
        return f"{self.seed:04x}{len(self.names):04x}"

    def load(self, name: str) -> Sample:
        """A (120, 160) image."""
        index = self.names.index(name)
        rng = np.random.default_rng([self.seed, index])
        h, w = 120, 160
        mask = np.zeros((h, w), np.uint8)
        for _ in range(1 + index % 3):
            centre = (int(rng.integers(35, w - 35)), int(rng.integers(30, h - 30)))
            size = int(rng.integers(6, 34))
            if index % 4 == 3:
                cv2.line(mask, (10, centre[1]), (w - 10, h - centre[1]), 1, 3)
            elif index % 4 == 2:
                cv2.circle(mask, centre, size, 1, max(2, size // 3))
            else:
                cv2.ellipse(mask, centre, (size, max(4, size // 2)), float(rng.integers(180)), 0, 360, 1, -1)
        colours = rng.uniform(60, 200, (2, 3))
        image = colours[mask] + rng.normal(0, 22, (h, w, 3)) + np.linspace(-25, 25, w)[None, :, None]
        return Sample(name, np.clip(image, 0, 255).astype(np.uint8), mask)


class NearestClick:
    """Nearest click in colour and position decides."""

    threshold = 0.0
    weights_status = "no weights"
    weights_digest = ""
    parameters = 0

    def __init__(self, colour: float = 1.0, blur: int = 5, status: str = "no weights"):
        self.colour, self.blur, self.weights_status = colour, blur, status
        self.encoder_key = f"nearest-{colour}-{blur}"

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Features (H, W, 5)."""
        h, w = image.shape[:2]
        smooth = cv2.GaussianBlur(image, (self.blur, self.blur), 0).astype(np.float32) / 64 * self.colour
        y, x = np.mgrid[:h, :w].astype(np.float32) / 16
        return np.dstack([smooth, y, x])

    def start(self, embedding: np.ndarray) -> _Session:
        return _Session(embedding)


class _Session:
    def __init__(self, features: np.ndarray):
        self._features = features
        far = np.full(features.shape[:2], 2.5, np.float32)
        self._nearest = {True: far + 0.5, False: far}

    def click(self, click: Click | None) -> np.ndarray:
        if click is not None:
            distance = np.sqrt(((self._features - self._features[click.y, click.x]) ** 2).sum(axis=2))
            self._nearest[click.positive] = np.minimum(self._nearest[click.positive], distance)
        return self._nearest[False] - self._nearest[True]


def episode(segmenter: NearestClick, sample: Sample) -> list[dict[str, Any]]:
    """Clicks in the middle of the largest error, as every annotator does."""
    session = segmenter.start(segmenter.encode(sample.image))
    prediction = np.zeros(sample.mask.shape, bool)
    truth = sample.mask == 1
    rows = []
    for index in range(1, CLICKS + 1):
        depth = [
            cv2.distanceTransform(np.pad(e.astype(np.uint8), 1), cv2.DIST_L2, 0)[1:-1, 1:-1]
            for e in (truth & ~prediction, prediction & ~truth)
        ]
        positive = bool(depth[0].max() > depth[1].max())
        chosen = depth[0] if positive else depth[1]
        click = None
        if chosen.max() > 0:
            y, x = np.unravel_index(int(chosen.argmax()), chosen.shape)
            click = Click(int(y), int(x), positive)
        prediction = session.click(click) > 0
        iou = float((prediction & truth).sum() / max(1, (prediction | truth).sum()))
        place = (-1, -1, False) if click is None else click
        rows.append({"click": index, "y": place[0], "x": place[1], "positive": place[2], "iou": iou, "biou": iou**1.5})
    return rows


VARIANTS: dict[str, dict[str, Any]] = {
    "near": {"_target_": "simulated.NearestClick", "colour": 1.0},
    "colourful": {"_target_": "simulated.NearestClick", "colour": 2.2},
    "random": {"_target_": "simulated.NearestClick", "colour": 0.15, "blur": 11, "status": "untrained"},
}


def clicks_frame(variants: Sequence[str], datasets: Sequence[str], count: int, seed: int = 0) -> pd.DataFrame:
    """clicks.parquet of the simulated sweep."""
    rng = np.random.default_rng(seed)
    rows = []
    for d, dataset in enumerate(datasets):
        shapes = Shapes(dataset, count, seed=seed + 10 * d)
        for name in shapes.names:
            sample = shapes.load(name)
            share = sample.object_share
            for variant in variants:
                options = {k: v for k, v in VARIANTS[variant].items() if k != "_target_"}
                segmenter = NearestClick(**options)
                for line in episode(segmenter, sample):
                    rows.append(
                        {
                            "variant": variant,
                            "dataset": dataset,
                            "sample": name,
                            **line,
                            "encode_ms": 5 + rng.random(),
                            "online_ms": 9 * share**0.3 + rng.random(),
                            "simulate_ms": 1 + rng.random(),
                            "object_share": share,
                            "size_bin": "<1%"
                            if share < 0.01
                            else "1-5%"
                            if share < 0.05
                            else "5-20%"
                            if share < 0.2
                            else ">20%",
                            "height": 120,
                            "width": 160,
                            "error": "",
                            "protocol": "ritm",
                            "weights_digest": variant.encode().hex()[:8],
                            "parameters": 0,
                            "weights_status": segmenter.weights_status,
                            "dataset_note": shapes.note,
                            "cell": f"{variant}-{dataset}",
                            "protocol_version": 1,
                            "metrics_version": 1,
                        }
                    )
    return pd.DataFrame(rows)


def latency_frame(variants: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """latency.csv with times of a made-up cost law."""
    rng = np.random.default_rng(seed)
    rows = []
    for v, variant in enumerate(variants):
        for threads in (1, 2, 4):
            for resolution in (256, 512, 1024):
                for kind, size, base in [
                    ("encode", "all", 90.0),
                    ("first", "all", 40.0),
                    ("later", "all", 20.0),
                    ("online_spc", "all", 21.0),
                    ("spc20", "all", 25.5),
                    *(("first", b, 40.0) for b in BINS),
                    *(("later", b, 12.0 + 6 * i) for i, b in enumerate(BINS)),
                ]:
                    ms = base * (resolution / 512) ** 2 * (1 + 0.4 * v) / threads**0.8 * rng.uniform(0.95, 1.05)
                    ratio = 1 + 0.4 * v
                    rows.append(
                        {
                            "variant": variant,
                            "threads": threads,
                            "resolution": resolution,
                            "kind": kind,
                            "size_bin": size,
                            "median_ms": ms,
                            "low_ms": ms * 0.97,
                            "high_ms": ms * 1.04,
                            "p90_ms": ms * 1.1,
                            "repeats": 15,
                            "base": variants[0],
                            "ratio": ratio,
                            "ratio_low": ratio * 0.98,
                            "ratio_high": ratio * 1.02,
                            "peak_rss_mb": 300 + 40 * v,
                            "weights_status": VARIANTS[variant].get("status", "no weights"),
                            "contended": "",
                            "error": "",
                            "timing_version": 2,
                        }
                    )
    return pd.DataFrame(rows)


_PARTS = {
    "encode": {"encoder": 9.0, "edges": 1.2},
    "first": {"dpe": 0.4, "attention": 1.5, "experts": 0.9, "dlu": 0.8},
    "later": {"dpe": 0.05, "attention": 0.5, "experts": 0.4, "dlu": 0.2},
}


def flops_frame(variants: Sequence[str]) -> pd.DataFrame:
    """flops.csv with made-up parts."""
    rows = []
    for v, variant in enumerate(variants):
        for kind, parts in _PARTS.items():
            for part, gmacs in {**parts, "total": sum(parts.values())}.items():
                amount = gmacs * (1 + 0.3 * v)
                rows.append(
                    {
                        "variant": variant,
                        "resolution": 1024,
                        "part": part,
                        "kind": kind,
                        "size_bin": "all",
                        "gmacs": amount,
                        "gflops": 2.05 * amount,
                        "mbytes": 60 * amount**0.5,
                        "error": "",
                    }
                )
    return pd.DataFrame(rows)


def parts_frame(variants: Sequence[str]) -> pd.DataFrame:
    """latency_parts.csv with made-up times."""
    rows = []
    for v, variant in enumerate(variants):
        for kind, parts in _PARTS.items():
            for part, gmacs in parts.items():
                rows.append(
                    {
                        "variant": variant,
                        "threads": 1,
                        "resolution": 1024,
                        "part": part,
                        "kind": kind,
                        "size_bin": "all",
                        "median_ms": 35 * gmacs * (1 + 0.3 * v),
                        "roofline_ms": 20 * gmacs,
                    }
                )
    return pd.DataFrame(rows)


def timings_frame(variants: Sequence[str]) -> pd.DataFrame:
    """latency_samples.parquet: times that grow as the square root of the share of boundary tokens."""
    rows = []
    for v, variant in enumerate(variants):
        for image in range(4):
            for click in range(3):
                share = np.nan if click == 0 else 0.9 if click == 1 else 0.02 * (1 + image) * click
                ms = 90.0 if click == 0 else 50.0 * (1 + 0.4 * v) * share**0.5
                rows.append(
                    {
                        "variant": variant,
                        "threads": 1,
                        "resolution": 1024,
                        "round": 1,
                        "image": image,
                        "size_bin": BINS[image],
                        "click": click,
                        "ms": ms,
                        "boundary_share": share,
                    }
                )
    return pd.DataFrame(rows)


def run_folder(
    out: Path,
    variants: Sequence[str] = tuple(VARIANTS),
    datasets: Sequence[str] = ("shapes", "wires"),
    count: int = 8,
    seed: int = 0,
) -> Path:
    """Write the whole folder of a finished sweep."""
    from harness.results import tables

    out.mkdir(parents=True, exist_ok=True)
    clicks = clicks_frame(variants, datasets, count, seed)
    clicks.to_parquet(out / "clicks.parquet", index=False)
    protocol = {"name": "ritm", "clicks": CLICKS, "stop_iou": None, "targets": [t / 100 for t in TARGETS]}
    tables.summary(clicks, protocol).to_csv(out / "summary.csv", index=False)
    tables.compare(clicks, variants[0], protocol, "noc90").to_csv(out / "compare.csv", index=False)
    latency_frame(variants, seed).to_csv(out / "latency.csv", index=False)
    flops_frame(variants).to_csv(out / "flops.csv", index=False)
    timings_frame(variants).to_parquet(out / "latency_samples.parquet", index=False)
    parts_frame(variants).to_csv(out / "latency_parts.csv", index=False)
    pd.DataFrame(columns=["stage", "variant", "dataset", "sample", "error"]).to_csv(out / "failures.csv", index=False)
    machine = {
        "cpu_model": "simulated CPU",
        "cpus": 4,
        "commit": f"{seed:040x}",
        "packages": {"numpy": np.__version__},
        "peaks": {"1": {"fp32_gflops": 120.0, "bf16_gflops": 240.0, "copy_gb_per_s": 11.0}},
    }
    (out / "machine.json").write_text(json.dumps(machine))
    config = {
        "command": "python -m harness.sweep +ablation=simulated",
        "ablation": {"name": "simulated", "title": "Simulated segmenters", "base": variants[0]},
        "variants": {v: VARIANTS[v] for v in variants},
        "datasets": {
            d: {
                "config": {"_target_": "simulated.Shapes", "name": d, "count": count, "seed": seed + 10 * i},
                "digest": f"{i:08x}",
                "note": "simulated",
                "samples": count,
            }
            for i, d in enumerate(datasets)
        },
        "protocol": protocol,
        "resolved": {},
    }
    (out / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return out
